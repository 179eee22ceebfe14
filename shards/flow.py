"""Dense optical flow between two pictures, and whether its two directions agree.

DIS (Kroeger et al., ECCV 2016) as OpenCV computes it, on luminance. A flow field holds x, y in pixels.

Usage:

    forward, backward = flow_both_ways(grey(left), grey(right), finest_scale=0)
    known = consistent(forward, backward, tolerance_px=1.0)
"""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["consistent", "disagreement", "flow_both_ways", "grey", "pixel_grid", "sample_at"]

Floats = NDArray[np.float32]


@lru_cache(maxsize=4)
def pixel_grid(height: int, width: int) -> tuple[Floats, Floats]:
    """Columns x and rows y of every pixel, each float32 (height, width), kept and so read-only."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for grid in (x, y):
        grid.setflags(write=False)
    return x, y


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luminance, uint8 (H, W), of uint8 (H, W, 3)."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def flow_both_ways(
    left: NDArray[np.uint8],
    right: NDArray[np.uint8],
    *,
    finest_scale: int,
    patch_px: int = 8,
    start: tuple[Floats, Floats] | None = None,
) -> tuple[Floats, Floats]:
    """Flow from `left` to `right` and back, each float32 (H, W, 2).

    Args:
        left: uint8 (H, W), luminance.
        right: uint8 (H, W).
        finest_scale: Pyramid level at which the search stops; 0 is full resolution.
        patch_px: Side of the patches that are compared; small ones keep the edges of thin things.
        start: Both flows to begin with, instead of none.
    """
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(finest_scale)
    search.setPatchSize(patch_px)
    search.setPatchStride(patch_px // 2 - 1)
    forward, backward = (None, None) if start is None else (flow.copy() for flow in start)
    return search.calc(left, right, forward), search.calc(right, left, backward)


def sample_at(field: Floats, x: Floats, y: Floats, *, outside: float) -> Floats:
    """Bilinear samples of a float field (H, W) or (H, W, C) at the places x, y; `outside` beyond the border."""
    border = (outside,) * 4
    sampled = cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=border)
    return np.asarray(sampled, dtype=np.float32)


def disagreement(forward: Floats, backward: Floats) -> Floats:
    """How far the flow, followed there and back, ends from its start: float32 (H, W), pixels; huge where it leaves."""
    x, y = pixel_grid(*forward.shape[:2])
    back = sample_at(backward, x + forward[..., 0], y + forward[..., 1], outside=1e6)
    return np.asarray(np.hypot(forward[..., 0] + back[..., 0], forward[..., 1] + back[..., 1]))


def consistent(forward: Floats, backward: Floats, tolerance_px: float) -> NDArray[np.bool_]:
    """Where the flow, followed there and back, returns within `tolerance_px`: bool (H, W)."""
    return np.asarray(disagreement(forward, backward) <= tolerance_px)
