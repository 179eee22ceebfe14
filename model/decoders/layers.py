"""What both decoders are made of: convolutions with Gaussian weights, and doubling of a map.

conv = gaussian_conv(256, 128, init_std=0.01)
larger = double(conv(features), align_corners=True)
"""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["double", "gaussian_conv"]


def gaussian_conv(
    in_channels: int, out_channels: int, *, kernel_size: int = 3, bias: bool = True, init_std: float | None = None
) -> nn.Conv2d:
    """A size-keeping convolution with Gaussian weights and zero bias.

    Args:
        in_channels: Channels of its input.
        out_channels: Channels of its output.
        kernel_size: Side of the kernel, odd.
        bias: Add one number a channel.
        init_std: Standard deviation of the weights. The CVPR 2018 paper draws "random Gaussian" weights without
            saying one; None is 1 / sqrt(fan_in), which keeps the signal's size at any width.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
    std = (kernel_size**2 * in_channels) ** -0.5 if init_std is None else init_std
    nn.init.normal_(conv.weight, std=std)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def double(features: Tensor, *, align_corners: bool = False) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W), bilinear.

    Pixel centres stay in place; with `align_corners` the corner pixels' centres coincide instead, as in the published
    code of CVPR 2020 and MiDaS, so that the map is stretched by (2H - 1) / (H - 1).
    """
    return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=align_corners)
