"""What every encoder is: an image in, the maps of four stages out, under torchvision's parameter names.

class MyEncoder(Encoder): ...
for norm in encoder.batch_norms(): norm.requires_grad_(False)
"""

from collections.abc import Iterator

from torch import Tensor, nn

__all__ = ["Encoder", "FeaturesEncoder"]


class Encoder(nn.Module):
    """An ImageNet network without its classifier.

    Attributes:
        channels: Channels of the four stages, finest first.
        classifier_names: Tensors of torchvision's whole network that are left out here, by the names they have there.
    """

    channels: tuple[int, int, int, int]
    classifier_names: frozenset[str]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Run the four stages.

        Args:
            image: (B, 3, H, W), normalised as for ImageNet; H and W multiples of 32.

        Returns:
            Four maps (B, channels[i], H / s, W / s) for s = 4, 8, 16, 32.
        """
        raise NotImplementedError

    def batch_norms(self) -> Iterator[nn.BatchNorm2d]:
        """Every layer whose statistics depend on the batch: what `freeze_bn` keeps and `encoder_bn_eps` sets."""
        return (module for module in self.modules() if isinstance(module, nn.BatchNorm2d))


class FeaturesEncoder(Encoder):
    """The `features` of a torchvision network, read after the last layer of each stage.

    The layers stay where torchvision has them, so their parameters keep the names `features.N...`.

    Args:
        features: Layers in a row, the last of which ends the last stage.
        ends: Index of the last layer of each of the four stages.
    """

    def __init__(self, features: nn.Sequential, ends: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.features = features
        self.ends = ends

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised image (B, 3, H, W) -> four maps (B, C_i, H / s_i, W / s_i), s = 4, 8, 16, 32."""
        outputs, features = [], image
        for index, layer in enumerate(self.features):
            features = layer(features)
            if index in self.ends:
                outputs.append(features)
        return outputs
