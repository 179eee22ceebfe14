"""DA-2K (Yang et al., Depth Anything V2, 2024): the share of pairs whose nearer point is found, by scene and overall.

There is no official evaluation code. Here a prediction of the picture as it is is read at the exact pixels, a tie is an
error, and every pair counts alike; a scene is the type that the picture's folder names.

    Da2kBenchmark("da2k=DA-2K", "DA-2K")
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.metrics import judge_pairs
from pipeline.eval.protocols.base import Case, Judgement, Metric, OverSets, Shown, Tally, Tuned, wrong_margin
from pipeline.eval.protocols.listed import ListedPicture, ListedPictures
from pipeline.eval.whdr import Predict
from shards.errors import DecodeError
from shards.sources import open_source
from shards.sources.config import Da2kSourceConfig

__all__ = ["Da2kBenchmark"]


class Da2kBenchmark:
    """The pictures of DA-2K; see `protocols.base.Benchmark`.

    Args:
        label: as the data was given.
        path: folder, archive or URL with `annotations.json` and the pictures that it names.

    Raises:
        SourceError: the collection or its list is missing or of another format.
    """

    kind = "da2k"
    over_sets: OverSets = "overall"
    metrics: tuple[Metric, ...] = (Metric("accuracy_da2k", "accuracy %", lower_is_better=False),)

    def __init__(self, label: str, path: str) -> None:
        self.label = label
        self._pictures = ListedPictures(open_source(Da2kSourceConfig(kind="da2k", path=path)))
        self.notes = tuple(self._pictures.passed_over())

    def __len__(self) -> int:
        return len(self._pictures)

    def name(self, index: int) -> str:
        """Name of a picture."""
        return self._pictures.name(index)

    def case(self, index: int) -> Case:
        """Read a picture."""
        picture = self._pictures.load(index)
        if picture.size_hw != picture.image.shape[:2]:
            raise DecodeError(f"{picture.name}: its labels are those of another size", "size_mismatch")
        return Case(picture.name, f"da2k/{picture.meta.get('scene', 'other')}", picture.image, picture)

    def tune(self, predict: Predict) -> Tuned:
        """Nothing is left to be chosen."""
        return Tuned()

    def judge(self, case: Case, prediction: NDArray[Any], setting: Any) -> Judgement:
        """Count the pairs whose nearer point is found."""
        picture: ListedPicture = case.truth
        wrong = judge_pairs(prediction, picture.pairs)
        y_a, x_a, y_b, x_b = picture.pairs[:, :4].T
        margin = wrong_margin(prediction, prediction[y_a, x_a], prediction[y_b, x_b], wrong)
        return Judgement((Tally(float(np.count_nonzero(~wrong)), float(len(wrong))),), margin)

    def show(self, case: Case, prediction: NDArray[Any], setting: Any) -> Shown:
        """Picture and pairs."""
        picture: ListedPicture = case.truth
        return Shown(picture.image, prediction, None, picture.pairs, judge_pairs(prediction, picture.pairs))
