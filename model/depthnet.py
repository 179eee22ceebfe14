"""DepthNet: one photograph in, relative inverse depth out.

net = DepthNet.from_config(ModelConfig(encoder="resnet18", decoder_channels=64))
net.save_pretrained("out", size_hw=(128, 160)); net = DepthNet.from_pretrained("out")
"""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from model import hub, imagenet, weights
from model.config import ModelConfig
from model.decoders import build_decoder
from model.encoders import build_encoder

__all__ = ["DepthNet"]

STRIDE = 32
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DRAWS = {Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_}
"""What random weights are drawn by."""


class _Undrawn(TorchFunctionMode):
    """Inside, nothing is drawn: what would be is zero, and the state of the generator stays."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in DRAWS:
            # Zeros, as truncated normals are drawn again and again until all are within their bounds.
            return (args[0] if args else kwargs["tensor"]).detach().zero_()
        return func(*args, **kwargs)


class DepthNet(nn.Module):
    """The network of Xian et al., CVPR 2018 ("ReDWeb"): encoder, multi-scale fusion, adaptive output.

    Attributes:
        config: What it was built from.
        size_hw: Height and width of the pictures it was trained on, which prediction follows.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """A network with random weights, the encoder's included; see `from_config`."""
        super().__init__()
        self.config = config
        self.size_hw: tuple[int, int] = (384, 384)
        self.encoder = build_encoder(config)
        self.decoder = build_decoder(config, self.encoder.channels)
        self.register_buffer("image_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("image_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        if config.freeze_bn:
            for norm in self.encoder.batch_norms():
                norm.requires_grad_(False)

    @classmethod
    def from_config(cls, config: ModelConfig) -> Self:
        """A new network whose encoder holds the weights that the config names.

        Raises:
            ValueError: The weights cannot be read, or belong to another encoder.
        """
        net = cls(config)
        if config.encoder_weights != "none":
            imagenet.load_encoder(net.encoder, config)
        return net

    @classmethod
    def unfilled(cls, config: ModelConfig) -> Self:
        """A network that is about to be filled: no time goes into random weights, which are zero.

        Where the encoder's weights once came from no longer matters, so its config names none.
        """
        with _Undrawn():
            return cls(config.model_copy(update={"encoder_weights": "none"}))

    @classmethod
    def from_pretrained(cls, origin: str | Path) -> Self:
        """A saved network, in evaluation mode.

        Args:
            origin: The folder of `model.safetensors` and `config.json`, or a repository of the Hugging Face Hub that
                holds them, `owner/name` or `owner/name@revision`, where no such folder exists.

        Raises:
            ValueError: A file is missing, malformed, or does not fit the other, or the repository cannot be had.
        """
        folder = hub.network_folder(origin)
        config, size_hw = weights.read_config(folder)
        net = cls.unfilled(config)
        net.size_hw = size_hw
        weights.load_network(net, folder)
        return net.eval()

    def save_pretrained(self, folder: str | Path, *, size_hw: tuple[int, int] | None = None) -> None:
        """Write `model.safetensors` and `config.json` to `folder`; `size_hw` becomes the network's own if given."""
        self.size_hw = size_hw or self.size_hw
        weights.save_network(self, Path(folder), self.config, self.size_hw)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters of the ImageNet backbone."""
        return list(self.encoder.parameters())

    def decoder_parameters(self) -> list[nn.Parameter]:
        """All other parameters."""
        return list(self.decoder.parameters())

    def train(self, mode: bool = True) -> Self:
        """Switch to training, except for frozen batch norms."""
        super().train(mode)
        if self.config.freeze_bn:
            for norm in self.encoder.batch_norms():
                norm.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Predict relative inverse depth.

        Args:
            image: (B, 3, H, W) RGB, uint8 or float in 0..1, any size.

        Returns:
            (B, H, W) float, larger = nearer, defined up to a monotone map.

        Raises:
            ValueError: The shape is another one.
        """
        if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
            raise ValueError(f"image must be (B, 3, H, W), got {tuple(image.shape)}")
        scale = 255.0 if image.dtype == torch.uint8 else 1.0
        normalised = (image.to(self.image_mean.dtype) / scale - self.image_mean) / self.image_std
        height, width = image.shape[-2:]
        # Rounding up rather than `-height % STRIDE`: exporters simplify it faster where sizes are symbols.
        bottom, right = ((side + STRIDE - 1) // STRIDE * STRIDE - side for side in (height, width))
        if bottom or right:
            normalised = functional.pad(normalised, (0, right, 0, bottom), mode="replicate")
        inverse_depth: Tensor = self.decoder(self.encoder(normalised))
        return inverse_depth[:, :height, :width]
