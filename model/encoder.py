"""The ImageNet backbone: a ResNet without its head, which returns the outputs of its four stages.

encoder = ResNetEncoder("resnet50", variant="v1", bn_eps=1.001e-5)
stages = encoder(image)  # strides 4, 8, 16, 32
"""

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from model.config import EncoderName

__all__ = ["ResNetEncoder"]

BLOCKS: dict[EncoderName, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNetEncoder(nn.Module):
    """ResNet stages (He et al., CVPR 2016) of torchvision's blocks, with torchvision's parameter names.

    Args:
        name: Depth of the network.
        variant: `v1` puts the stride of a bottleneck on its first 1x1 convolution as in the paper, `v1.5` on its
            3x3 as torchvision does. ResNet-18 and -34 have no bottleneck and are the same in both.
        bn_eps: Epsilon of every batch normalisation.
        width: Channels of the stem, 64 in the paper; all others are multiples of it.

    Attributes:
        channels: Channels of the four stages.
    """

    def __init__(self, name: EncoderName, *, variant: str = "v1.5", bn_eps: float = 1e-5, width: int = 64) -> None:
        super().__init__()
        block, depths = BLOCKS[name]
        self.channels = tuple(width * 2**stage * block.expansion for stage in range(4))
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        inputs = (width, *self.channels[:-1])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block, num_blocks, num_inputs, num_outputs, stride=1 if number == 0 else 2)
            for number, (num_blocks, num_inputs, num_outputs) in enumerate(
                zip(depths, inputs, self.channels, strict=True)
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.eps = bn_eps
            elif isinstance(module, Bottleneck) and variant == "v1":
                module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised image (B, 3, H, W) -> four maps (B, C_i, H / s_i, W / s_i), s = 4, 8, 16, 32."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        outputs = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = stage(features)
            outputs.append(features)
        return outputs


def _stage(
    block: type[BasicBlock | Bottleneck], num_blocks: int, in_channels: int, out_channels: int, *, stride: int
) -> nn.Sequential:
    """Residual blocks, the first of which changes size and channels, on its identity path by a projection."""
    planes = out_channels // block.expansion
    projection = None
    if stride != 1 or in_channels != out_channels:
        projection = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    first = block(in_channels, planes, stride, projection)
    return nn.Sequential(first, *(block(out_channels, planes) for _ in range(num_blocks - 1)))
