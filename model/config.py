"""Settings of the network and of the loss.

`Section` is the base of every settings block of the project: frozen, unknown keys refused, the string under a
field is its help text. It knows nothing of files; YAML and overrides are read in `launch.config`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EncoderName", "LossConfig", "ModelConfig", "Section"]

EncoderName = Literal["resnet18", "resnet34", "resnet50"]


class Section(BaseModel):
    """A frozen block of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ModelConfig(Section):
    """What the network looks like (Xian et al., CVPR 2018, Sec. 3.3 and Fig. 4)."""

    name: Literal["redweb"] = "redweb"
    """Architecture: `redweb`, the residual multi-scale fusion network of the CVPR 2018 paper."""
    encoder: EncoderName = "resnet50"
    """ImageNet backbone whose four stages feed the decoder."""
    encoder_weights: str = "none"
    """`none`, `imagenet` (torchvision's, downloaded once) or the path of a .safetensors file in torchvision's names."""
    encoder_variant: Literal["v1", "v1.5"] = "v1.5"
    """Where a bottleneck's stride 2 sits: its first 1x1 convolution (`v1`, He et al. 2016) or its 3x3 (`v1.5`)."""
    encoder_width: int = Field(64, ge=8, le=64, multiple_of=2)
    """Channels of the encoder's stem; 64 is the standard ResNet and needed for ImageNet weights, fewer are faster."""
    encoder_bn_eps: float = Field(1e-5, gt=0, lt=1)
    """Epsilon of the encoder's batch normalisation; weights converted from Keras use 1.001e-5."""
    freeze_bn: bool = False
    """Keep the encoder's batch norms as loaded; a step then does not depend on how its batch is split."""
    decoder_channels: int = Field(256, ge=8, le=1024, multiple_of=2)
    """Channels of the decoder; 256 in the paper."""
    residual: Literal["plain", "rectified"] = "plain"
    """Residual conv blocks: `plain` is x + F(x) as drawn in Fig. 4c, `rectified` relu(x) + F(x) as published code."""


class LossConfig(Section):
    """What the network is trained to do."""

    name: Literal["ranking", "improved_ranking", "mae"] = "improved_ranking"
    """`ranking` (Eq. 3), `improved_ranking` (Eq. 3 on the hardest unequal pairs) or `mae` on normalised disparity."""
    hard_share: float = Field(0.75, gt=0, le=1)
    """`improved_ranking`: share of the unequal pairs that is kept, the hardest first; equal pairs are always kept."""
    scope: Literal["image", "batch"] = "image"
    """`improved_ranking`: sort pairs within a picture, or within the micro-batch of a process (world size matters)."""
