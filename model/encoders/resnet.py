"""ResNet and ResNeXt without their heads, under torchvision's parameter names.

encoder = ResNetEncoder("resnet50", variant="v1")
stages = encoder(image)  # strides 4, 8, 16, 32
"""

from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from model.config import EncoderName
from model.encoders.base import Encoder
from model.encoders.resnet_blocks import BasicBlock, Bottleneck, convolve

__all__ = ["RESNETS", "ResNetEncoder"]


class Shape(NamedTuple):
    """Depth and breadth of a network; `groups` and `group_width` are the 32x4d of a ResNeXt."""

    block: type[BasicBlock | Bottleneck]
    depths: tuple[int, int, int, int]
    groups: int = 1
    group_width: int = 64


RESNETS: dict[EncoderName, Shape] = {
    "resnet18": Shape(BasicBlock, (2, 2, 2, 2)),
    "resnet34": Shape(BasicBlock, (3, 4, 6, 3)),
    "resnet50": Shape(Bottleneck, (3, 4, 6, 3)),
    "resnet101": Shape(Bottleneck, (3, 4, 23, 3)),
    "resnet152": Shape(Bottleneck, (3, 8, 36, 3)),
    "resnext50_32x4d": Shape(Bottleneck, (3, 4, 6, 3), groups=32, group_width=4),
    "resnext101_32x8d": Shape(Bottleneck, (3, 4, 23, 3), groups=32, group_width=8),
}


class ResNetEncoder(Encoder):
    """Stages of a ResNet (He et al., CVPR 2016) or a ResNeXt (Xie et al., CVPR 2017).

    Args:
        name: Which of `RESNETS`.
        variant: `v1` puts the stride of a bottleneck on its first 1x1 convolution as in the paper, `v1.5` on its
            3x3 as torchvision does. ResNet-18 and -34 have no bottleneck and are the same in both.
        width: Channels of the stem, 64 in the paper; all others are multiples of it.
    """

    classifier_names = frozenset({"fc.weight", "fc.bias"})

    def __init__(self, name: EncoderName, *, variant: str = "v1.5", width: int = 64) -> None:
        super().__init__()
        shape = RESNETS[name]
        first, second, third, fourth = (width * 2**stage * shape.block.expansion for stage in range(4))
        self.channels = (first, second, third, fourth)
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(shape, shape.depths[0], width, first, stride=1)
        self.layer2 = _stage(shape, shape.depths[1], first, second, stride=2)
        self.layer3 = _stage(shape, shape.depths[2], second, third, stride=2)
        self.layer4 = _stage(shape, shape.depths[3], third, fourth, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Bottleneck) and variant == "v1":
                module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised image (B, 3, H, W) -> four maps (B, C_i, H / s_i, W / s_i), s = 4, 8, 16, 32."""
        features = self.maxpool(self.relu(convolve(self.conv1, self.bn1, image)))
        outputs = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = stage(features)
            outputs.append(features)
        return outputs


def _stage(shape: Shape, depth: int, in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    """Residual blocks, the first of which changes size and channels, on its identity path by a projection."""
    planes = out_channels // shape.block.expansion
    block = partial(shape.block, groups=shape.groups, base_width=shape.group_width)
    projection = None
    if stride != 1 or in_channels != out_channels:
        projection = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    first = block(in_channels, planes, stride, projection)
    return nn.Sequential(first, *(block(out_channels, planes) for _ in range(depth - 1)))
