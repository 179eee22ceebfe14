"""`image.scale` of Torch7 in its default mode, which the official code of DIW and of the NYU lists scales with.

It works side by side: a side that grows is interpolated between *corner-aligned* samples, a side that shrinks takes the
mean over the area of each new pixel. Positions are rounded to float32 as there.

    torch_scale(inverse_depth, (480, 640))                 # (240, 320) to (480, 640)
    torch_scale_at(inverse_depth, (480, 640), points_yx)   # the same at a few pixels only
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["torch_scale", "torch_scale_at", "torch_scale_picture"]


def torch_scale(values: NDArray[Any], size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Scale (H, W) or (H, W, C) to `size_hw`, float64."""
    rows, columns = (_weights(old, new, np.arange(new)) for old, new in zip(values.shape[:2], size_hw, strict=True))
    wide = np.tensordot(columns, values.astype(np.float64), axes=(1, 1))  # (width, H, ...), rows first as in Torch
    scaled: NDArray[np.float64] = np.tensordot(rows, wide, axes=(1, 1))
    return scaled


def torch_scale_at(
    values: NDArray[Any], size_hw: tuple[int, int], points_yx: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """What `torch_scale` gives for (H, W) at a few pixels (P, 2) of `size_hw`, zero-based: (P,).

    Means are taken of differences, so that rounding does not order two points of a constant row or map.
    """
    rows = _weights(values.shape[0], size_hw[0], points_yx[:, 0])
    columns = _weights(values.shape[1], size_hw[1], points_yx[:, 1])
    exact = values.astype(np.float64)
    return np.array([_mean(_mean(exact, column), row) for row, column in zip(rows, columns, strict=True)])


def torch_scale_picture(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a picture (H, W, 3) and round it to 8 bit, in which our networks take it."""
    scaled: NDArray[np.uint8] = np.rint(torch_scale(image, size_hw)).astype(np.uint8)
    return scaled


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean over the last axis, exactly the value where all are equal."""
    base = values[..., int(weights.argmax())]
    return np.asarray(base + (values - base[..., None]) @ weights)


def _weights(old_px: int, new_px: int, at: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """(P, old_px): what each old pixel of a side adds to the new pixels `at`."""
    weights = np.zeros((len(at), old_px))
    row = np.arange(len(at))
    if new_px > old_px:
        position = at.astype(np.float32) * np.float32((old_px - 1) / max(new_px - 1, 1))
        low = np.minimum(position.astype(np.int64), max(old_px - 2, 0))
        share = np.where(at == new_px - 1, old_px - 1 - low, (position - low).astype(np.float64))
        np.add.at(weights, (row, low), 1 - share)
        np.add.at(weights, (row, np.minimum(low + 1, old_px - 1)), share)
        return weights
    scale = np.float32(old_px / new_px)
    start, stop = (end.astype(np.float32) * scale for end in (at, at + 1))
    pixel = np.arange(old_px)
    covered = np.minimum(stop[:, None], pixel + 1.0) - np.maximum(start[:, None], pixel)
    weights = np.clip(covered, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
