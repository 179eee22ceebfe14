"""Geometry of a training picture: which part of it is shown, and the same map for image, disparity and pairs.

A view is a rectangle of source pixels that is scaled to the training size and perhaps mirrored. With s = target side /
view side, a point p of the view goes to (p + 0.5) * s - 0.5, pixel centres at integers. All functions are pure.

    for view in propose_views(CounterRng(seed, epoch, sample), (480, 640), (384, 384), config): ...
    image = view_image(picture, view, (384, 384)); codes = view_map(disparity, view, (384, 384))
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.config import AugmentConfig
from shards.randomness import CounterRng

__all__ = ["View", "propose_views", "view_image", "view_map", "view_pairs", "whole_view"]

_PROPOSALS = 4


class View(NamedTuple):
    """A rectangle of source pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool = False


def whole_view(source_hw: tuple[int, int], size_hw: tuple[int, int], aspect_max: float) -> View:
    """The whole picture, or its largest centred part whose shape is within `aspect_max` of the training size's."""
    height, width = source_hw
    target = size_hw[1] / size_hw[0]
    height_px = min(height, _at_least_one(width / (target / aspect_max)))
    width_px = min(width, _at_least_one(height * target * aspect_max))
    return View((height - height_px) // 2, (width - width_px) // 2, height_px, width_px)


def propose_views(
    rng: CounterRng, source_hw: tuple[int, int], size_hw: tuple[int, int], config: AugmentConfig
) -> Iterator[View]:
    """Views to try one after the other until one shows enough; the last one is the whole picture.

    Area and shape are drawn first; what does not fit into an elongated picture is then scaled down, so that a crop of a
    panorama still moves along it. All proposals are mirrored or none.

    Args:
        rng: Source of the draws.
        source_hw: Height and width of the stored picture.
        size_hw: Height and width of the training size.
        config: Bounds of the crop and the chance of a mirror.
    """
    height, width = source_hw
    flip_draw, *draws = rng.uniform(1 + 4 * _PROPOSALS).tolist()
    flip = flip_draw < config.flip_probability
    if config.crop_scale_min < 1:
        for area_draw, shape_draw, y_draw, x_draw in zip(*[iter(draws)] * 4, strict=True):
            area = height * width * (config.crop_scale_min + area_draw * (1 - config.crop_scale_min))
            aspect = size_hw[1] / size_hw[0] * config.crop_aspect_max ** (2 * shape_draw - 1)
            fit = min(1.0, height / math.sqrt(area / aspect), width / math.sqrt(area * aspect))
            height_px = min(height, _at_least_one(fit * math.sqrt(area / aspect)))
            width_px = min(width, _at_least_one(fit * math.sqrt(area * aspect)))
            top, left = int(y_draw * (height - height_px + 1)), int(x_draw * (width - width_px + 1))
            yield View(top, left, height_px, width_px, flip)
    yield whole_view(source_hw, size_hw, config.crop_aspect_max)._replace(flip=flip)


def view_image(picture: NDArray[np.uint8], view: View, size_hw: tuple[int, int]) -> Tensor:
    """Show a view of an RGB picture (H, W, 3): uint8 (3, h, w), bilinear with antialiasing."""
    part = np.ascontiguousarray(_crop(picture, view))
    planes = torch.from_numpy(part).permute(2, 0, 1).unsqueeze(0)  # stays channels-last, the faster layout here
    if part.shape[:2] != size_hw:
        planes = torch.nn.functional.interpolate(planes, size=size_hw, mode="bilinear", antialias=True)
    return (planes[0].flip(-1) if view.flip else planes[0]).contiguous()


def view_map(values: NDArray[Any], view: View, size_hw: tuple[int, int]) -> NDArray[Any]:
    """Show a view of a map (H, W): (h, w), each target pixel takes the source pixel its centre falls into.

    No two values are mixed, so unknown pixels stay apart from known ones.
    """
    rows, columns = (
        (2 * np.arange(target) + 1) * side // (2 * target)
        for side, target in zip((view.height, view.width), size_hw, strict=True)
    )
    if view.flip:
        columns = columns[::-1]
    return _crop(values, view)[rows].take(columns, axis=1)  # twice as fast as indexing both axes at once


def view_pairs(pairs: NDArray[np.int16], view: View, size_hw: tuple[int, int]) -> NDArray[np.int16]:
    """Carry ordinal pairs into a view; pairs that leave it or fall onto one pixel are left out.

    Args:
        pairs: int16 (N, 5): y_a, x_a, y_b, x_b, relation, in source pixels.
        view: The view.
        size_hw: Its height and width after scaling.

    Returns:
        int16 (M, 5), M <= N, in target pixels, at most half a pixel (per axis) from where the points truly are.
    """
    points = pairs[:, :4].astype(np.int64).reshape(-1, 2, 2) - (view.top, view.left)
    sides = np.array([view.height, view.width])
    inside = ((points >= 0) & (points < sides)).all(axis=(1, 2))
    # floor((p + 0.5) * s) is the pixel that holds the point, in whole numbers.
    points = (2 * points[inside] + 1) * np.array(size_hw) // (2 * sides)
    if view.flip:
        points[..., 1] = size_hw[1] - 1 - points[..., 1]
    apart = (points[:, 0] != points[:, 1]).any(axis=1)
    carried = np.column_stack([points.reshape(-1, 4), pairs[inside, 4]])[apart]
    return np.asarray(carried, dtype=np.int16)


def _crop(array: NDArray[Any], view: View) -> NDArray[Any]:
    return array[view.top : view.top + view.height, view.left : view.left + view.width]


def _at_least_one(length_px: float) -> int:
    return max(1, round(length_px))
