"""MobileNetV3-Large (Howard et al., ICCV 2019) without its head, as torchvision builds it.

encoder = MobileNetEncoder()
stages = encoder(image)  # strides 4, 8, 16, 32
"""

from model.encoders.base import FeaturesEncoder

__all__ = ["MobileNetEncoder"]


class MobileNetEncoder(FeaturesEncoder):
    """Stages of a MobileNetV3-Large, each up to the last layer before the resolution halves.

    The last stage ends with the 1x1 convolution to 960 channels, not with the bottleneck of 160 before it: that
    convolution is a part of `features`, carries ImageNet weights, and is what torchvision's own segmentation (LR-ASPP,
    DeepLabV3) and detection networks on this backbone read as their deepest map.
    """

    channels = (24, 40, 112, 960)
    classifier_names = frozenset(
        {"classifier.0.weight", "classifier.0.bias", "classifier.3.weight", "classifier.3.bias"}
    )

    def __init__(self) -> None:
        from torchvision.models import get_model  # here, as its import takes longer than that of torch's own parts

        # One class, because the classifier is thrown away.
        super().__init__(get_model("mobilenet_v3_large", weights=None, num_classes=1).features, ends=(3, 6, 12, 16))
