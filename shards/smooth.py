"""Noise out of a disparity map, without a value moving across an edge.

Surfaces are locally planes: at each pixel a plane is fitted to the known values around it, in windows of growing size,
and taken where it leaves no more than a fraction of a pixel unexplained. At an edge no plane fits, and the value stays.
The order of two points on a wall then no longer hangs on a few hundredths of a pixel of noise.

    smooth = fit_planes(disparity_px)       # float32 (H, W), NaN stays NaN
"""

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["fit_planes"]

_WINDOWS = ((7, 0.4), (15, 0.3), (31, 0.25), (61, 0.25))
"""Side of the window in pixels, and the residual in pixels of disparity at which a plane is no longer believed."""

_BAND_ROWS = 16
"""Rows that are worked on together, so that intermediate results stay in the processor's cache."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def fit_planes(disparity_px: Floats) -> Floats:
    """Smooth a disparity map, float32 (H, W), NaN where unknown."""
    known = np.isfinite(disparity_px)
    values = np.where(known, disparity_px, 0).astype(np.float64)
    places = _places(known)
    for side_px, believed_px in _WINDOWS:
        values = _fit(values, known, places, side_px, believed_px)
    return np.where(known, values, np.nan).astype(np.float32)


def _places(known: NDArray[np.bool_]) -> tuple[Doubles, Doubles, list[Doubles]]:
    """Coordinates x and y of the known pixels, 0 elsewhere, and what is summed up of them: the same for all windows."""
    height, width = known.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x, y = (x - width / 2) * known, (y - height / 2) * known
    return x, y, [known.astype(np.float64), x, y, x * x, y * y, x * y]


def _fit(
    values: Doubles,
    known: NDArray[np.bool_],
    places: tuple[Doubles, Doubles, list[Doubles]],
    side_px: int,
    believed_px: float,
) -> Doubles:
    x, y, of_places = places
    fields = [*of_places, values, x * values, y * values, values * values]
    sums = [_window_sum(field, side_px) for field in fields]
    fitted = np.empty_like(values)
    for first in range(0, len(values), _BAND_ROWS):
        band = slice(first, first + _BAND_ROWS)
        fitted[band] = _fitted(values[band], known[band], x[band], y[band], [s[band] for s in sums], believed_px)
    return fitted


def _fitted(
    values: Doubles, known: NDArray[np.bool_], x: Doubles, y: Doubles, sums: list[Doubles], believed_px: float
) -> Doubles:
    """Values, or the planes through their windows where those are believed; 0 where nothing is known."""
    count = np.maximum(sums[0], 1)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy, mean_value, mean_xv, mean_yv, mean_vv = (s / count for s in sums[1:])
    # The ridge keeps windows of a single row or column from dividing by zero.
    spread_x, spread_y = mean_xx - mean_x**2 + 1e-3, mean_yy - mean_y**2 + 1e-3
    spread_xy = mean_xy - mean_x * mean_y
    along_x, along_y = mean_xv - mean_x * mean_value, mean_yv - mean_y * mean_value
    determinant = np.maximum(spread_x * spread_y - spread_xy**2, 1e-6)
    slope_x = (spread_y * along_x - spread_xy * along_y) / determinant
    slope_y = (spread_x * along_y - spread_xy * along_x) / determinant
    variance = mean_vv - mean_value**2 - slope_x * along_x - slope_y * along_y
    plane = mean_value + slope_x * (x - mean_x) + slope_y * (y - mean_y)
    belief = np.clip(1.5 - np.sqrt(np.maximum(variance, 0)) / believed_px, 0, 1)
    return np.asarray(np.where(known, belief * plane + (1 - belief) * values, 0))


def _window_sum(field: Doubles, side_px: int) -> Doubles:
    return np.asarray(
        cv2.boxFilter(field, cv2.CV_64F, (side_px, side_px), normalize=False, borderType=cv2.BORDER_CONSTANT)
    )
