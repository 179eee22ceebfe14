"""Disparity as it is stored: uint16, larger = nearer, 0 = unknown.

What a code means travels in the sample's JSON as its coding, of which there are two kinds:

    affine       inverse depth = offset + scale * code
    reciprocal   inverse depth = 1 / (offset + scale * code), for maps that store a depth

Matches are coded by `encode_disparity`, so that order and relative differences survive. Nothing is clipped, because
clipped values would tie: gross outliers become unknown instead, and the true extremes of the rest take the codes 7
and 65535. Only every eighth code is used: 8,192 values are finer than the tolerance of a pair, and bits that say
nothing cost a third of the bytes and a sixth of the time to read them (docs/streaming.md). Measured values have no
outliers and a true zero: `encode_inverse_depth` keeps both. A source whose map holds whole numbers may code them as
they are, and loses nothing.

Usage:

    codes, coding = encode_disparity(disparity_px, known)
    disparity_px, known = decode_disparity(codes, coding)
    inverse_depth = decode_values(codes, {"kind": "reciprocal", "scale": -1.0, "offset": 256.0})
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LOWEST_CODE",
    "decode_disparity",
    "decode_values",
    "encode_disparity",
    "encode_inverse_depth",
    "resize_nearest",
]

_TOP = 65535
_STEP = 8
LOWEST_CODE = _STEP - 1
"""What `encode_disparity` gives the farthest value of a map."""


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
    scale = (near - far) / (_TOP - LOWEST_CODE) if near > far else 1.0
    stepped = np.rint((values - far) / (scale * _STEP)) * _STEP + LOWEST_CODE
    codes[known] = np.where(inlier, stepped, 0).clip(0, _TOP).astype(np.uint16)
    return codes, {
        "kind": "affine",
        "scale": scale,
        "offset": far - scale * LOWEST_CODE,
        "outliers": int((~inlier).sum()),
    }


def encode_inverse_depth(
    inverse_depth: NDArray[np.floating[Any]], known: NDArray[np.bool_]
) -> tuple[NDArray[np.uint16], dict[str, float | str]]:
    """Code measured values whose zero is that of inverse depth, so that ratios survive; none becomes unknown.

    Args:
        inverse_depth: (H, W), not negative, larger = nearer, 0 = infinitely far; what is not known is ignored.
        known: (H, W) where it is known.

    Returns:
        uint16 (H, W), and the coding, affine with offset 0: the nearest value takes the code 65535, and what is 131070
        times as far or farther shares the code 1.

    Raises:
        ValueError: A known value is negative or not finite.
    """
    values = inverse_depth[known].astype(np.float64)
    codes = np.zeros(inverse_depth.shape, dtype=np.uint16)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("a known inverse depth is negative or not finite")
    top = float(values.max(initial=0.0))
    scale = top / _TOP or 1.0
    codes[known] = np.rint(values / scale).clip(1, _TOP).astype(np.uint16)
    return codes, {"kind": "affine", "scale": scale, "offset": 0.0}


def decode_values(codes: NDArray[np.uint16], coding: Mapping[str, Any]) -> NDArray[np.float64]:
    """Inverse depth that was coded, whichever way.

    Args:
        codes: uint16 (H, W).
        coding: `scale`, `offset`, and `kind` (affine where it is missing).

    Returns:
        (H, W), NaN where unknown, infinite where a reciprocal coding gives the depth 0.

    Raises:
        ValueError: The coding is incomplete, of an unknown kind or not finite.
    """
    try:
        scale, offset = float(coding["scale"]), float(coding["offset"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("a coding needs the numbers scale and offset") from error
    kind = coding.get("kind", "affine")
    if kind not in ("affine", "reciprocal") or not np.isfinite([scale, offset]).all():
        raise ValueError(f"a coding is affine or reciprocal and finite, not {kind!r} {scale} {offset}")
    values = offset + scale * codes.astype(np.float64)
    if kind == "reciprocal":
        with np.errstate(divide="ignore"):
            values = 1 / values
    return np.where(codes > 0, values, np.nan)


def decode_disparity(
    codes: NDArray[np.uint16], coding: Mapping[str, Any]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The disparity that was coded, NaN where unknown, and where it is known; both (H, W)."""
    return decode_values(codes, coding).astype(np.float32), codes > 0


def resize_nearest(array: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Resize (H, W, ...) by taking, for each new pixel centre, the old pixel it falls into: no two values are mixed."""
    rows, columns = (
        np.minimum((np.arange(new) * 2 + 1) * old // (2 * new), old - 1)
        for new, old in zip((height, width), array.shape[:2], strict=True)
    )
    return np.asarray(array[rows[:, None], columns[None, :]])
