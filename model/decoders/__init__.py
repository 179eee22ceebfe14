"""Decoders: the encoder's four maps in, relative inverse depth out.

decoder = build_decoder(ModelConfig(name="sgr"), encoder.channels)
inverse_depth = decoder(encoder(image))  # maps at strides 4, 8, 16, 32 of (H, W) -> (B, H, W)
"""

from collections.abc import Sequence

from torch import nn

from model.config import ModelConfig
from model.decoders.fusion import FusionDecoder
from model.decoders.guided import GuidedDecoder

__all__ = ["FusionDecoder", "GuidedDecoder", "build_decoder"]


def build_decoder(config: ModelConfig, in_channels: Sequence[int]) -> nn.Module:
    """The decoder that `config` names, with random weights.

    Args:
        config: Its settings; where `residual` is None, `redweb` adds x as its paper draws it, and `sgr` and `midas`
            add relu(x) as their code computes it.
        in_channels: Channels of the encoder's stages, finest first.
    """
    rectified = config.residual == "rectified" if config.residual else config.name != "redweb"
    width, init_std = config.decoder_channels, config.decoder_init_std
    if config.name == "sgr":
        return GuidedDecoder(in_channels, channels=width, rectified=rectified, init_std=init_std)
    return FusionDecoder(
        in_channels,
        channels=width,
        rectified=rectified,
        init_std=init_std,
        head=config.name,
        output_relu=config.output_relu,
    )
