"""WKDR of ordered and equal pairs, as the official code computes it on the ordinal lists of NYUDv2 (Chen et al. 2016).

The difference of two predictions beyond a threshold says which point is farther, within it that both are equally far.
WKDR is the share of all pairs put into the wrong one of the three classes, WKDR= that of the pairs labelled equal and
WKDR≠ that of the others. The threshold is chosen on a validation set, so that the larger of WKDR= and WKDR≠, each the
mean over the pictures, is least.

    errors = wkdr_errors(value_a, value_b, relation)       # at every threshold, of one picture
    best = choose_threshold(mean_equal, mean_unequal)      # index into THRESHOLDS
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["THRESHOLDS", "WkdrErrors", "choose_threshold", "wkdr_errors", "wrong_classes"]

THRESHOLDS: NDArray[np.float64] = np.array([0.1 + 0.01 * step for step in range(1, 141)])
"""The 140 thresholds of the official code, 0.11 to 1.50, in the unit of the network's output."""
THRESHOLDS.setflags(write=False)


class WkdrErrors(NamedTuple):
    """Wrong pairs of one picture at each threshold, and how many pairs there are."""

    wrong_equal: NDArray[np.int64]
    """(T,) pairs labelled equal that are not found equal."""
    wrong_unequal: NDArray[np.int64]
    """(T,) ordered pairs that are found equal or in the other order."""
    num_equal: int
    num_unequal: int


def wrong_classes(
    value_a: ArrayLike, value_b: ArrayLike, relation: ArrayLike, thresholds: ArrayLike
) -> NDArray[np.bool_]:
    """Which pairs are put into the wrong class at each threshold.

    Args:
        value_a: (P,) predicted inverse depth of the first points.
        value_b: (P,) of the second points.
        relation: (P,) `+1` the first is farther, `-1` it is nearer, `0` equal.
        thresholds: (T,) in the unit of the prediction; a difference of exactly the threshold is equal.

    Returns:
        (T, P); what is not a number belongs to no class and is wrong.
    """
    farther = np.asarray(value_b, np.float64) - np.asarray(value_a, np.float64)  # z of A minus z of B, with z = -value
    sign, limits = np.asarray(relation), np.asarray(thresholds, np.float64)[:, None]
    right: NDArray[np.bool_] = np.select(
        [sign > 0, sign < 0], [farther > limits, farther < -limits], np.abs(farther) <= limits
    )
    return ~right


def wkdr_errors(
    value_a: ArrayLike, value_b: ArrayLike, relation: ArrayLike, thresholds: ArrayLike = THRESHOLDS
) -> WkdrErrors:
    """Count the wrong pairs of a picture at each threshold; arguments as `wrong_classes`."""
    wrong = wrong_classes(value_a, value_b, relation, thresholds)
    equal = np.asarray(relation) == 0
    return WkdrErrors(
        np.count_nonzero(wrong[:, equal], axis=1),
        np.count_nonzero(wrong[:, ~equal], axis=1),
        int(np.count_nonzero(equal)),
        int(np.count_nonzero(~equal)),
    )


def choose_threshold(equal: ArrayLike, unequal: ArrayLike) -> int:
    """Index of the first threshold at which the larger of the two error rates (T,) is least."""
    return int(np.argmin(np.maximum(equal, unequal)))
