"""ConvNeXt (Liu et al., CVPR 2022) without its head, as torchvision builds it.

In training its blocks skip their residual branch at random (stochastic depth, torchvision's rates: rising from 0 at the
first block to 0.1 at the last of `convnext_tiny`, to 0.4 of `convnext_small`), as when its ImageNet weights were made.
The dice are torch's own generator of the device, one throw per picture and block, so a run that restores that
generator repeats itself, but a batch that is split otherwise, or among more processes, meets other skips.

encoder = ConvNeXtEncoder("convnext_tiny")
stages = encoder(image)  # strides 4, 8, 16, 32
"""

from model.config import EncoderName
from model.encoders.base import FeaturesEncoder

__all__ = ["ConvNeXtEncoder"]


class ConvNeXtEncoder(FeaturesEncoder):
    """Stages of a ConvNeXt: a 4x4 stem and then blocks, three times with a 2x2 convolution of stride 2 between.

    A stage's map is what its last block returns. It is not normalised: in torchvision the layer norm after the last
    stage belongs to the classifier.

    Args:
        name: `convnext_tiny` or `convnext_small`, which differ in the depth of the third stage.
    """

    channels = (96, 192, 384, 768)
    classifier_names = frozenset(
        {"classifier.0.weight", "classifier.0.bias", "classifier.2.weight", "classifier.2.bias"}
    )

    def __init__(self, name: EncoderName) -> None:
        from torchvision.models import get_model  # here, as its import takes longer than that of torch's own parts

        # One class, because the classifier is thrown away.
        super().__init__(get_model(name, weights=None, num_classes=1).features, ends=(1, 3, 5, 7))
