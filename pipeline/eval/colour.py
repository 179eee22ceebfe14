"""Maps of inverse depth as colour pictures that a person can read: turbo, red = near, blue = far, grey = unknown.

The palette is Google's Turbo (Mikhailov 2019). Values are normalised per picture between two percentiles, so that a
few outliers do not flatten the rest, and because relative inverse depth has no unit to keep.

    Image.fromarray(colourise(inverse_depth)).save("map.png")
"""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["UNKNOWN_GREY", "colourise", "normalise", "turbo_palette"]

UNKNOWN_GREY = 72
"""Red, green and blue of an unknown pixel; no colour of the palette comes near it."""


@lru_cache(maxsize=1)
def turbo_palette() -> NDArray[np.uint8]:
    """The 256 colours, far to near: (256, 3) RGB, read-only."""
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    palette = np.ascontiguousarray(cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO)[:, 0, ::-1], dtype=np.uint8)
    palette.setflags(write=False)
    return palette


def normalise(
    values: NDArray[Any],
    known: NDArray[np.bool_] | None = None,
    *,
    low_percentile: float = 2,
    high_percentile: float = 98,
) -> NDArray[np.float32]:
    """Stretch a map so that its percentiles become 0 and 1, clipped; a constant map becomes 0.5.

    Args:
        values: (H, W) map.
        known: (H, W) where it means something; None takes all. Values that are not finite are unknown in any case.
        low_percentile: becomes 0.
        high_percentile: becomes 1.

    Returns:
        (H, W) in 0..1, NaN where unknown.
    """
    valid = np.isfinite(values) if known is None else known & np.isfinite(values)
    result = np.full(values.shape, np.nan, dtype=np.float32)
    if not valid.any():
        return result
    inside = values[valid].astype(np.float64)
    low, high = np.percentile(inside, [low_percentile, high_percentile])
    result[valid] = np.clip((inside - low) / (high - low), 0, 1) if high > low else 0.5
    return result


def colourise(values: NDArray[Any], known: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Colour a map of inverse depth: (H, W), larger = nearer, to RGB (H, W, 3); unknown pixels are grey."""
    stretched = normalise(values, known)
    valid = np.isfinite(stretched)
    picture = np.full((*values.shape, 3), UNKNOWN_GREY, dtype=np.uint8)
    picture[valid] = turbo_palette()[np.rint(stretched[valid] * 255).astype(np.uint8)]
    return picture
