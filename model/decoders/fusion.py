"""The decoder of the CVPR 2018 network: residual conv blocks, multi-scale fusion, adaptive output (Fig. 4).

Each encoder stage passes a transitional 3x3 convolution to the decoder's width and a residual conv block. From the
coarsest stage on, the sum of a stage and the upsampled result so far passes another residual block and is doubled in
size. The output is two 3x3 convolutions without a non-linearity between them and a last doubling. MiDaS keeps this
fusion and puts its last doubling before the second of three output convolutions.

    decoder = FusionDecoder(encoder.channels, channels=256)
    inverse_depth = decoder(encoder(image))
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from model.decoders.layers import double, gaussian_conv

__all__ = ["FusionDecoder", "ResidualConvBlock"]

MIDAS_HEAD_CHANNELS = 32


class ResidualConvBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), Fig. 4c.

    Args:
        channels: Width.
        rectified: Add relu(x) instead of x. Published code does this (CVPR 2020, MiDaS): its in-place ReLU also
            changes the identity path.
        init_std: See `gaussian_conv`.
    """

    def __init__(self, channels: int, *, rectified: bool = False, init_std: float | None = None) -> None:
        super().__init__()
        self.rectified = rectified
        self.conv1 = gaussian_conv(channels, channels, init_std=init_std)
        self.conv2 = gaussian_conv(channels, channels, init_std=init_std)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        active = functional.relu(features)
        identity = active if self.rectified else features
        branch: Tensor = self.conv2(functional.relu(self.conv1(active)))
        return identity + branch


class FusionDecoder(nn.Module):
    """Four encoder maps to one map of relative inverse depth.

    Args:
        in_channels: Channels of the encoder's stages, finest first.
        channels: Decoder width; 256 in the papers, whose first output convolution has half of it.
        rectified: See `ResidualConvBlock`.
        init_std: See `gaussian_conv`.
        head: `redweb` as in the CVPR 2018 paper. `midas` as in the code of MiDaS v2 with its deeper head: conv 3x3,
            doubling, conv 3x3 to 32 channels, ReLU, conv 1x1; there the transitional convolutions have no bias and
            the fusion doubles with aligned corners (the head does not).
        output_relu: `midas`: end with a ReLU.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int,
        rectified: bool = False,
        init_std: float | None = None,
        head: Literal["redweb", "midas"] = "redweb",
        output_relu: bool = False,
    ) -> None:
        super().__init__()
        midas = head == "midas"
        self.align_corners = midas
        self.transitions = nn.ModuleList(
            gaussian_conv(c, channels, bias=not midas, init_std=init_std) for c in in_channels
        )
        self.lateral = nn.ModuleList(
            ResidualConvBlock(channels, rectified=rectified, init_std=init_std) for _ in in_channels
        )
        # The coarsest stage has nothing to be fused with, so it needs no second block.
        self.fusion = nn.ModuleList(
            ResidualConvBlock(channels, rectified=rectified, init_std=init_std) for _ in in_channels[:-1]
        )
        self.output = _midas_head(channels, init_std, output_relu) if midas else _redweb_head(channels, init_std)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Maps at strides 4, 8, 16, 32 of an image (H, W) -> (B, H, W)."""
        laterals = [
            block(transition(stage))
            for stage, transition, block in zip(stages, self.transitions, self.lateral, strict=True)
        ]
        merged = double(laterals.pop(), align_corners=self.align_corners)
        for lateral, block in zip(reversed(laterals), reversed(self.fusion), strict=True):
            merged = double(block(merged + lateral), align_corners=self.align_corners)
        inverse_depth: Tensor = self.output(merged)
        return inverse_depth.squeeze(1)


def _redweb_head(channels: int, init_std: float | None) -> nn.Sequential:
    return nn.Sequential(
        gaussian_conv(channels, channels // 2, init_std=init_std),
        gaussian_conv(channels // 2, 1, init_std=init_std),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
    )


def _midas_head(channels: int, init_std: float | None, output_relu: bool) -> nn.Sequential:
    return nn.Sequential(
        gaussian_conv(channels, channels // 2, init_std=init_std),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        gaussian_conv(channels // 2, MIDAS_HEAD_CHANNELS, init_std=init_std),
        nn.ReLU(inplace=True),
        gaussian_conv(MIDAS_HEAD_CHANNELS, 1, kernel_size=1, init_std=init_std),
        nn.ReLU() if output_relu else nn.Identity(),
    )
