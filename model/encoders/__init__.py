"""ImageNet backbones of torchvision by name, cut into four stages.

encoder = build_encoder(ModelConfig(encoder="convnext_tiny"))
stages = encoder(image)  # strides 4, 8, 16, 32, with encoder.channels channels
"""

from model.config import ModelConfig
from model.encoders.base import Encoder
from model.encoders.convnext import ConvNeXtEncoder
from model.encoders.mobilenet import MobileNetEncoder
from model.encoders.resnet import RESNETS, ResNetEncoder

__all__ = ["Encoder", "build_encoder"]


def build_encoder(config: ModelConfig) -> Encoder:
    """The encoder that the config names, with random weights; see `model.imagenet.load_encoder`."""
    encoder: Encoder
    if config.encoder in RESNETS:
        encoder = ResNetEncoder(config.encoder, variant=config.encoder_variant, width=config.encoder_width)
    elif config.encoder == "mobilenet_v3_large":
        encoder = MobileNetEncoder()
    else:
        encoder = ConvNeXtEncoder(config.encoder)
    if config.encoder_bn_eps is not None:
        for norm in encoder.batch_norms():
            norm.eps = config.encoder_bn_eps
    return encoder
