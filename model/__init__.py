"""The network, its losses and its weights: pure torch and safetensors.

    from model import DepthNet
    net = DepthNet.from_pretrained("runs/webstereo")
    inverse_depth = net(image)  # (B, 3, H, W) in 0..1 -> (B, H, W), larger = nearer

`DepthNet` is imported when it is first asked for, so that reading a config does not wait for torch.
"""

from typing import TYPE_CHECKING, Any

from model.config import LossConfig, ModelConfig

if TYPE_CHECKING:
    from model.depthnet import DepthNet

__all__ = ["DepthNet", "LossConfig", "ModelConfig"]


def __getattr__(name: str) -> Any:
    if name == "DepthNet":
        from model.depthnet import DepthNet

        return DepthNet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
