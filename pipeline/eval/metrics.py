"""WHDR: how often a prediction puts two points of a picture in the wrong order of depth.

Two metrics, which must not be mixed in one figure:

- **WHDR on given pairs** (`count_pairs`, `whdr`): as the official DIW code (Chen et al., NIPS 2016) computes it. A pair
  is right only where the prediction is *strictly* on the side that the label says, so a tie is an error, and so is a
  prediction that is not finite. Pairs labelled equal are left out: DIW has none.
- **dense WHDR** (`draw_dense_pairs`): the same on pairs drawn from a truth map, uniformly over its known pixels; those
  whose ratio is within the tolerance are equal, left out and reported as a share. Tolerance, count and seed are part
  of the metric's name (`dense_whdr_name`), because the figure depends on them.

All functions work on inverse depth, larger = nearer, and use nothing but the order of the prediction. Counts of parts
of an evaluation (processes, pictures) add up exactly (`add_counts`).

    whdr(prediction[y_a, x_a], prediction[y_b, x_b], relation)    # share of wrong pairs, 0..1
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shards.pairs import Tolerance, sample_random_pairs
from shards.randomness import CounterRng

__all__ = [
    "PairCounts",
    "add_counts",
    "count_pairs",
    "dense_whdr_name",
    "draw_dense_pairs",
    "equal_share",
    "judge_pairs",
    "whdr",
    "wrong_pairs",
]


class PairCounts(NamedTuple):
    """Sums of an evaluation, or of a part of one."""

    wrong: int
    """Unequal pairs that the prediction orders wrongly or not at all."""
    total: int
    """Unequal pairs."""

    @property
    def share(self) -> float:
        """WHDR, 0..1; NaN where no pair was judged."""
        return self.wrong / self.total if self.total else float("nan")


def add_counts(counts: Iterable[PairCounts]) -> PairCounts:
    """The counts of an evaluation from those of its parts, exactly and in any order."""
    parts = list(counts)
    return PairCounts(sum(part.wrong for part in parts), sum(part.total for part in parts))


def wrong_pairs(value_a: ArrayLike, value_b: ArrayLike, relation: ArrayLike) -> NDArray[np.bool_]:
    """Which pairs are wrong by strict comparison.

    Args:
        value_a: (P,) predicted inverse depth of the first points on any monotone scale, larger = nearer.
        value_b: (P,) of the second points.
        relation: (P,) `+1` the first is farther, `-1` it is nearer, `0` equal.

    Returns:
        (P,) true where the pair is unequal and not strictly in the order of its label; NaN, infinities of one sign
        and ties are in no order.

    Raises:
        ValueError: the shapes differ.
    """
    a, b, sign = np.asarray(value_a), np.asarray(value_b), np.asarray(relation)
    if not a.shape == b.shape == sign.shape:
        raise ValueError(f"values and relations must have one shape, not {a.shape}, {b.shape} and {sign.shape}")
    right = ((sign > 0) & (a < b)) | ((sign < 0) & (a > b))
    wrong: NDArray[np.bool_] = (sign != 0) & ~right
    return wrong


def count_pairs(value_a: ArrayLike, value_b: ArrayLike, relation: ArrayLike) -> PairCounts:
    """Wrong and all unequal pairs; arguments as `wrong_pairs`."""
    wrong = wrong_pairs(value_a, value_b, relation)
    return PairCounts(int(np.count_nonzero(wrong)), int(np.count_nonzero(np.asarray(relation))))


def whdr(value_a: ArrayLike, value_b: ArrayLike, relation: ArrayLike) -> float:
    """Share of the unequal pairs in wrong order, 0..1; arguments as `wrong_pairs`, NaN where there is no such pair."""
    return count_pairs(value_a, value_b, relation).share


def judge_pairs(inverse_depth: NDArray[Any], pairs: NDArray[Any]) -> NDArray[np.bool_]:
    """Read a prediction at the exact pixels of ordinal pairs and judge them by `wrong_pairs`.

    Args:
        inverse_depth: (H, W) prediction at the size the pairs refer to.
        pairs: (P, 5) integers `y_a, x_a, y_b, x_b, relation`, zero-based.

    Returns:
        (P,) true where wrong.

    Raises:
        ValueError: a shape is wrong, or a point lies outside the map.
    """
    if inverse_depth.ndim != 2 or pairs.ndim != 2 or pairs.shape[1] != 5:
        raise ValueError(f"need a (H, W) map and (P, 5) pairs, not {inverse_depth.shape} and {pairs.shape}")
    points = pairs[:, :4].astype(np.int64).reshape(-1, 2, 2)
    if (points < 0).any() or (points >= inverse_depth.shape).any():
        raise ValueError(f"a pair lies outside the map of {inverse_depth.shape[0]}x{inverse_depth.shape[1]} pixels")
    values = inverse_depth[points[..., 0], points[..., 1]]
    return wrong_pairs(values[:, 0], values[:, 1], pairs[:, 4])


def dense_whdr_name(num_pairs: int, seed: int, tolerance: float) -> str:
    """Name of the dense metric with all that it depends on, such as `whdr@0.02x10000s0`."""
    return f"whdr@{tolerance:g}x{num_pairs}s{seed}"


def draw_dense_pairs(
    inverse_depth: NDArray[Any], name: str, *, num_pairs: int, seed: int, tolerance: float
) -> NDArray[np.int16]:
    """Draw the pairs on which dense WHDR judges a picture; a pure function of its arguments.

    Args:
        inverse_depth: (H, W) truth, larger = nearer, zero at infinity, NaN where unknown; sides up to 32767.
        name: the picture's name. The draws depend on it and on the seed only, so a picture has its own pairs whatever
            is evaluated beside it.
        num_pairs: pairs drawn, the equal ones included.
        seed: another seed draws other pairs.
        tolerance: two values are equal where the larger is at most (1 + this) times the smaller.

    Returns:
        int16 (num_pairs, 5): y_a, x_a, y_b, x_b, relation; (0, 5) where fewer than two pixels are known.
    """
    rng = CounterRng("whdr_dense", seed, name)
    return sample_random_pairs(inverse_depth, np.isfinite(inverse_depth), num_pairs, rng, Tolerance("ratio", tolerance))


def equal_share(pairs: NDArray[Any]) -> float:
    """Share of the pairs (P, 5) labelled equal, which WHDR leaves out; NaN where there is no pair."""
    return float(np.mean(pairs[:, 4] == 0)) if len(pairs) else float("nan")
