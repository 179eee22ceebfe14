"""Undo how the partner picture was held: vertical offset, roll, zoom, yaw and pitch, without calibration.

A small rotation or zoom of a camera moves every pixel by a smooth field that does not depend on depth, and whose
vertical part tells the horizontal part (with x, y from the centre in units of a focal length, here the long side):

    vertical    = offset + roll x + zoom y + yaw x y + pitch y^2
    horizontal  =        - roll y + zoom x + yaw x^2 + pitch x y      (its constant is free)

Horizontal motion holds depth, vertical motion of an aligned pair does not: so the five numbers are fitted robustly to
the vertical flow of pixels that match in both directions, and the partner is warped by both parts. Without the
horizontal part one degree of roll tilts the disparity by several pixels between top and bottom.

A baseline that was not level adds vertical motion in proportion to disparity. That cannot be taken out by warping
one picture; it is fitted along, so that it does not bend the five, and `unexplained_vertical` forgives it.

Usage:

    alignment = estimate_alignment(left, right)
    aligned_right, covered = warp_partner(right, alignment)
"""

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.flow import consistent, flow_both_ways, grey, pixel_grid
from shards.images import scale_down

__all__ = ["Alignment", "estimate_alignment", "unexplained_vertical", "unwarp_map", "warp_partner"]

Floats = NDArray[np.float32]

_SIDE_PX = 512
_ROUNDS = 3
_MAX_POINTS = 20_000
_LIMITS = np.array([0.15, 0.15, 0.15, 0.5, 0.5])
"""A larger coefficient is no small rotation or zoom: such a fit is not believed."""
_MAX_TILT = 0.25


@dataclass(frozen=True)
class Alignment:
    """How the partner differs from the reference apart from depth, in units of the long side; all zero = aligned."""

    offset: float = 0.0
    roll: float = 0.0
    zoom: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0

    def shift(self, height: int, width: int) -> tuple[Floats, Floats]:
        """Horizontal and vertical displacement in pixels of a picture of this size, each float32 (height, width)."""
        x, y, side = _centred(height, width)
        horizontal = -self.roll * y + self.zoom * x + self.yaw * x * x + self.pitch * x * y
        vertical = self.offset + self.roll * x + self.zoom * y + self.yaw * x * y + self.pitch * y * y
        return (horizontal * side).astype(np.float32), (vertical * side).astype(np.float32)

    def plus(self, other: "Alignment") -> "Alignment":
        """Both one after the other, to first order."""
        return Alignment(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))


def estimate_alignment(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> Alignment:
    """Fit the partner's pose to the vertical flow, refining it on the warped partner.

    Args:
        left: uint8 (H, W, 3), the reference.
        right: uint8 (H, W, 3), the partner.

    Returns:
        The alignment; all zero where no believable fit lowers the vertical motion.
    """
    left, right = scale_down(left, _SIDE_PX), scale_down(right, _SIDE_PX)
    best, best_px = Alignment(), np.inf
    current = Alignment()
    for _ in range(_ROUNDS + 1):
        warped, covered = warp_partner(right, current)
        forward, backward = flow_both_ways(grey(left), grey(warped), finest_scale=1)
        known = consistent(forward, backward, tolerance_px=1.0) & covered
        if np.count_nonzero(known) < 500:
            break
        motion_px = float(np.mean(np.minimum(np.abs(forward[..., 1][known]), 3.0)))
        if motion_px >= best_px * 0.98:
            break
        best, best_px = current, motion_px
        current = current.plus(_fit(forward, known))
        if (np.abs(list(asdict(current).values())) > _LIMITS).any():
            break
    return best


def warp_partner(right: NDArray[np.uint8], alignment: Alignment) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The partner as an aligned camera would have seen it, and which of its pixels the picture covers.

    Returns:
        uint8 (H, W, 3) and bool (H, W).
    """
    height, width = right.shape[:2]
    if alignment == Alignment():
        return right, np.ones((height, width), dtype=bool)
    x, y = pixel_grid(height, width)
    shift_x, shift_y = alignment.shift(height, width)
    x, y = x + shift_x, y + shift_y
    covered = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    warped = cv2.remap(right, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8), covered


def unwarp_map(aligned: NDArray[Any], alignment: Alignment, *, outside: float) -> NDArray[Any]:
    """A map (H, W) of the aligned partner's pixels, brought back to the pixels of the partner as it was given.

    The nearest value is taken, so that no two are mixed; what the aligned frame cut off is `outside`.
    """
    height, width = aligned.shape[:2]
    shift_x, shift_y = alignment.shift(height, width)
    x, y = pixel_grid(height, width)
    from_x, from_y = x - shift_x, y - shift_y
    for _ in range(2):  # the shift belongs to the aligned place, which is what is looked for
        there = [
            cv2.remap(shift, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for shift in (shift_x, shift_y)
        ]
        from_x, from_y = x - there[0], y - there[1]
    rows, columns = np.rint(from_y).astype(np.intp), np.rint(from_x).astype(np.intp)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    back = np.full_like(aligned, outside)
    back[inside] = aligned[rows[inside], columns[inside]]
    return back


def _centred(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    side = float(max(height, width))
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return (x - (width - 1) / 2) / side, (y - (height - 1) / 2) / side, side


def _fit(forward: Floats, known: NDArray[np.bool_]) -> Alignment:
    """Robust least squares (Cauchy weights) of the vertical flow on the five fields, at the matched places."""
    height, width = known.shape
    x, y, side = _centred(height, width)
    places = np.flatnonzero(known)
    places = places[:: max(1, places.size // _MAX_POINTS)]
    # The warp looks up by the partner's column and, rows being equal after it, the reference's row.
    x = x.reshape(-1)[places] + forward[..., 0].reshape(-1)[places] / side
    y = y.reshape(-1)[places]
    motion = forward[..., 1].reshape(-1)[places] / side
    horizontal = forward[..., 0].reshape(-1)[places] / side
    horizontal = horizontal - np.median(horizontal)
    fields = np.stack([np.ones_like(x), x, y, x * y, y * y, horizontal], axis=1)
    ridge = np.array([0.0, 1e-4, 1e-4, 1e-3, 1e-3, 1e-4])
    return Alignment(*(float(value) for value in _robust_fit(fields, motion, ridge, noise=0.1 / side)[:5]))


def unexplained_vertical(forward: Floats, known: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Vertical motion that neither alignment nor a tilted baseline accounts for.

    Args:
        forward: float32 (H, W, 2), flow to the aligned partner.
        known: bool (H, W), where it holds.

    Returns:
        float32 (H, W), pixels of vertical motion, to be read at the known places; and the baseline's tilt, pixels of
        vertical motion for a pixel of horizontal motion (0 where it exceeds what a hand holds, so that nothing is
        forgiven).
    """
    vertical = forward[..., 1]
    if np.count_nonzero(known) < 100:
        return vertical, 0.0
    middle = float(np.median(forward[..., 0][known]))
    horizontal, motion = forward[..., 0][known].astype(np.float64) - middle, vertical[known].astype(np.float64)
    step = max(1, motion.size // _MAX_POINTS)
    fields = np.stack([np.ones_like(horizontal), horizontal], axis=1)
    offset, tilt = _robust_fit(fields[::step], motion[::step], np.array([0.0, 1e-3]), noise=0.1)
    if abs(tilt) > _MAX_TILT:
        return vertical, 0.0
    explained = offset + tilt * (forward[..., 0] - middle)
    return (vertical - explained).astype(np.float32), float(tilt)


def _robust_fit(
    fields: NDArray[np.float64], motion: NDArray[np.floating[Any]], ridge: NDArray[np.float64], noise: float
) -> NDArray[np.float64]:
    """Iterated least squares with Cauchy weights; `noise` is the least residual that counts as an outlier's scale."""
    coefficients: NDArray[np.float64] = np.zeros(fields.shape[1])
    coefficients[0] = np.median(motion)
    for _ in range(15):
        residual = np.abs(motion - fields @ coefficients)
        weight = 1 / (1 + (residual / (2 * max(1.4826 * float(np.median(residual)), noise))) ** 2)
        normal = fields.T @ (weight[:, None] * fields) + np.diag(ridge) * len(motion)
        coefficients = np.asarray(np.linalg.solve(normal, fields.T @ (weight * motion)), dtype=np.float64)
    return coefficients
