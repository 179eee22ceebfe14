"""The ImageNet backbone: a ResNet cut before its pooling, which returns the outputs of its four stages.

encoder = ResNetEncoder("resnet50", variant="v1", bn_eps=1.001e-5)
stages = encoder(image)  # strides 4, 8, 16, 32
"""

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from model.config import EncoderName

__all__ = ["ResNetEncoder"]


class ResNetEncoder(nn.Module):
    """ResNet stages (He et al., CVPR 2016) with the parameter names of torchvision.

    Args:
        name: Depth of the network.
        variant: `v1` puts the stride of a bottleneck on its first 1x1 convolution as in the paper, `v1.5` on its
            3x3 as torchvision does. ResNet-18 and -34 have no bottleneck and are the same in both.
        bn_eps: Epsilon of every batch normalisation.
    """

    def __init__(self, name: EncoderName, *, variant: str = "v1.5", bn_eps: float = 1e-5) -> None:
        super().__init__()
        net = torchvision.models.get_model(name, weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        # A block's output has as many channels as its last batch norm.
        self.channels = tuple(
            [norm.num_features for norm in stage[-1].modules() if isinstance(norm, nn.BatchNorm2d)][-1]
            for stage in self._stages()
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = bn_eps
            elif isinstance(module, Bottleneck) and variant == "v1":
                module.conv1.stride, module.conv2.stride = module.conv2.stride, (1, 1)

    def _stages(self) -> tuple[nn.Sequential, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised image (B, 3, H, W) -> four maps (B, C_i, H / s_i, W / s_i), s = 4, 8, 16, 32."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        outputs = []
        for stage in self._stages():
            features = stage(features)
            outputs.append(features)
        return outputs
