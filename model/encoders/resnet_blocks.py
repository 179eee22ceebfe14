"""The residual blocks of ResNet and ResNeXt under torchvision's parameter names.

    block = Bottleneck(256, 64, 1, None, groups=32, base_width=4)

Importing torchvision takes longer than loading most networks, so it is left to the encoders that are built from it.
What is registered here, and in which order, is as in torchvision: names, shapes and the draws of a seed agree.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

__all__ = ["BasicBlock", "Bottleneck", "convolve"]


def convolve(conv: nn.Module, norm: nn.Module, features: Tensor) -> Tensor:
    """A convolution without bias and its batch norm: (B, C, H, W) -> (B, C', H', W').

    In training with fixed statistics (`freeze_bn`) the norm is a factor and an offset of each channel, which go into
    the weights: one map less to compute, to keep and to send a gradient through. The result differs by rounding only.
    """
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    if norm.training or norm.running_mean is None or norm.running_var is None or not torch.is_grad_enabled():
        normed: Tensor = norm(conv(features))
        return normed
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight, offset = conv.weight * factor.view(-1, 1, 1, 1), norm.bias - norm.running_mean * factor
    return conv2d(features, weight, offset, conv.stride, conv.padding, conv.dilation, conv.groups)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (He et al., CVPR 2016).

    Args:
        in_channels: Of the map that comes in.
        planes: Of the map that goes out.
        stride: Of the first convolution.
        downsample: Convolution and batch norm of the identity path where size or channels change.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, planes: int, stride: int = 1, downsample: nn.Sequential | None = None, **_: int
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, planes, H / stride, W / stride)."""
        out = self.relu(convolve(self.conv1, self.bn1, features))
        out = convolve(self.conv2, self.bn2, out)
        out += features if self.downsample is None else convolve(self.downsample[0], self.downsample[1], features)
        result: Tensor = self.relu(out)
        return result


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, the stride on the 3x3 one ("v1.5"); with groups the block of a ResNeXt.

    Args:
        in_channels: Of the map that comes in.
        planes: A quarter of the channels that go out.
        stride: Of the 3x3 convolution.
        downsample: Convolution and batch norm of the identity path where size or channels change.
        groups: Groups of the 3x3 convolution.
        base_width: Channels of a group for 64 planes.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Sequential | None = None,
        *,
        groups: int = 1,
        base_width: int = 64,
    ) -> None:
        super().__init__()
        width = planes * base_width // 64 * groups
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, planes * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 planes, H / stride, W / stride)."""
        out = self.relu(convolve(self.conv1, self.bn1, features))
        out = self.relu(convolve(self.conv2, self.bn2, out))
        out = convolve(self.conv3, self.bn3, out)
        out += features if self.downsample is None else convolve(self.downsample[0], self.downsample[1], features)
        result: Tensor = self.relu(out)
        return result


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False)
