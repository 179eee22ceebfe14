"""The residual blocks of ResNet and ResNeXt under torchvision's parameter names.

    block = Bottleneck(256, 64, 1, None, groups=32, base_width=4)

Importing torchvision takes longer than loading most networks, so it is left to the encoders that are built from it.
What is registered here, and in which order, is as in torchvision: names, shapes and the draws of a seed agree.
"""

from torch import Tensor, nn

__all__ = ["BasicBlock", "Bottleneck"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (He et al., CVPR 2016).

    Args:
        in_channels: Of the map that comes in.
        planes: Of the map that goes out.
        stride: Of the first convolution.
        downsample: What the identity path goes through where size or channels change.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, planes: int, stride: int = 1, downsample: nn.Module | None = None, **_: int
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
        out = self.relu(self.bn1(self.conv1(features)))
        out = self.bn2(self.conv2(out))
        out += features if self.downsample is None else self.downsample(features)
        result: Tensor = self.relu(out)
        return result


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, the stride on the 3x3 one ("v1.5"); with groups the block of a ResNeXt.

    Args:
        in_channels: Of the map that comes in.
        planes: A quarter of the channels that go out.
        stride: Of the 3x3 convolution.
        downsample: What the identity path goes through where size or channels change.
        groups: Groups of the 3x3 convolution.
        base_width: Channels of a group for 64 planes.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
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
        out = self.relu(self.bn1(self.conv1(features)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += features if self.downsample is None else self.downsample(features)
        result: Tensor = self.relu(out)
        return result


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False)
