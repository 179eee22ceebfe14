"""Disparity as it is stored: uint16, larger = nearer, 0 = unknown.

The code is affine, so order and relative differences survive; scale and offset travel in the sample's JSON. Nothing is
clipped, because clipped values would tie: gross outliers become unknown instead, and the true extremes of the rest
take the codes 1 and 65535.

Usage:

    codes, coding = encode_disparity(disparity_px, known)
    disparity_px, known = decode_disparity(codes, coding)
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["decode_disparity", "encode_disparity", "resize_nearest"]

_TOP = 65535


def encode_disparity(
    disparity: NDArray[np.floating[Any]], known: NDArray[np.bool_]
) -> tuple[NDArray[np.uint16], dict[str, float | int | str]]:
    """Code a disparity map of any sign and scale.

    Args:
        disparity: (H, W), larger = nearer; what is not known is ignored, NaN included.
        known: (H, W) where it is known.

    Returns:
        uint16 (H, W), and the coding: `disparity = offset + scale * code`, and how many outliers became unknown.

    Raises:
        ValueError: A known value is not finite.
    """
    values = disparity[known].astype(np.float64)
    codes = np.zeros(disparity.shape, dtype=np.uint16)
    if not np.isfinite(values).all():
        raise ValueError("a known disparity is not finite")
    if values.size == 0:
        return codes, {"kind": "affine", "scale": 1.0, "offset": 0.0, "outliers": 0}
    # Beyond a full robust range past P0.5 and P99.5 lies no surface of the scene, only a wrong match.
    low, high = np.percentile(values, (0.5, 99.5))
    inlier = (
        (values >= low - (high - low)) & (values <= high + (high - low)) if high > low else np.ones(len(values), bool)
    )
    near, far = float(values[inlier].max()), float(values[inlier].min())
    scale = (near - far) / (_TOP - 1) if near > far else 1.0
    codes[known] = np.where(inlier, np.rint((values - far) / scale) + 1, 0).clip(0, _TOP).astype(np.uint16)
    return codes, {"kind": "affine", "scale": scale, "offset": far - scale, "outliers": int((~inlier).sum())}


def decode_disparity(
    codes: NDArray[np.uint16], coding: Mapping[str, Any]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The disparity that was coded, NaN where unknown, and where it is known; both (H, W)."""
    known = codes > 0
    disparity = coding["offset"] + coding["scale"] * codes.astype(np.float64)
    return np.where(known, disparity, np.nan).astype(np.float32), known


def resize_nearest(array: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Resize (H, W, ...) by taking, for each new pixel centre, the old pixel it falls into: no two values are mixed."""
    rows, columns = (
        np.minimum((np.arange(new) * 2 + 1) * old // (2 * new), old - 1)
        for new, old in zip((height, width), array.shape[:2], strict=True)
    )
    return np.asarray(array[rows[:, None], columns[None, :]])
