"""Intervals by drawing pictures anew: the percentile bootstrap (Efron 1979).

A figure is a sum over pictures divided by another: of errors by the number of pictures, or of wrong pairs by the number
of pairs. Drawing as many pictures with replacement, again and again, shows how far it would move had other pictures
been taken. All methods are drawn together, so the difference of two methods is that on the same pictures.

    values = resample(totals, weights, 2000, CounterRng("bootstrap", 0, "nyu"))      # (2000, C)
    low, high = interval(values[:, 0])
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.randomness import CounterRng

__all__ = ["Interval", "interval", "ratio_of_sums", "resample"]

_BLOCK = 2_000_000  # drawn indices held at once


class Interval(NamedTuple):
    """The middle 95 % of the resampled values."""

    low: float
    high: float


def ratio_of_sums(totals: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """Figures of (N, C) totals and weights of N pictures: (C,); NaN where no picture has a weight."""
    return _divide(totals.sum(axis=0), weights.sum(axis=0))


def resample(totals: NDArray[Any], weights: NDArray[Any], resamples: int, rng: CounterRng) -> NDArray[np.float64]:
    """The figures on `resamples` draws of N pictures with replacement.

    Args:
        totals: (N, C) what each picture adds to the numerator of each figure.
        weights: (N, C) what it adds to the denominator.
        resamples: how many draws.
        rng: its stream decides the draws, the same for all C figures.

    Returns:
        float64 (resamples, C), NaN where a draw holds no weight.
    """
    number, figures = totals.shape
    sums = np.concatenate([totals, weights], axis=1).astype(np.float64)
    values = np.empty((resamples, figures))
    step = max(1, _BLOCK // number)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn = rng.integers(rows * number, number).reshape(rows, number)
        cells = (drawn + number * np.arange(rows)[:, None]).reshape(-1)
        counts = np.bincount(cells, minlength=rows * number).reshape(rows, number)
        drawn_sums = counts.astype(np.float64) @ sums
        values[first : first + rows] = _divide(drawn_sums[:, :figures], drawn_sums[:, figures:])
    return values


def interval(values: NDArray[np.float64]) -> Interval | None:
    """Percentiles 2.5 and 97.5 of resampled values (R,); None where none of them exists."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = np.percentile(finite, [2.5, 97.5])
    return Interval(float(low), float(high))


def _divide(totals: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    result = np.full(totals.shape, np.nan)
    np.divide(totals, weights, out=result, where=weights > 0)
    return result
