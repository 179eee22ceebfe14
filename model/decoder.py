"""The decoder of the CVPR 2018 network: residual conv blocks, multi-scale fusion, adaptive output (Fig. 4).

Each encoder stage passes a transitional 3x3 convolution to the decoder's width and a residual conv block. From the
coarsest stage on, the sum of a stage and the upsampled result so far passes another residual block and is doubled in
size. The adaptive output is two 3x3 convolutions without a non-linearity between them and a last doubling.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FusionDecoder", "ResidualConvBlock"]


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A size-keeping 3x3 convolution with Gaussian weights and zero bias.

    The paper draws "random Gaussian" weights without a standard deviation; 1 / sqrt(fan_in) keeps the signal's size
    at any decoder width.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
    nn.init.normal_(conv.weight, std=(9 * in_channels) ** -0.5)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # the bias is on
    return conv


def double(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W), bilinear with pixel centres kept in place."""
    return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


class ResidualConvBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), Fig. 4c.

    Args:
        channels: Width.
        rectified: Add relu(x) instead of x. Published re-implementations do this without meaning to: their in-place
            ReLU also changes the identity path.
    """

    def __init__(self, channels: int, *, rectified: bool = False) -> None:
        super().__init__()
        self.rectified = rectified
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

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
        channels: Decoder width; 256 in the paper, whose output convolution has half of it.
        rectified: See `ResidualConvBlock`.
    """

    def __init__(self, in_channels: Sequence[int], *, channels: int, rectified: bool = False) -> None:
        super().__init__()
        self.transitions = nn.ModuleList(conv3x3(c, channels) for c in in_channels)
        self.lateral = nn.ModuleList(ResidualConvBlock(channels, rectified=rectified) for _ in in_channels)
        # The coarsest stage has nothing to be fused with, so it needs no second block.
        self.fusion = nn.ModuleList(ResidualConvBlock(channels, rectified=rectified) for _ in in_channels[:-1])
        self.output = nn.Sequential(conv3x3(channels, channels // 2), conv3x3(channels // 2, 1))

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Maps at strides 4, 8, 16, 32 of an image (H, W) -> (B, H, W)."""
        laterals = [
            block(transition(stage))
            for stage, transition, block in zip(stages, self.transitions, self.lateral, strict=True)
        ]
        merged = double(laterals.pop())
        for lateral, block in zip(reversed(laterals), reversed(self.fusion), strict=True):
            merged = double(block(merged + lateral))
        return double(self.output(merged)).squeeze(1)
