"""The frame around a stereo pair: black letterboxes, and borders of one colour as prints and scans have them.

One box is cut out of both pictures, so that rows and shifts stay what they are.

Usage:

    y, x, height, width = common_box(left, right)
"""

import numpy as np
from numpy.typing import NDArray

from shards.images import picture_box

__all__ = ["border_box", "common_box"]

Box = tuple[int, int, int, int]
Picture = NDArray[np.uint8]

_MARGIN_PX = 2  # JPEG smears the edge of a frame into the picture
_SAME = 10  # grey levels that a border may differ from its colour
_OTHER = 24  # what differs by more is no border
_BORDER_SHARE = 0.95  # the dots that help to fuse a pair, and its maker's name, may stand in it
_EDGE_SHARE = 0.6
_EDGE_PX = 3
_MAX_SHARE = 0.35  # of a side, at each end: a picture within so much border is a thumbnail
_NESTED = 3


def common_box(left: Picture, right: Picture) -> Box:
    """What lies inside the frames of both pictures.

    Args:
        left: uint8 (H, W, 3).
        right: uint8 (H, W, 3).

    Returns:
        y, x, height, width; the whole picture where there is no frame. A side of 0 where nothing is common.
    """
    boxes = [_inner_box(picture) for picture in (left, right)]
    span = []
    for axis in (0, 1):
        side = left.shape[axis]
        start = max(box[axis] for box in boxes)
        stop = min(box[axis] + box[axis + 2] for box in boxes)
        start = start + _MARGIN_PX if start > 0 else start
        stop = stop - _MARGIN_PX if stop < side else stop
        span.append((start, max(stop - start, 0)))
    return span[0][0], span[1][0], span[0][1], span[1][1]


def border_box(rgb: Picture) -> Box:
    """The part inside a border of one colour, light or dark, as y, x, height, width.

    A border has one colour all along a side and ends at a straight edge: there, most of the row or column changes at
    once. Snow, haze, a night sky or a studio's backdrop have one colour too, but no such edge, and are left alone.

    Args:
        rgb: uint8 (H, W, 3).
    """
    top, bottom = _border(rgb), _border(rgb[::-1])
    inner = rgb[top : rgb.shape[0] - bottom].transpose(1, 0, 2)
    start, stop = _border(inner), _border(inner[::-1])
    return top, start, rgb.shape[0] - top - bottom, rgb.shape[1] - start - stop


def _inner_box(rgb: Picture) -> Box:
    """Inside black frames and up to some borders within each other: y, x, height, width."""
    y, x, height, width = picture_box(rgb)
    for _ in range(_NESTED):
        dy, dx, inner_height, inner_width = border_box(rgb[y : y + height, x : x + width])
        if (inner_height, inner_width) == (height, width):
            break
        y, x, height, width = y + dy, x + dx, inner_height, inner_width
    return y, x, height, width


def _border(rgb: Picture) -> int:
    """Rows of one colour at the top that end at a straight edge; 0 where there is no such border."""
    height = rgb.shape[0]
    reach = int(height * _MAX_SHARE)
    colour = np.median(rgb[0], axis=0)
    rows = 0
    while rows < reach and (_distance(rgb[rows], colour) <= _SAME).mean() >= _BORDER_SHARE:
        rows += 1
    if not 0 < rows < reach:
        return 0
    beyond = rgb[rows : rows + _EDGE_PX]
    changed = (_distance(beyond, colour) > _OTHER).any(axis=0).mean()
    return rows if changed >= _EDGE_SHARE else 0


def _distance(pixels: Picture, colour: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.abs(pixels - colour).max(axis=-1))
