"""Ordinal relations between pixels, and the random pairs a network learns from (Xian et al., CVPR 2018, Sec. 3.2).

Values are *inverse depths* (larger = nearer); relation +1 says that A is farther, -1 that A is nearer, 0 that both
are equally far within the tolerance. The paper's Eq. 1 compares ratios, which means something only where the zero of
the values is known (truth, depth sensors). Disparities of web pictures have an unknown offset; there the tolerance is
a share of the range of the picture. The same functions make the stored pairs and those drawn while training. Other
ways to draw: `shards.pair_sampler`.

    pairs = sample_random_pairs(inverse_depth, known, 3000, CounterRng("pairs", seed, name), Tolerance("range", 0.02))
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shards.places import Places
from shards.randomness import CounterRng

__all__ = [
    "Tolerance",
    "check_shapes",
    "equal_share",
    "label_pairs",
    "relations",
    "robust_range",
    "sample_random_pairs",
]


@dataclass(frozen=True)
class Tolerance:
    """When two inverse depths count as equally far.

    Args:
        kind: `ratio`: the larger is at most (1 + value) times the smaller. `range`: they differ by at most value
            times the robust range of their picture.
        value: 0.02 in the paper.
    """

    kind: Literal["ratio", "range"]
    value: float

    def __post_init__(self) -> None:
        if self.kind not in ("ratio", "range") or not 0 <= self.value < 1:
            raise ValueError(f"a tolerance is a ratio or a range of 0 <= value < 1, not {self.kind!r} {self.value!r}")


def robust_range(values: NDArray[Any], known: NDArray[np.bool_]) -> float:
    """P98 minus P2 of the known values; 0 where fewer than two are known.

    Args:
        values: (H, W) inverse depth, any real dtype.
        known: (H, W) where it is known.
    """
    chosen = values[known]
    if chosen.size < 2:
        return 0.0
    low, high = np.percentile(chosen, (2, 98))
    return float(high) - float(low)


def relations(
    value_a: ArrayLike, value_b: ArrayLike, tolerance: Tolerance, *, value_range: float | None = None
) -> NDArray[np.int8]:
    """Relation of each pair: +1 A is farther, -1 A is nearer, 0 equal.

    Args:
        value_a: (N,) inverse depth of A.
        value_b: (N,) inverse depth of B.
        tolerance: What counts as equal; the bound itself is equal, as in the paper's Eq. 1.
        value_range: `robust_range` of the picture; needed for the kind `range`, unused for `ratio`.

    Returns:
        int8 (N,).

    Raises:
        ValueError: A negative value under a ratio, or no `value_range` under a range.
    """
    a, b = np.asarray(value_a, dtype=np.float64), np.asarray(value_b, dtype=np.float64)
    if tolerance.kind == "ratio":
        if (a < 0).any() or (b < 0).any():
            raise ValueError("a ratio of negative inverse depths has no meaning; use the tolerance kind 'range'")
        a_farther, b_farther = b > a * (1 + tolerance.value), a > b * (1 + tolerance.value)
    else:
        if value_range is None:
            raise ValueError("the tolerance kind 'range' needs value_range, the robust range of the picture")
        bound = tolerance.value * value_range
        a_farther, b_farther = b - a > bound, a - b > bound
    return a_farther.astype(np.int8) - b_farther.astype(np.int8)


def label_pairs(
    values: NDArray[Any],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    tolerance: Tolerance,
    *,
    value_range: float | None = None,
) -> NDArray[np.int16]:
    """Give pairs of pixels their relation.

    Args:
        values: (H, W) inverse depth.
        a: int64 (N,) flat indices.
        b: int64 (N,) flat indices.
        tolerance: What counts as equal.
        value_range: See `relations`.

    Returns:
        int16 (N, 5): y_a, x_a, y_b, x_b, relation.
    """
    flat, width = values.reshape(-1), values.shape[1]
    relation = relations(flat[a], flat[b], tolerance, value_range=value_range)
    return np.stack([a // width, a % width, b // width, b % width, relation], axis=1).astype(np.int16)


def equal_share(pairs: NDArray[np.int16]) -> float:
    """Share of the (N, 5) pairs whose relation is equal; 0 where there is none."""
    return float((pairs[:, 4] == 0).mean()) if len(pairs) else 0.0


def check_shapes(values: NDArray[Any], known: NDArray[np.bool_]) -> None:
    """Raise ValueError unless both are (H, W), equal, with sides that an int16 holds."""
    if values.ndim != 2 or values.shape != known.shape or max(values.shape) > np.iinfo(np.int16).max:
        raise ValueError(f"values and known must be (H, W) up to 32767, not {values.shape} and {known.shape}")


def sample_random_pairs(
    values: NDArray[Any],
    known: NDArray[np.bool_],
    num_pairs: int,
    rng: CounterRng,
    tolerance: Tolerance,
    *,
    confidence: NDArray[np.uint8] | None = None,
    value_range: float | None = None,
) -> NDArray[np.int16]:
    """Draw pairs of two distinct known pixels, independently of each other.

    Args:
        values: (H, W) inverse depth, sides up to 32767.
        known: (H, W) where it is known.
        num_pairs: How many.
        rng: Source of the draws.
        tolerance: What counts as equal.
        confidence: uint8 (H, W), 255 = certain: pixels are drawn in proportion to it, by default all alike.
        value_range: Range for the tolerance kind `range`; by default the `robust_range` of these values. Give the
            one of the whole picture to label a crop as the picture would be.

    Returns:
        int16 (num_pairs, 5): y_a, x_a, y_b, x_b, relation; (0, 5) where fewer than two pixels are known.
    """
    check_shapes(values, known)
    places = Places(known, confidence)
    if len(places.flat) < 2:
        return np.zeros((0, 5), dtype=np.int16)
    if value_range is None and tolerance.kind == "range":
        value_range = robust_range(values, known)
    a, b = places.two(num_pairs, rng)
    return label_pairs(values, a, b, tolerance, value_range=value_range)
