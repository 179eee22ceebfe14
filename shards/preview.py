"""One small picture of a pair for review: left eye, partner and disparity, side by side.

The three panes are equally large, so that whoever shows the strip can cut it into thirds. Red is near, blue is far,
black is unknown.

Usage:

    jpeg = preview_strip(left, right, matched.disparity_px)     # the partner or the disparity may be None
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.disparity import resize_nearest
from shards.images import encode_jpeg, scale_down

__all__ = ["PANE_HEIGHT_PX", "PANE_WIDTH_PX", "preview_strip", "turbo"]

PANE_HEIGHT_PX = 256
"""Height of a strip at most."""
PANE_WIDTH_PX = 384
"""A third of the width of a strip at most; panoramas are scaled down to it."""
_JPEG_QUALITY = 82
_EMPTY = 40  # dark grey: no colour of a disparity and not the black of an unknown one


def preview_strip(
    left: NDArray[np.uint8], right: NDArray[np.uint8] | None, disparity_px: NDArray[np.floating[Any]] | None
) -> bytes:
    """The strip as JPEG without metadata; the same pictures give the same bytes.

    Args:
        left: uint8 (H, W, 3), the picture that the disparity belongs to: the left eye's, as far as that was decided.
        right: uint8 (H', W', 3), the partner; of any size. None leaves its pane empty.
        disparity_px: (h, w) of the left picture at any scale, larger = nearer, NaN = unknown; None leaves its pane
            empty.
    """
    height, width = _pane_hw(*left.shape[:2])
    panes = np.full((height, 3 * width, 3), _EMPTY, dtype=np.uint8)
    for place, picture in enumerate((left, right)):
        if picture is not None:
            _paste(panes[:, place * width : (place + 1) * width], picture)
    if disparity_px is not None:
        disparity = resize_nearest(disparity_px, height, width)
        panes[:, 2 * width :] = turbo(disparity, np.isfinite(disparity))
    return encode_jpeg(panes, _JPEG_QUALITY)


def turbo(values: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Colour a map, larger = nearer: P2..P98 of the known from blue (far) to red (near), unknown black.

    Args:
        values: (H, W); ignored where unknown.
        known: bool (H, W).

    Returns:
        uint8 (H, W, 3) RGB.
    """
    if not known.any():
        return np.zeros((*known.shape, 3), dtype=np.uint8)
    inside = values[known].astype(np.float64)
    low, high = np.percentile(inside, (2, 98))
    level = np.zeros(known.shape, dtype=np.uint8)
    level[known] = np.rint(255 * np.clip((inside - low) / (high - low), 0, 1)) if high > low else 128
    colours = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(known[..., None], colours, 0).astype(np.uint8)


def _pane_hw(height: int, width: int) -> tuple[int, int]:
    scale = min(PANE_HEIGHT_PX / height, PANE_WIDTH_PX / width, 1.0)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _paste(pane: NDArray[np.uint8], picture: NDArray[np.uint8]) -> None:
    """Fit a picture into a pane, centred, its aspect kept."""
    scale = min(pane.shape[0] / picture.shape[0], pane.shape[1] / picture.shape[1])
    small = scale_down(picture, max(1, round(max(picture.shape[:2]) * scale)))[: pane.shape[0], : pane.shape[1]]
    y, x = ((pane.shape[axis] - small.shape[axis]) // 2 for axis in (0, 1))
    pane[y : y + small.shape[0], x : x + small.shape[1]] = small
