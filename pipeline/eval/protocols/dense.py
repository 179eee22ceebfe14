"""Pictures with measured depth: dense WHDR, the ordinal error at a ratio of 1.03, and errors after alignment.

    TruthData("gt=/data/gt", TruthFolder(Path("/data/gt")))

Each figure is the mean over the pictures of a set; what stands before the first `/` of a picture's name is its set.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.aligned import align, aligned_errors, ordinal_error
from pipeline.eval.metrics import PairCounts, dense_whdr_name, draw_dense_pairs, equal_share, judge_pairs
from pipeline.eval.protocols.base import Case, Judgement, Metric, OverSets, Shown, Tuned, mean_tally, wrong_margin
from pipeline.eval.truth import TruthPicture
from pipeline.eval.whdr import Predict

__all__ = ["ORDINAL_TOLERANCE", "TruthData"]

ORDINAL_TOLERANCE = 0.03


class _Truth(NamedTuple):
    inverse_depth: NDArray[np.float32]
    pairs: NDArray[np.int16]
    """Labelled with the tolerance of WHDR."""
    ordinal_pairs: NDArray[np.int16]
    """The same points, labelled with that of the ordinal error."""


class TruthData:
    """Pictures with truth, of one or more sets; see `protocols.base.Benchmark`.

    Args:
        label: as the data was given.
        pictures: indexed and read one by one, once for all predictors.
        num_pairs: pairs drawn a picture, the equal ones included.
        seed: of these pairs.
        tolerance: two values of the truth are equal where their ratio is at most 1 + this; of dense WHDR.
    """

    kind = "gt"
    over_sets: OverSets = "mean"

    def __init__(
        self,
        label: str,
        pictures: Sequence[TruthPicture],
        *,
        num_pairs: int = 10_000,
        seed: int = 0,
        tolerance: float = 0.02,
    ) -> None:
        self.label = label
        self.pictures = pictures
        self._draw = {"num_pairs": num_pairs, "seed": seed}
        self._tolerance = tolerance
        self.metrics: tuple[Metric, ...] = (
            Metric(dense_whdr_name(num_pairs, seed, tolerance), "WHDR %"),
            Metric(f"ordinal_error@{1 + ORDINAL_TOLERANCE:g}x{num_pairs}s{seed}", "ordinal error %"),
            Metric("abs_rel_aligned", "AbsRel", percent=False),
            Metric("delta_1.25_aligned", "δ<1.25 %", lower_is_better=False),
            Metric(f"equal_pairs@{tolerance:g}x{num_pairs}s{seed}", "equal pairs %", of_the_set=True),
        )
        self.notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        """Name of a picture."""
        names = getattr(self.pictures, "names", None)
        return str(names[index]) if names else self.pictures[index].name

    def case(self, index: int) -> Case:
        """Read a picture and draw its pairs."""
        picture = self.pictures[index]
        inverse_depth, name = picture.inverse_depth, picture.name
        pairs, ordinal_pairs = (
            draw_dense_pairs(inverse_depth, name, **self._draw, tolerance=tolerance)
            for tolerance in (self._tolerance, ORDINAL_TOLERANCE)
        )
        return Case(name, picture.set_name, picture.image, _Truth(inverse_depth, pairs, ordinal_pairs))

    def tune(self, predict: Predict) -> Tuned:
        """Nothing is left to be chosen."""
        return Tuned()

    def judge(self, case: Case, prediction: NDArray[Any], setting: Any) -> Judgement:
        """Judge a prediction by the pairs and by the map."""
        truth: _Truth = case.truth
        wrong = judge_pairs(prediction, truth.pairs)
        counts = PairCounts(int(np.count_nonzero(wrong)), int(np.count_nonzero(truth.pairs[:, 4])))
        fitted = align(prediction, truth.inverse_depth)
        errors = aligned_errors(fitted, truth.inverse_depth)
        values = (
            counts.share,
            ordinal_error(fitted, truth.ordinal_pairs, ORDINAL_TOLERANCE),
            errors.abs_rel,
            errors.delta,
            equal_share(truth.pairs),
        )
        y_a, x_a, y_b, x_b = truth.pairs[:, :4].astype(np.int64).T
        margin = wrong_margin(prediction, prediction[y_a, x_a], prediction[y_b, x_b], wrong)
        return Judgement(tuple(mean_tally(value) for value in values), margin)

    def show(self, case: Case, prediction: NDArray[Any], setting: Any) -> Shown:
        """Picture, truth and pairs."""
        truth: _Truth = case.truth
        return Shown(case.image, prediction, truth.inverse_depth, truth.pairs, judge_pairs(prediction, truth.pairs))
