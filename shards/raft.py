"""RAFT (Teed and Deng, ECCV 2020) as torchvision ships it, with weights from a local file.

Nothing is downloaded: give the file that torchvision's documentation names for `raft_large` or `raft_small`
(`shards.match.raft_weights`). Which of the two it is, its tensors tell.

    forward, backward = raft_flow(left, right, "raft_small.pth")
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from shards.errors import ConfigError
from shards.storage import home_path

__all__ = ["raft_file", "raft_flow"]

Floats = NDArray[np.float32]
_STRIDE = 8
_MIN_SIDE_PX = 128


def raft_flow(left: NDArray[np.uint8], right: NDArray[np.uint8], weights: str) -> tuple[Floats, Floats]:
    """Flow from `left` to `right` and back, each float32 (H, W, 2).

    Args:
        left: uint8 (H, W, 3).
        right: uint8 (H, W, 3).
        weights: A .pth or .safetensors file.

    Raises:
        ConfigError: There is no such file, or it holds no weights of RAFT.
    """
    network = _network(weights)
    device = next(network.parameters()).device
    pictures = torch.from_numpy(np.stack([left, right])).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
    padded, (top, start) = _padded(pictures)
    with torch.inference_mode():
        flow: Tensor = network(padded, padded.flip(0))[-1]
    height, width = left.shape[:2]
    flow = flow[:, :, top : top + height, start : start + width].permute(0, 2, 3, 1)
    forward, backward = (np.ascontiguousarray(one) for one in flow.float().cpu().numpy())
    return forward, backward


def _padded(pictures: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Repeat the border until the sides are multiples of the stride; and where the picture begins."""
    extra = [max(-(-side // _STRIDE) * _STRIDE, _MIN_SIDE_PX) - side for side in pictures.shape[-2:]]
    top, start = extra[0] // 2, extra[1] // 2
    margins = (start, extra[1] - start, top, extra[0] - top)
    return F.pad(pictures, margins, mode="replicate"), (top, start)


def raft_file(weights: str) -> Path:
    """The file of the weights.

    Raises:
        ConfigError: There is none.
    """
    path = home_path(weights)
    if not path.is_file():
        raise ConfigError(f"shards.match.raft_weights: there is no file {path}")
    return path


@lru_cache(maxsize=1)
def _network(weights: str) -> nn.Module:
    from torchvision.models.optical_flow import raft_large, raft_small

    path = raft_file(weights)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        # The mask predictor, which upsamples, exists in the large network only.
        build = raft_large if any(name.startswith("mask_predictor.") for name in state) else raft_small
        network: nn.Module = build(weights=None)
        network.load_state_dict(state)
    except Exception as error:  # what is no such file fails in as many ways as there are formats
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"shards.match.raft_weights: {path} holds no weights of torchvision's raft_large or raft_small ({reason})"
        ) from None
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
