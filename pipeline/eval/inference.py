"""How a network is asked for a prediction: at which size, how often, and how the answers are averaged.

    Inference()                                        # once, at about the area it was trained on
    Inference(flip=True, scales=(0.75, 1.0, 1.25))     # six answers, averaged
    Inference(long_side_px=512)                        # the long side at 512 pixels, aspect kept

Sides are multiples of 32, the coarsest stride of the network, so an aspect is kept up to that rounding.
"""

import math
from dataclasses import dataclass

from shards.errors import ConfigError

__all__ = ["MAX_SIDE_PX", "STRIDE_PX", "Inference", "network_size"]

STRIDE_PX = 32
"""Both sides of the network's input are multiples of its coarsest stride."""
MAX_SIDE_PX = 4096
_MAX_SCALES = 8


@dataclass(frozen=True)
class Inference:
    """Options of a prediction.

    Raises:
        ConfigError: an option is out of range.
    """

    flip: bool = False
    """Average with the prediction for the mirrored picture, mirrored back."""
    scales: tuple[float, ...] = (1.0,)
    """Sizes to predict at, as factors of each side; the answers are brought to one size and scale, then averaged."""
    long_side_px: int | None = None
    """Long side of what the network sees; None keeps the area that it was trained on."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.scales) <= _MAX_SCALES or not all(0.1 <= scale <= 4 for scale in self.scales):
            raise ConfigError(f"--scales: give 1 to {_MAX_SCALES} factors from 0.1 to 4, not {list(self.scales)}")
        if len(set(self.scales)) < len(self.scales):
            raise ConfigError(f"--scales: {list(self.scales)} names a factor twice")
        if self.long_side_px is not None and not STRIDE_PX <= self.long_side_px <= MAX_SIDE_PX:
            raise ConfigError(f"--long-side must be {STRIDE_PX} to {MAX_SIDE_PX} pixels, not {self.long_side_px}")

    @property
    def reference(self) -> int:
        """Which of the scales gives the unit that the average is in: the one nearest to 1."""
        return min(range(len(self.scales)), key=lambda index: abs(math.log(self.scales[index])))

    def sizes(self, picture_hw: tuple[int, int], training_hw: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """Height and width at which the network sees a picture, for each of the scales."""
        if self.long_side_px is None:
            return tuple(network_size(picture_hw, training_hw, scale) for scale in self.scales)
        return tuple(_long_side_size(picture_hw, self.long_side_px * scale) for scale in self.scales)

    def describe(self) -> str:
        """The options in words, for tables and records."""
        parts = [f"long side {self.long_side_px}" if self.long_side_px else "training area"]
        if self.scales != (1.0,):
            parts.append("scales " + ", ".join(f"{scale:g}" for scale in self.scales))
        return " · ".join([*parts, *(["flip"] if self.flip else [])])


def network_size(picture_hw: tuple[int, int], training_hw: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
    """Height and width at which the network sees a picture, at the area that it was trained on.

    Each is the multiple of 32 nearest to what keeps the picture's aspect at `scale` squared times the training area,
    so a picture of the training aspect gets the training size itself. A strip more extreme than 32 pixels of that
    area is squeezed.
    """
    area_px = training_hw[0] * training_hw[1] * scale**2
    aspect = picture_hw[1] / picture_hw[0]
    longest_px = area_px / STRIDE_PX
    height, width = (
        _in_strides(min(side, longest_px)) for side in (math.sqrt(area_px / aspect), math.sqrt(area_px * aspect))
    )
    return height, width


def _long_side_size(picture_hw: tuple[int, int], long_side_px: float) -> tuple[int, int]:
    factor = long_side_px / max(picture_hw)
    return _in_strides(picture_hw[0] * factor), _in_strides(picture_hw[1] * factor)


def _in_strides(side_px: float) -> int:
    return max(1, round(side_px / STRIDE_PX)) * STRIDE_PX
