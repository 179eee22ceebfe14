"""Geometry of a training picture: which part of it is shown, and the same map for image, disparity and pairs.

A view is a rectangle of source pixels that is scaled to the training size and perhaps mirrored. With s = target side /
view side, a point p of the view goes to (p + 0.5) * s - 0.5, pixel centres at integers. A view may reach beyond the
picture (`fit: letterbox`): there it shows a plain colour, no disparity and no pairs. All functions are pure.

    for view in propose_views(CounterRng(seed, epoch, sample), (480, 640), (384, 384), config): ...
    image = view_image(picture, view, (384, 384)); codes = view_map(disparity, view, (384, 384))
"""

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.config import AugmentConfig
from shards.randomness import CounterRng

__all__ = ["PADDING_RGB", "View", "inside_view", "propose_views", "view_image", "view_map", "view_pairs", "whole_view"]

PADDING_RGB = (124, 116, 104)
"""Colour beyond the picture: the mean of ImageNet, which the network normalises to nearly 0."""
_PROPOSALS = 4


class View(NamedTuple):
    """A rectangle of source pixels, which may reach beyond the picture, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool = False


def whole_view(
    source_hw: tuple[int, int], size_hw: tuple[int, int], aspect_max: float, fit: Literal["crop", "letterbox"] = "crop"
) -> View:
    """The whole picture where its shape is within `aspect_max` of the training size's.

    Of a longer one, `crop` gives the largest centred part of such a shape, `letterbox` the smallest rectangle of such a
    shape around it.
    """
    height, width = source_hw
    target = size_hw[1] / size_hw[0]
    if fit == "crop":
        height_px = min(height, _at_least_one(width / (target / aspect_max)))
        width_px = min(width, _at_least_one(height * target * aspect_max))
    else:
        height_px = max(height, _at_least_one(width / (target * aspect_max)))
        width_px = max(width, _at_least_one(height * (target / aspect_max)))
    return View((height - height_px) // 2, (width - width_px) // 2, height_px, width_px)


def propose_views(
    rng: CounterRng, source_hw: tuple[int, int], size_hw: tuple[int, int], config: AugmentConfig
) -> Iterator[View]:
    """Views to try one after the other until one shows enough; the last one is the whole picture.

    Area and shape are drawn first. A crop that does not fit into an elongated picture is scaled down, so that it still
    moves along a panorama; with `fit: letterbox` the picture's part of that area is shown, padded to that shape. All
    proposals are mirrored or none.

    Args:
        rng: Source of the draws.
        source_hw: Height and width of the stored picture.
        size_hw: Height and width of the training size.
        config: Bounds of the crop and the chance of a mirror.
    """
    if config.crop_scale_min == 1 and config.flip_probability == 0:
        yield whole_view(source_hw, size_hw, config.crop_aspect_max, config.fit)
        return
    height, width = source_hw
    flip_draw, *draws = rng.uniform(1 + 4 * _PROPOSALS).tolist()
    flip = flip_draw < config.flip_probability
    if config.crop_scale_min < 1:
        for area_draw, shape_draw, y_draw, x_draw in zip(*[iter(draws)] * 4, strict=True):
            area = height * width * (config.crop_scale_min + area_draw * (1 - config.crop_scale_min))
            aspect = size_hw[1] / size_hw[0] * config.crop_aspect_max ** (2 * shape_draw - 1)
            sides = math.sqrt(area / aspect), math.sqrt(area * aspect)
            if config.fit == "crop":
                scale = min(1.0, height / sides[0], width / sides[1])
            else:  # what one side has too much goes to the other, then the short one is padded
                scale = max(1.0, sides[0] / height, sides[1] / width)
            height_px, width_px = _at_least_one(scale * sides[0]), _at_least_one(scale * sides[1])
            if config.fit == "crop":
                height_px, width_px = min(height, height_px), min(width, width_px)
            yield View(_start(y_draw, height, height_px), _start(x_draw, width, width_px), height_px, width_px, flip)
    yield whole_view(source_hw, size_hw, config.crop_aspect_max, config.fit)._replace(flip=flip)


def inside_view(view: View, source_hw: tuple[int, int], size_hw: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the target (h, w) whose centres lie in the picture; all of them unless there is padding."""
    rows, columns = (
        slice(_first_at(-start, side, target), _first_at(length - start, side, target))
        for start, side, length, target in zip(view[:2], view[2:4], source_hw, size_hw, strict=True)
    )
    if view.flip:
        columns = slice(size_hw[1] - columns.stop, size_hw[1] - columns.start)
    return rows, columns


def view_image(picture: NDArray[np.uint8], view: View, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Show a view of an RGB picture (H, W, 3): uint8 (h, w, 3), bilinear with antialiasing.

    Where the view shows all of the picture as it is, that is the picture itself.
    """
    part = np.ascontiguousarray(_crop(picture, view))
    if part.shape[:2] != view[2:4]:
        before = max(0, -view.top), max(0, -view.left)
        after = view.height - part.shape[0] - before[0], view.width - part.shape[1] - before[1]
        part = cv2.copyMakeBorder(
            part, before[0], after[0], before[1], after[1], cv2.BORDER_CONSTANT, value=(*PADDING_RGB, 0)
        ).astype(np.uint8, copy=False)
    if part.shape[:2] != size_hw:
        planes = torch.from_numpy(part).permute(2, 0, 1).unsqueeze(0)  # stays channels-last, the faster layout here
        planes = torch.nn.functional.interpolate(planes, size=size_hw, mode="bilinear", antialias=True)
        part = planes[0].permute(1, 2, 0).numpy()
    return cv2.flip(part, 1).astype(np.uint8, copy=False) if view.flip else part


def view_map(values: NDArray[Any], view: View, size_hw: tuple[int, int]) -> NDArray[Any]:
    """Show a view of a map (H, W): (h, w), each target pixel takes the source pixel its centre falls into.

    No two values are mixed, so unknown pixels stay apart from known ones. Beyond the picture it is 0.
    """
    rows, columns = (
        (2 * np.arange(target) + 1) * side // (2 * target) + start
        for start, side, target in zip(view[:2], view[2:4], size_hw, strict=True)
    )
    if view.flip:
        columns = columns[::-1]
    inside = inside_view(view, (values.shape[0], values.shape[1]), size_hw)
    shown = values[rows[inside[0]]].take(columns[inside[1]], axis=1)  # twice as fast as indexing both axes at once
    if shown.shape == size_hw:
        return shown
    padded = np.zeros(size_hw, dtype=values.dtype)
    padded[inside] = shown
    return padded


def view_pairs(
    pairs: NDArray[np.int16], view: View, size_hw: tuple[int, int], source_hw: tuple[int, int]
) -> NDArray[np.int16]:
    """Carry ordinal pairs into a view; pairs that leave it, fall onto one pixel or onto padding are left out.

    Args:
        pairs: int16 (N, 5): y_a, x_a, y_b, x_b, relation, in pixels of the picture.
        view: The view.
        size_hw: Its height and width after scaling.
        source_hw: Height and width of the picture.

    Returns:
        int16 (M, 5), M <= N, in target pixels, at most half a pixel (per axis) from where the points truly are.
    """
    if view == View(0, 0, *source_hw) and source_hw == size_hw:  # nothing moves
        apart = (pairs[:, 0] != pairs[:, 2]) | (pairs[:, 1] != pairs[:, 3])
        return pairs if apart.all() else pairs[apart]
    rows, columns = inside_view(view, source_hw, size_hw)  # a pixel half of which is padding may count as such
    to_y = _places(view.top, view.height, source_hw[0], size_hw[0], rows)
    to_x = _places(view.left, view.width, source_hw[1], size_hw[1], columns, view.flip)
    # Looked up column by column, as there are fewer places on an axis than pairs and whole numbers divide slowly.
    carried = np.empty((5, len(pairs)), dtype=np.int16)
    for column, places in enumerate((to_y, to_x, to_y, to_x)):
        places.take(pairs[:, column], out=carried[column], mode="clip")
    carried[4] = pairs[:, 4]
    y_a, x_a, y_b, x_b, _ = carried
    kept = ((y_a | x_a | y_b | x_b) >= 0) & ((y_a != y_b) | (x_a != x_b))
    return (carried if kept.all() else carried.compress(kept, axis=1)).T


def _places(start: int, side: int, length: int, target: int, shown: slice, flip: bool = False) -> NDArray[np.int16]:
    """Which target pixel of a view's axis each source pixel goes to: (length,), -1 where that is not `shown`."""
    # floor((p + 0.5) * s) is the pixel that holds the point, in whole numbers.
    places = (2 * np.arange(-start, length - start) + 1) * target // (2 * side)
    if flip:
        places = target - 1 - places
    places[(places < shown.start) | (places >= shown.stop)] = -1
    return places.astype(np.int16)


def _crop(array: NDArray[Any], view: View) -> NDArray[Any]:
    """The part of a view that lies in the picture."""
    return array[max(0, view.top) : view.top + view.height, max(0, view.left) : view.left + view.width]


def _start(draw: float, length: int, side: int) -> int:
    """Where a view begins on an axis: anywhere in the picture by a draw from [0, 1), or so that it is centred."""
    return int(draw * (length - side + 1)) if side <= length else (length - side) // 2


def _first_at(offset: int, side: int, target: int) -> int:
    """First of `target` pixels of a view's axis whose centre falls on source pixel `offset` of the view or later."""
    return min(target, max(0, -(-(2 * target * offset - side) // (2 * side))))


def _at_least_one(length_px: float) -> int:
    return max(1, round(length_px))
