"""What every protocol offers: pictures one by one, and a judgement of a prediction for each.

    for index in range(len(benchmark)):
        case = benchmark.case(index)
        judgement = benchmark.judge(case, predict(case.image), setting)

A figure is the ratio of two sums over pictures (`Tally`): a mean over pictures where each weighs 1, a share of all
pairs where each weighs the number of its pairs.
"""

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.metrics import PairCounts
from pipeline.eval.whdr import Predict
from shards.errors import DecodeError

__all__ = [
    "Benchmark",
    "Case",
    "Judgement",
    "Metric",
    "OverSets",
    "Shown",
    "Tally",
    "Tuned",
    "labels_size",
    "mean_tally",
    "pair_tally",
    "wrong_margin",
]

OverSets = Literal["mean", "overall"] | None

_FAR_FROM_ITS_LABELS = 0.02


class Metric(NamedTuple):
    """One column of a table."""

    name: str
    """With all that the figure depends on; key of the record."""
    heading: str
    lower_is_better: bool = True
    percent: bool = True
    """Shown times 100."""
    of_the_set: bool = False
    """It tells something of the pictures that is the same for all methods."""


class Tally(NamedTuple):
    """What one picture adds to a figure; a weight of 0 where it says nothing of it."""

    total: float
    weight: float


class Case(NamedTuple):
    """A picture to predict and to judge."""

    name: str
    set_name: str
    image: NDArray[np.uint8]
    """(H, W, 3) RGB, as the protocol shows it to a predictor."""
    truth: Any
    """What the protocol judges by."""


class Judgement(NamedTuple):
    """How one prediction did."""

    tallies: tuple[Tally, ...]
    """For each metric of the protocol."""
    margin: float = 0.0
    """By how many standard deviations of the prediction its wrong pairs are wrong, on average; orders equal errors."""


class Shown(NamedTuple):
    """A judged picture for people."""

    image: NDArray[np.uint8]
    """(H, W, 3), in the pixels of the pairs."""
    inverse_depth: NDArray[Any]
    """The prediction, (H, W) of any size."""
    truth: NDArray[Any] | None
    """(H, W) true inverse depth, NaN where unknown; None where there are pairs only."""
    pairs: NDArray[Any]
    """(P, 5)."""
    wrong: NDArray[np.bool_]
    """(P,)."""


class Tuned(NamedTuple):
    """What a protocol has chosen for a predictor before it judges."""

    value: Any = None
    note: str = ""
    """In words, for the table and the record."""
    failed: tuple[str, ...] = ()
    """Pictures that it could not choose by, and why."""


class Benchmark(Protocol):
    """A protocol on one collection of pictures."""

    @property
    def label(self) -> str:
        """Kind and last part of the place, which tells no more of the machine: `gt=truth`."""
        ...

    @property
    def kind(self) -> str:
        """The protocol's name, as on the command line."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The first one orders the worst cases and is what methods are compared by."""
        ...

    @property
    def over_sets(self) -> OverSets:
        """What stands below several sets: the mean of their figures, or the figure of all their pictures."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        ...

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def name(self, index: int) -> str:
        """Name of a picture, without reading it."""
        ...

    def case(self, index: int) -> Case:
        """Read a picture.

        Raises:
            DataError: It cannot be read, or what belongs to it; the message names it.
        """
        ...

    def tune(self, predict: Predict) -> Tuned:
        """Choose what the protocol leaves to be chosen for each predictor."""
        ...

    def judge(self, case: Case, prediction: NDArray[Any], setting: Any) -> Judgement:
        """Judge a prediction of `case.image`, of its size; `setting` is the value of `tune`."""
        ...

    def show(self, case: Case, prediction: NDArray[Any], setting: Any) -> Shown:
        """The same for people."""
        ...


def mean_tally(value: float) -> Tally:
    """A picture that counts once in a mean; not at all where its value does not exist (NaN)."""
    return Tally(value, 1.0) if value == value else Tally(0.0, 0.0)


def pair_tally(counts: PairCounts) -> Tally:
    """A picture that counts with its pairs."""
    return Tally(float(counts.wrong), float(counts.total))


def wrong_margin(
    inverse_depth: NDArray[Any], value_a: NDArray[Any], value_b: NDArray[Any], wrong: NDArray[np.bool_]
) -> float:
    """Mean of |a - b| over the wrong pairs, in standard deviations of the prediction; 0 where none is wrong."""
    spread = float(np.std(inverse_depth))
    if not wrong.any() or not spread > 0:
        return 0.0
    margin = float(np.mean(np.abs(value_a[wrong].astype(np.float64) - value_b[wrong]))) / spread
    return margin if np.isfinite(margin) else 0.0


def labels_size(image: NDArray[np.uint8], pairs_hw: tuple[int, int] | None, name: str) -> tuple[int, int]:
    """Height and width that the points of a picture count in: its own, or that of the larger or smaller original.

    Raises:
        DecodeError: the labels are those of a picture of another shape.
    """
    height, width = image.shape[:2]
    if pairs_hw is None:
        return height, width
    stretch = (pairs_hw[1] / pairs_hw[0]) / (width / height)
    rounding = 1 / min(height, width, *pairs_hw)
    if abs(stretch - 1) > max(_FAR_FROM_ITS_LABELS, rounding):
        theirs = f"{pairs_hw[1]}x{pairs_hw[0]}"
        raise DecodeError(
            f"{name}: has {width}x{height} pixels, its labels are those of a picture of {theirs}", "size_mismatch"
        )
    return pairs_hw
