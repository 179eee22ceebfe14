"""Colour jitter: drawn where a picture is prepared, applied to the whole batch on the device.

Saturation, hue, contrast and brightness are linear in the channels, so a picture needs one 3 x 3 matrix and one offset,
and is clipped once at the end. Hue turns the colour about the grey axis at equal brightness (the I-Q plane of YIQ).

    parameters = draw_colour(config, CounterRng(*key, "colour"))            # a worker: (4,), or (0,) where it is off
    image = apply_colour(batch["image"], batch["colour"])                   # the trainer: float in 0..1
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.data.config import AugmentConfig
from shards.randomness import CounterRng

__all__ = ["apply_colour", "colour_size", "draw_colour"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG
_TO_I = (0.5959, -0.2746, -0.3213)
_TO_Q = (0.2115, -0.5227, 0.3112)
_FROM_YIQ = np.linalg.inv(np.array([_LUMA, _TO_I, _TO_Q]))
# Takes a colour to what a quarter turn makes of it: its I in the place of Q, its -Q in that of I, back in RGB.
_QUARTER_TURN = (np.outer(_FROM_YIQ[:, 2], _TO_I) - np.outer(_FROM_YIQ[:, 1], _TO_Q)).tolist()


def colour_size(config: AugmentConfig) -> int:
    """How many numbers describe the colour change of a picture: 4, or 0 where the config switches colour off."""
    return 4 if any(_reach(config)) and config.colour_probability > 0 else 0


def draw_colour(config: AugmentConfig, rng: CounterRng) -> Tensor:
    """Draw the colour change of one picture.

    Returns:
        float32 (4,): factors of brightness, contrast and saturation, and the turn of the hue in radians; 1, 1, 1, 0 for
        a picture that stays as it is. (0,) where the config switches colour off for all pictures.
    """
    if not colour_size(config):
        return torch.zeros(0)
    chance, *draws = rng.uniform(5).tolist()
    if chance >= config.colour_probability:
        return torch.tensor([1.0, 1.0, 1.0, 0.0])
    middle = (1.0, 1.0, 1.0, 0.0)
    return torch.tensor([mid + (2 * draw - 1) * r for mid, draw, r in zip(middle, draws, _reach(config), strict=True)])


def _reach(config: AugmentConfig) -> tuple[float, float, float, float]:
    """How far brightness, contrast, saturation and hue (radians) may go either way."""
    return config.brightness, config.contrast, config.saturation, math.radians(config.hue_deg)


def apply_colour(image: Tensor, colour: Tensor) -> Tensor:
    """Change the colours of a batch on its device.

    With y the grey of a pixel and m its mean over the picture: out = brightness * (contrast * (hue and saturation of
    rgb - y, + y - m) + m), clipped to 0..1. Rows of 1, 1, 1, 0 come out as image / 255 exactly, and K = 0 does no more
    than that.

    Args:
        image: uint8 (B, 3, h, w).
        colour: float32 (B, 4) of `draw_colour`, or (B, 0).

    Returns:
        float32 (B, 3, h, w) in 0..1.
    """
    rgb = image.float() / 255
    if colour.shape[1] == 0:
        return rgb
    brightness, contrast, saturation, hue = colour.float().unbind(1)
    mean_grey = (rgb.mean(dim=(2, 3)) * _constants(rgb.device).luma).sum(1)
    offset = (brightness * (1 - contrast) * mean_grey).view(-1, 1, 1)
    matrix = (brightness * contrast).view(-1, 1, 1) * _chroma_matrix(saturation, hue)
    # Plain products, because autocast and TF32 would round those of a matrix multiplication.
    planes = []
    for row in matrix.unbind(1):
        red, green, blue = (weight.view(-1, 1, 1) for weight in row.unbind(1))
        planes.append(red * rgb[:, 0] + green * rgb[:, 1] + blue * rgb[:, 2] + offset)
    return torch.stack(planes, dim=1).clamp_(0, 1)


def _chroma_matrix(saturation: Tensor, hue: Tensor) -> Tensor:
    """Matrix that keeps the grey of a colour, scales its distance from it and turns it; (B,), (B,) -> (B, 3, 3)."""
    luma, quarter_turn, identity = _constants(saturation.device)
    grey = luma.expand(3, 3)  # each row gives the grey of a colour
    cosine, sine = (saturation * hue.cos()).view(-1, 1, 1), (saturation * hue.sin()).view(-1, 1, 1)
    return grey + cosine * (identity - grey) + sine * quarter_turn


class _Constants(NamedTuple):
    """What is the same for all pictures, float32 on a device."""

    luma: Tensor
    quarter_turn: Tensor
    identity: Tensor


@lru_cache
def _constants(device: torch.device) -> _Constants:
    # Kept: a copy of Python's numbers to a GPU makes the host wait for all that is under way there.
    luma, quarter_turn = (torch.tensor(numbers, device=device) for numbers in (_LUMA, _QUARTER_TURN))
    return _Constants(luma, quarter_turn, torch.eye(3, device=device))
