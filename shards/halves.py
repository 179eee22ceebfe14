"""Two pictures of a pair whose sizes differ a little, brought to one size.

The reference may be stored, so it is only ever cropped; the partner may be scaled, without a change of its aspect.
What remains between them (an offset, a small zoom) is for `shards.align`.

Usage:

    halves = equalise(left, right)            # None where they differ too much to be one pair
    if halves: left, right = halves.left, halves.right
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["EqualHalves", "equalise"]

Box = tuple[int, int, int, int]

_SAME_ASPECT = 0.005
_MIN_ZOOM = 0.02  # a smaller difference comes from trimming rather than from another resolution
_MAX_SCALE = 4.0
_MAX_CROP = 0.05


@dataclass(frozen=True)
class EqualHalves:
    """A pair of one size.

    Args:
        left: uint8 (H, W, 3), the reference.
        right: uint8 (H, W, 3), the partner.
        left_box: y, x, height, width of what was kept, in pixels of the given left picture.
        right_box: The same of the right one, before it was scaled.
        right_scale: By how much the right one was scaled; 1 where it was not.
    """

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    left_box: Box
    right_box: Box
    right_scale: float


def equalise(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> EqualHalves | None:
    """Bring a pair to one size: of one aspect by scaling the partner, of nearly one size by cropping about the centre.

    Args:
        left: uint8 (H, W, 3), the reference.
        right: uint8 (H', W', 3), the partner.

    Returns:
        None where the aspects differ and a side would lose more than a twentieth, or the scale exceeds 4.
    """
    (height, width), (right_height, right_width) = left.shape[:2], right.shape[:2]
    whole, right_whole = (0, 0, height, width), (0, 0, right_height, right_width)
    if left.shape == right.shape:
        return EqualHalves(left, right, whole, right_whole, 1.0)
    tall, wide = height / right_height, width / right_width
    scale = float(np.sqrt(tall * wide))
    if abs(tall / wide - 1) <= _SAME_ASPECT and abs(scale - 1) > _MIN_ZOOM:
        if not 1 / _MAX_SCALE <= scale <= _MAX_SCALE:
            return None
        scaled = np.array(Image.fromarray(right).resize((width, height), Image.Resampling.BICUBIC))
        return EqualHalves(left, scaled, whole, right_whole, scale)
    common = min(height, right_height), min(width, right_width)
    if common[0] < (1 - _MAX_CROP) * max(height, right_height) or common[1] < (1 - _MAX_CROP) * max(width, right_width):
        return None
    left_box, right_box = (_central(shape, common) for shape in ((height, width), (right_height, right_width)))
    return EqualHalves(_cut(left, left_box), _cut(right, right_box), left_box, right_box, 1.0)


def _central(shape: tuple[int, int], inner: tuple[int, int]) -> Box:
    return (shape[0] - inner[0]) // 2, (shape[1] - inner[1]) // 2, *inner


def _cut(picture: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    y, x, height, width = box
    return picture[y : y + height, x : x + width]
