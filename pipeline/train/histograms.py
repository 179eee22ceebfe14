"""Histograms of what an evaluation saw: predictions, targets and the margins of its ordinal pairs.

    seen = {"val/inverse_depth": Spread()}
    seen["val/inverse_depth"].add(prediction)                 # picture after picture, on each process
    histograms = bin_spreads(seen, machine.gather_max, machine.gather_sum)

The largest and smallest value of all processes are agreed on first, so the bins of one histogram are equally wide and
the counts of the processes add up.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram", "Spread", "bin_spreads", "pair_margins"]

BINS = 90
"""TensorBoard draws 30 of the range that all steps of a curve share."""
MAX_VALUES = 1 << 17
"""Kept of one quantity by a process: half a megabyte."""

Gather = Callable[[list[float]], list[float]]


class Histogram(NamedTuple):
    """Counts of values in equally wide bins."""

    edges: NDArray[np.float64]
    """(BINS + 1,), the smallest value first, the largest last."""
    counts: NDArray[np.float64]
    """(BINS,)"""


class Spread:
    """An even share of the values that it is given: every one at first, then every third, ninth and so on."""

    def __init__(self, *, scale: float = 1.0, max_values: int = MAX_VALUES) -> None:
        """Keep at most `max_values`, each times `scale`."""
        self._scale = scale
        self._max_values = max_values
        self._kept: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        self._seen = 0
        self.stride = 1
        """How many values each one that is kept stands for; a power of 3, so that it rarely falls into step with the
        width of a picture."""

    def add(self, values: NDArray[Any], known: NDArray[np.bool_] | None = None) -> None:
        """Add values of any shape; those that are not `known`, an array of the same shape, or not finite do not count.

        Costs little once few are kept: the others are not looked at.
        """
        share = slice(-self._seen % self.stride, None, self.stride)
        chosen = values.reshape(-1)[share].astype(np.float32) * np.float32(self._scale)
        counts = np.isfinite(chosen) if known is None else np.isfinite(chosen) & known.reshape(-1)[share]
        self._seen += values.size
        self._kept = np.concatenate([self._kept, chosen[counts]])
        while len(self._kept) > self._max_values:
            self._kept = self._kept[::3]
            self.stride *= 3

    @property
    def values(self) -> NDArray[np.float32]:
        """(N,) what is kept, in the order in which it came."""
        return self._kept


def pair_margins(inverse_depth: NDArray[Any], pairs: NDArray[Any]) -> NDArray[np.float32]:
    """How clearly a prediction orders unequal pairs: `(p_a - p_b) * relation`, below 0 where it is right.

    The ranking loss of such a pair is `softplus` of it.

    Args:
        inverse_depth: (H, W) prediction, larger = nearer.
        pairs: (P, 5) `y_a, x_a, y_b, x_b, relation` within it.

    Returns:
        (U,) margins of the pairs with a relation of +1 or -1.
    """
    unequal = pairs[pairs[:, 4] != 0].astype(np.int64)
    y_a, x_a, y_b, x_b, relation = unequal.T
    margins: NDArray[np.float32] = ((inverse_depth[y_a, x_a] - inverse_depth[y_b, x_b]) * relation).astype(np.float32)
    return margins


def bin_spreads(spreads: Mapping[str, Spread], gather_max: Gather, gather_sum: Gather) -> dict[str, Histogram]:
    """Histograms over all processes, which must call it with the same names; a quantity without values has none.

    Args:
        spreads: What this process saw, by name.
        gather_max: The largest of each value over the processes.
        gather_sum: The sum of each value over the processes.
    """
    ends = [end for spread in spreads.values() for end in _ends(spread)]
    agreed = iter(gather_max(ends))
    edges = {name: _edges(-next(agreed), next(agreed)) for name in spreads}
    counts = {name: _counts(spread, edges[name]) for name, spread in spreads.items()}
    totals = np.array(gather_sum([count for part in counts.values() for count in part.tolist()]))
    histograms = {
        name: Histogram(edges[name], part)
        for name, part in zip(spreads, totals.reshape(len(spreads), BINS), strict=True)
    }
    return {name: histogram for name, histogram in histograms.items() if histogram.counts.any()}


def _ends(spread: Spread) -> tuple[float, float]:
    """Minus the smallest value, and the largest."""
    if not len(spread.values):
        return -np.inf, -np.inf
    return -float(spread.values.min()), float(spread.values.max())


def _edges(low: float, high: float) -> NDArray[np.float64]:
    if not np.isfinite([low, high]).all():
        return np.linspace(0, 1, BINS + 1)
    if low == high:  # as when a network has collapsed
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def _counts(spread: Spread, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    counts, _ = np.histogram(spread.values.astype(np.float64), edges)
    return counts * float(spread.stride)
