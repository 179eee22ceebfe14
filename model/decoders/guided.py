"""The decoder of the CVPR 2020 network (structure-guided ranking), as its official code computes it.

An FTB brings a map to the decoder's width by a convolution, adds a residual branch with batch normalisation and
rectifies. An FFM adds the FTB of an encoder stage to the result so far and passes the sum through a second FTB and a
doubling. The coarsest stage passes an FTB twice as wide, a convolution and a doubling. The AO ends with two
convolutions and a doubling. Every doubling aligns corners. Modules bear the official names, so that the published
weights fit as they are.

    decoder = GuidedDecoder(encoder.channels, channels=256)
    inverse_depth = decoder(encoder(image))
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from model.decoders.layers import double, gaussian_conv

__all__ = ["FTB", "GuidedDecoder"]


class FTB(nn.Module):
    """relu(y + F(y)) with y = conv(x) and F = conv, batch norm, ReLU, conv after a ReLU.

    Args:
        in_channels: Channels of its input.
        channels: Channels of all else.
        rectified: Add F(y) to relu(y) instead of y, as the official code does: the in-place ReLU before F also
            changes the identity path.
        init_std: See `gaussian_conv`.
    """

    def __init__(
        self, in_channels: int, channels: int, *, rectified: bool = True, init_std: float | None = None
    ) -> None:
        super().__init__()
        self.rectified = rectified
        self.conv1 = gaussian_conv(in_channels, channels, init_std=init_std)
        # In the official numbering 0 is the ReLU before, which the identity path shares here.
        branch: list[tuple[str, nn.Module]] = [
            ("1", gaussian_conv(channels, channels, init_std=init_std)),
            ("2", nn.BatchNorm2d(channels)),
            ("3", nn.ReLU(inplace=True)),
            ("4", gaussian_conv(channels, channels, init_std=init_std)),
        ]
        self.conv_branch = nn.Sequential(OrderedDict(branch))

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H, W)."""
        features = self.conv1(features)
        active = functional.relu(features)
        identity = active if self.rectified else features
        return functional.relu(identity + self.conv_branch(active))


class FFM(nn.Module):
    """Fuses a stage of the encoder into the result of the coarser ones and doubles it; arguments as of `FTB`."""

    def __init__(self, in_channels: int, channels: int, *, rectified: bool, init_std: float | None) -> None:
        super().__init__()
        self.ftb1 = FTB(in_channels, channels, rectified=rectified, init_std=init_std)
        self.ftb2 = FTB(channels, channels, rectified=rectified, init_std=init_std)

    def forward(self, stage: Tensor, coarser: Tensor) -> Tensor:
        """(B, in_channels, H, W) and (B, channels, H, W) -> (B, channels, 2H, 2W)."""
        return double(self.ftb2(self.ftb1(stage) + coarser), align_corners=True)


class AO(nn.Module):
    """(B, channels, H, W) -> (B, 1, 2H, 2W)."""

    def __init__(self, channels: int, *, init_std: float | None) -> None:
        super().__init__()
        self.adapt_conv = nn.Sequential(
            gaussian_conv(channels, channels // 2, init_std=init_std),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(inplace=True),
            gaussian_conv(channels // 2, 1, init_std=init_std),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        output: Tensor = self.adapt_conv(features)
        return output


class GuidedDecoder(nn.Module):
    """Four encoder maps to one map of relative inverse depth.

    Args:
        in_channels: Channels of the encoder's stages, finest first.
        channels: Decoder width; 256 in the official code. The coarsest FTB has twice and the AO half of it.
        rectified: See `FTB`.
        init_std: See `gaussian_conv`; 0.01 in the official code.
    """

    def __init__(
        self, in_channels: Sequence[int], *, channels: int, rectified: bool = True, init_std: float | None = None
    ) -> None:
        super().__init__()
        stage0, stage1, stage2, stage3 = in_channels
        self.conv = FTB(stage3, 2 * channels, rectified=rectified, init_std=init_std)
        self.conv1 = gaussian_conv(2 * channels, channels, init_std=init_std)
        self.ffm2 = FFM(stage2, channels, rectified=rectified, init_std=init_std)
        self.ffm1 = FFM(stage1, channels, rectified=rectified, init_std=init_std)
        self.ffm0 = FFM(stage0, channels, rectified=rectified, init_std=init_std)
        self.outconv = AO(channels, init_std=init_std)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Maps at strides 4, 8, 16, 32 of an image (H, W) -> (B, H, W)."""
        stage0, stage1, stage2, stage3 = stages
        features = double(self.conv1(self.conv(stage3)), align_corners=True)
        features = self.ffm2(stage2, features)
        features = self.ffm1(stage1, features)
        features = self.ffm0(stage0, features)
        inverse_depth: Tensor = self.outconv(features)
        return inverse_depth.squeeze(1)
