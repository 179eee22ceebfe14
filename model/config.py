"""Settings of the network and of the loss.

`Section` is the base of every settings block of the project: frozen, unknown keys refused, the string under a
field is its help text. It knows nothing of files; YAML and overrides are read in `launch.config`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["EncoderName", "LossConfig", "ModelConfig", "Section"]

EncoderName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "convnext_tiny",
    "convnext_small",
    "mobilenet_v3_large",
]
_PLAIN_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


class Section(BaseModel):
    """A frozen block of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ModelConfig(Section):
    """What the network looks like."""

    name: Literal["redweb", "sgr", "midas"] = "redweb"
    """Decoder: `redweb` (Xian et al., CVPR 2018, Fig. 4), `sgr` (Xian et al., CVPR 2020, as its official code) or
    `midas` (Ranftl et al., 2020: the fusion of `redweb` with a deeper head)."""
    encoder: EncoderName = "resnet50"
    """ImageNet backbone whose four stages feed the decoder."""
    encoder_weights: str = "none"
    """`none`, `imagenet` (torchvision's first set, downloaded once), the name of another set of torchvision
    (`IMAGENET1K_V2`), or the path of a .safetensors or .pth file in torchvision's names."""
    encoder_variant: Literal["v1", "v1.5"] = "v1.5"
    """ResNets: a bottleneck's stride 2 sits on its first 1x1 convolution (`v1`, He et al. 2016) or its 3x3 (`v1.5`);
    resnet18 and resnet34 have no bottleneck and are the same in both."""
    encoder_width: int = Field(64, ge=8, le=64, multiple_of=2)
    """ResNets: channels of the stem; 64 is the standard network and needed for ImageNet weights, fewer are faster."""
    encoder_bn_eps: float | None = Field(None, gt=0, lt=1)
    """Epsilon of the encoder's batch normalisation; None is torchvision's, weights from Keras use 1.001e-5."""
    freeze_bn: bool = False
    """Keep the encoder's batch norms as loaded; a step then does not depend on how its batch is split (`sgr` has more
    of them in its decoder, which stay)."""
    decoder_channels: int = Field(256, ge=8, le=1024, multiple_of=2)
    """Channels of the decoder; 256 in the papers. `sgr` has twice as many at its coarsest stage."""
    decoder_init_std: float | None = Field(None, gt=0)
    """Standard deviation of the decoder's random weights; None is 1/sqrt(fan_in). The CVPR 2020 code uses 0.01, the
    CVPR 2018 paper says "Gaussian" only."""
    residual: Literal["plain", "rectified"] | None = None
    """Residual conv blocks: `plain` is x + F(x) as drawn in the CVPR 2018 paper, `rectified` relu(x) + F(x) as the
    code of CVPR 2020 and MiDaS computes; None is the network's own."""
    output_relu: bool = False
    """`midas`: end with a ReLU as published; predictions are then not negative, and where they are 0 nothing learns."""

    @model_validator(mode="after")
    def _options_of_this_network(self) -> "ModelConfig":
        if self.encoder not in _PLAIN_RESNETS and self.encoder_width != 64:
            raise ValueError(f"encoder_width: {self.encoder} has one width, 64; leave it or take a resnet")
        if not self.encoder.startswith("resne") and self.encoder_variant != "v1.5":
            raise ValueError(f"encoder_variant: {self.encoder} has no bottleneck with a stride; leave it at v1.5")
        if self.encoder.startswith("convnext") and (self.encoder_bn_eps is not None or self.freeze_bn):
            raise ValueError(f"encoder_bn_eps, freeze_bn: {self.encoder} has no batch norm; leave them out")
        if self.output_relu and self.name != "midas":
            raise ValueError(f"output_relu: only the network midas has one, not {self.name}")
        return self


class LossConfig(Section):
    """What the network is trained to do: one loss, and for some a second term on the gradients of its error."""

    name: Literal["ranking", "improved_ranking", "mae", "mse", "ssi_mae"] = "improved_ranking"
    """`ranking` (CVPR 2018, Eq. 3), `improved_ranking` (on the hardest unequal pairs), `mae` or `mse` on disparity
    normalised per picture, `ssi_mae` (MiDaS: both maps aligned by median and mean deviation)."""
    hard_share: float = Field(0.75, gt=0, le=1)
    """`improved_ranking`: share of the unequal pairs that is kept, the hardest first; equal pairs are always kept."""
    scope: Literal["image", "batch"] = "image"
    """`improved_ranking`: sort pairs within a picture, or within the micro-batch of a process (world size matters)."""
    equal_weight: float = Field(1.0, ge=0)
    """`ranking`, `improved_ranking`: weight of an equal pair beside an unequal one (alpha of the CVPR 2020 code)."""
    trim_share: float = Field(0.0, ge=0, lt=1)
    """`ssi_mae`: share of a picture's largest errors that is left out; 0.2 in MiDaS."""
    gradient_weight: float = Field(0.0, ge=0)
    """Weight of the multi-scale gradient term: 0.2 beside the ranking of CVPR 2020, 0.5 beside `ssi_mae` in MiDaS."""
    gradient_scales: int = Field(4, ge=1, le=6)
    """Scales of the gradient term, each half as large as the one before."""

    @model_validator(mode="after")
    def _options_of_this_loss(self) -> "LossConfig":
        ranks = self.name in ("ranking", "improved_ranking")
        for option, applies in (
            ("hard_share", self.name == "improved_ranking"),
            ("scope", self.name == "improved_ranking"),
            ("equal_weight", ranks),
            ("trim_share", self.name == "ssi_mae"),
            ("gradient_scales", self.gradient_weight > 0),
        ):
            if not applies and getattr(self, option) != type(self).model_fields[option].default:
                raise ValueError(f"{option}: has no meaning for the loss {self.name} as set here; leave it out")
        return self

    @property
    def needs_maps(self) -> bool:
        """Whether it compares maps, and not only pairs."""
        return self.name not in ("ranking", "improved_ranking") or self.gradient_weight > 0
