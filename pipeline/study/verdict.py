"""Does a claim hold? The rule, written down before any result was looked at.

A comparison is one arm less another, in WHDR. Two things make it uncertain: which pictures it is measured on, and which
seeds were trained. Their variances add up:

    difference D        mean over the seeds s that both arms have, of WHDR(A, s) - WHDR(B, s)
    pictures            variance of D under 2,000 draws of the pictures (paired: both arms on the same draw)
    seeds               variance of the n differences by seed, divided by n (it decides order, crops, pairs, weights)
    interval            D +- t * sqrt(pictures + seeds), t of Student at 97.5 % with Welch-Satterthwaite's degrees

    yes                 the whole interval is below 0: A errs less
    no                  the whole interval is above 0: A errs more
    not separable       it holds 0, or there are fewer than two seeds or two pictures

A claim of several comparisons is `yes` where all are, `no` where one is, else not separable.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

__all__ = ["Separation", "Verdict", "claim_verdict", "degrees_of_freedom", "separation", "student_975"]

Verdict = Literal["yes", "no", "not separable"]

_STUDENT_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_MORE = ((40, 2.021), (60, 2.000), (120, 1.980))


class Separation(NamedTuple):
    """One arm less another, in shares from 0 to 1."""

    value: float
    low: float
    high: float
    """NaN both where no interval can be given."""
    num_seeds: int
    num_pictures: int

    @property
    def verdict(self) -> Verdict:
        """Whether the first arm errs less: `yes`, `no`, or `not separable`."""
        if self.high < 0:
            return "yes"
        return "no" if self.low > 0 else "not separable"


def separation(seed_differences: Sequence[float], picture_variance: float, num_pictures: int) -> Separation:
    """The interval of a difference.

    Args:
        seed_differences: WHDR of the first arm less that of the second, for each seed that both have, on all pictures.
        picture_variance: Of the mean of these differences when the pictures are drawn anew; NaN where it is unknown.
        num_pictures: How many pictures were drawn from.
    """
    number = len(seed_differences)
    value = sum(seed_differences) / number if number else math.nan
    if number < 2 or num_pictures < 2 or not math.isfinite(picture_variance):
        return Separation(value, math.nan, math.nan, number, num_pictures)
    seed_variance = sum((one - value) ** 2 for one in seed_differences) / (number - 1) / number
    degrees = degrees_of_freedom((picture_variance, num_pictures - 1), (seed_variance, number - 1))
    half = student_975(degrees) * math.sqrt(picture_variance + seed_variance)
    return Separation(value, value - half, value + half, number, num_pictures)


def claim_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """Of a claim that makes several comparisons."""
    found = set(verdicts)
    if "no" in found:
        return "no"
    return "yes" if found == {"yes"} else "not separable"


def degrees_of_freedom(*parts: tuple[float, int]) -> float:
    """Welch-Satterthwaite: of a sum of variances, each with the degrees of freedom that it was estimated with."""
    total = sum(variance for variance, _ in parts)
    below = sum(variance**2 / degrees for variance, degrees in parts)
    return total**2 / below if below else math.inf


def student_975(degrees: float) -> float:
    """The 97.5 % point of Student's t, degrees rounded down to those of the table: never too small.

    Raises:
        ValueError: Less than one degree of freedom.
    """
    degrees += 1e-9  # a sum of variances with one degree each may come out a rounding error below it
    if not degrees >= 1:
        raise ValueError(f"Student's t needs one degree of freedom, not {degrees}")
    if degrees < len(_STUDENT_975) + 1:
        return _STUDENT_975[int(degrees) - 1]
    return [_STUDENT_975[-1], *(t for at, t in _MORE if degrees >= at)][-1]
