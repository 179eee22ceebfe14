"""Errors of a prediction brought to the scale and shift of the truth: AbsRel, δ<1.25 and the ordinal error.

A relative prediction has no unit. As MiDaS does (Ranftl et al., TPAMI 2022), a scale and a shift are fitted by least
squares in *inverse depth*, one of each a picture, and the errors are those of the depth. Where the fit is so far that
its inverse depth falls below that of the farthest known pixel of the picture, it is capped at that: MiDaS caps at a
depth of the data set in metres, which a truth without a unit does not have. The fit may have a negative scale, so
AbsRel and δ do not punish a prediction that is upside down; WHDR does.

    fitted = align(prediction, truth)                  # (H, W) inverse depth in the unit of the truth
    errors = aligned_errors(fitted, truth)             # errors.abs_rel, errors.delta
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.pairs import Tolerance, relations

__all__ = ["DELTA", "AlignedErrors", "align", "aligned_errors", "ordinal_error"]

DELTA = 1.25


class AlignedErrors(NamedTuple):
    """Errors of depth over the known pixels of a picture; NaN where there is none."""

    abs_rel: float
    """Mean of |depth - true depth| / true depth."""
    delta: float
    """Share of pixels whose depth is wrong by a factor below 1.25, 0..1; larger is better."""


def align(prediction: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Fit scale and shift of a prediction to the truth and cap it at the farthest known pixel.

    Args:
        prediction: (H, W) relative inverse depth. What is not finite is left out of the fit and put at the cap.
        truth: (H, W) inverse depth, NaN where unknown; zero, at infinity, is unknown here.

    Returns:
        (H, W) inverse depth in the unit of the truth, above zero; all NaN where nothing is known.
    """
    known = truth > 0
    used = known & np.isfinite(prediction)
    if not used.any():
        return np.full(truth.shape, np.nanmin(truth[known]) if known.any() else np.nan)
    p, t = prediction[used].astype(np.float64), truth[used].astype(np.float64)
    p_mean, t_mean = p.mean(), t.mean()
    variance = np.mean((p - p_mean) ** 2)
    scale = np.mean((p - p_mean) * (t - t_mean)) / variance if variance > 0 else 0.0
    fitted = np.where(np.isfinite(prediction), scale * (prediction.astype(np.float64) - p_mean) + t_mean, 0.0)
    capped: NDArray[np.float64] = np.maximum(fitted, truth[known].min())
    return capped


def aligned_errors(fitted: NDArray[np.float64], truth: NDArray[Any]) -> AlignedErrors:
    """AbsRel and δ<1.25 of the depths, over the pixels whose true inverse depth is known and above zero.

    Args:
        fitted: (H, W) from `align`.
        truth: (H, W) inverse depth, NaN where unknown.
    """
    known = truth > 0
    if not known.any():
        return AlignedErrors(float("nan"), float("nan"))
    ratio = truth[known].astype(np.float64) / fitted[known]  # depth over true depth
    return AlignedErrors(float(np.mean(np.abs(ratio - 1))), float(np.mean(np.maximum(ratio, 1 / ratio) < DELTA)))


def ordinal_error(fitted: NDArray[np.float64], pairs: NDArray[Any], tolerance: float) -> float:
    """Share of pairs in the wrong one of three classes: A farther, A nearer, equal (ratio at most 1 + tolerance).

    Args:
        fitted: (H, W) from `align`.
        pairs: (P, 5) `y_a, x_a, y_b, x_b, relation`, labelled with the same tolerance.
        tolerance: 0.03 in the protocol.

    Returns:
        0..1; NaN where there is no pair.
    """
    if not len(pairs):
        return float("nan")
    y_a, x_a, y_b, x_b, relation = pairs.astype(np.int64).T
    found = relations(fitted[y_a, x_a], fitted[y_b, x_b], Tolerance("ratio", tolerance))
    return float(np.mean(found != relation))
