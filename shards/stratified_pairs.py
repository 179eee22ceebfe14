"""Pairs of every kind in equal numbers: near and far from each other in the picture and in depth.

Random pairs are mostly far apart and clearly ordered. Here candidates are sorted into bins of |difference of inverse
depth| / robust range (bounds 2, 5, 10, 20, 40 %) times distance / diagonal (bounds 3, 10, 30 %), and each bin gives the
same number; what a bin lacks is shared by the others. The first row of bins is what a tolerance of 2 % of the range
calls equal, so about a sixth of the pairs are equal wherever the scene allows it.

    a, b = draw_stratified_pairs(values, Places(known), value_range, 3000, CounterRng("pairs", seed, name))
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.places import Places
from shards.randomness import CounterRng

__all__ = ["DIFFERENCE_BOUNDS", "DISTANCE_BOUNDS", "draw_stratified_pairs", "equal_quotas", "pair_bins"]

DIFFERENCE_BOUNDS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Of |difference| as a share of the robust range; a bound belongs to the bin below."""
DISTANCE_BOUNDS = (0.03, 0.1, 0.3)
"""Of the distance as a share of the picture's diagonal; a bound belongs to the bin below."""
_CANDIDATES_PER_PAIR = 8


def draw_stratified_pairs(
    values: NDArray[Any], places: Places, value_range: float, num_pairs: int, rng: CounterRng
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw pairs spread evenly over the bins of depth difference and distance.

    Args:
        values: (H, W) inverse depth, any real dtype.
        places: Known pixels, two at least; among the candidates of a bin a pair's chance is in proportion to the
            confidence of both.
        value_range: Robust range of the picture, the unit of the differences.
        num_pairs: How many at most.
        rng: Source of the draws.

    Returns:
        Flat indices of A and of B, int64 (N,) each, in random order. N is smaller than `num_pairs` only where hardly
        any candidate is known.
    """
    a, b = _candidates(places, num_pairs, rng)
    bins = pair_bins(values, a, b, value_range)
    quotas = equal_quotas(np.bincount(bins, minlength=1), num_pairs)
    order = np.argsort(bins, kind="stable")
    starts = np.cumsum(np.bincount(bins, minlength=1)) - np.bincount(bins, minlength=1)
    place_in_bin = np.empty(len(bins), dtype=np.int64)
    place_in_bin[order] = np.arange(len(bins)) - starts[bins[order]]
    kept = place_in_bin < quotas[bins]  # the first of each bin: candidates come in random order
    return a[kept], b[kept]


def pair_bins(
    values: NDArray[Any], a: NDArray[np.int64], b: NDArray[np.int64], value_range: float
) -> NDArray[np.int64]:
    """Bin of each pair of flat indices, int64 (N,): difference bin * number of distance bins + distance bin."""
    height, width = values.shape
    flat = values.reshape(-1)
    difference = np.abs(flat[a].astype(np.float64) - flat[b].astype(np.float64))
    bounds = np.array(DIFFERENCE_BOUNDS) * value_range
    squared = (a // width - b // width) ** 2 + (a % width - b % width) ** 2
    near = np.array(DISTANCE_BOUNDS) ** 2 * (height**2 + width**2)
    by_distance = np.searchsorted(near, squared.astype(np.float64))
    bins: NDArray[np.int64] = np.searchsorted(bounds, difference) * (len(near) + 1) + by_distance
    return bins


def equal_quotas(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """How many each bin gives: `total` in all, as equal as the counts allow; the first bins take an odd remainder."""
    low, high = 0, int(counts.max(initial=0))
    while low < high:  # the highest level up to which all bins can be filled
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(counts, middle).sum() <= total else (low, middle - 1)
    quotas = np.minimum(counts, low)
    more = np.flatnonzero(counts > low)[: total - int(quotas.sum())]
    quotas[more] += 1
    return quotas


def _candidates(places: Places, num_pairs: int, rng: CounterRng) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs at all distances: a quarter drawn anywhere, a quarter within each distance bound; in random order."""
    height, width = places.known.shape
    num = num_pairs * _CANDIDATES_PER_PAIR // (len(DISTANCE_BOUNDS) + 1) + 1
    parts = [places.two(num, rng)]
    for bound in DISTANCE_BOUNDS:
        reach = max(1, int(bound * (height**2 + width**2) ** 0.5))
        a = places.one(num, rng)
        y = a // width + rng.integers(num, 2 * reach + 1) - reach
        x = a % width + rng.integers(num, 2 * reach + 1) - reach
        b = np.where((y >= 0) & (y < height) & (x >= 0) & (x < width), y * width + x, a)  # outside: no pair
        good = (a != b) & places.known.reshape(-1)[b]
        a, b = a[good], b[good]
        accepted = places.thin(b, rng=rng)
        parts.append((a[accepted], b[accepted]))
    a, b = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    order = np.argsort(rng.uniform(len(a)), kind="stable")
    return a[order], b[order]
