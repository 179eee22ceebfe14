"""The ordinal lists of NYUDv2 (Zoran et al. 2015, Chen et al. 2016): WKDR, WKDR= and WKDR≠ as in the official code.

The test list has 654 pictures of 640×480 and some 3,000 pairs each. A picture loses a border of 10 pixels, which is
white in the data, is scaled to 320×240, and the answer is scaled back and repeated into the border. The threshold comes
from the list of 45 validation pictures, which have no border. Every rate is one of each picture and then the mean over
the pictures; `wkdr_pooled`, the share of all pairs of all pictures, is another figure, which YouTube3D reports.

    NyuOrdinalBenchmark("nyu=relative_depth/data", "relative_depth/data")
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.protocols.base import (
    Case,
    Judgement,
    Metric,
    OverSets,
    Shown,
    Tally,
    Tuned,
    mean_tally,
    wrong_margin,
)
from pipeline.eval.protocols.listed import ListedPicture, ListedPictures, points_of
from pipeline.eval.torch_scale import torch_scale, torch_scale_picture
from pipeline.eval.whdr import Predict
from pipeline.eval.wkdr import THRESHOLDS, WkdrErrors, choose_threshold, wkdr_errors, wrong_classes
from shards.errors import DataError, DecodeError, SourceError
from shards.sources import open_source
from shards.sources.config import NyuOrdinalSourceConfig

__all__ = ["CROP_PX", "NyuOrdinalBenchmark", "crop", "restore"]

SET_NAME = "nyu_ordinal"  # a folder of truth may hold a set nyu
OFFICIAL_PICTURES = 654
INPUT_HW = (240, 320)
CROP_PX = 10
TEST_LIST = "654_*.csv"
VALIDATION_LISTS = ("45_nyu_validate*.csv", "45_validate*.csv")


class NyuOrdinalBenchmark:
    """The test list of NYUDv2; see `protocols.base.Benchmark`.

    Args:
        label: as the data was given.
        path: folder, archive or URL with both lists (`654_*.csv`; `45_NYU_validate*.csv` or `45_validate*.csv`) and
            their pictures.

    Raises:
        SourceError: the collection or a list is missing or of another format.
    """

    kind = "nyu"
    over_sets: OverSets = None
    metrics: tuple[Metric, ...] = (
        Metric("wkdr", "WKDR %"),
        Metric("wkdr_equal", "WKDR= %"),
        Metric("wkdr_unequal", "WKDR≠ %"),
        Metric("wkdr_pooled", "pooled WKDR %"),
    )

    def __init__(self, label: str, path: str) -> None:
        self.label = label
        self._test = ListedPictures(_source(path, TEST_LIST))
        self._validation = _validation_pictures(path)
        notes = [*self._test.passed_over(), *(f"validation: {line}" for line in self._validation.passed_over())]
        if len(self) != OFFICIAL_PICTURES:
            notes.insert(0, f"the official test list has {OFFICIAL_PICTURES} pictures, this one {len(self)}")
        self.notes = tuple(notes)

    def __len__(self) -> int:
        return len(self._test)

    def name(self, index: int) -> str:
        """Name of a picture."""
        return self._test.name(index)

    def case(self, index: int) -> Case:
        """Read a picture, cut its border off and scale it."""
        picture = self._test.load(index)
        return Case(picture.name, SET_NAME, torch_scale_picture(crop(picture.image), INPUT_HW), picture)

    def tune(self, predict: Predict) -> Tuned:
        """Choose the threshold on the validation pictures.

        Raises:
            DataError: none of them can be read, or none has both kinds of pairs.
        """
        equal, unequal, failed = [], [], []
        for index in range(len(self._validation)):
            try:
                picture = self._validation.load(index)
            except DecodeError as error:
                failed.append(str(error))
                continue
            prediction = predict(torch_scale_picture(picture.image, INPUT_HW))
            errors = _errors(torch_scale(prediction, picture.size_hw), picture, THRESHOLDS)
            if errors.num_equal:
                equal.append(errors.wrong_equal / errors.num_equal)
            if errors.num_unequal:
                unequal.append(errors.wrong_unequal / errors.num_unequal)
        if not equal or not unequal:
            reason = failed[0] if failed else "its pictures lack equal or unequal pairs"
            raise DataError(f"{self.label}: no threshold can be chosen on the validation list: {reason}")
        best = choose_threshold(np.mean(equal, axis=0), np.mean(unequal, axis=0))
        note = f"threshold {THRESHOLDS[best]:.2f} of {len(self._validation) - len(failed)} validation pictures"
        if best in (0, len(THRESHOLDS) - 1):
            note += ", at the end of the official grid: the unit of the prediction does not suit it"
        return Tuned(float(THRESHOLDS[best]), note, tuple(failed))

    def judge(self, case: Case, prediction: NDArray[Any], setting: Any) -> Judgement:
        """The rates of one picture at the chosen threshold."""
        picture: ListedPicture = case.truth
        values, wrong = _judge(picture, prediction, setting)
        equal = picture.pairs[:, 4] == 0
        rates = [float(np.mean(part)) if part.size else float("nan") for part in (wrong, wrong[equal], wrong[~equal])]
        tallies = (*(mean_tally(rate) for rate in rates), Tally(float(wrong.sum()), float(len(wrong))))
        return Judgement(tallies, wrong_margin(prediction, values[:, 0], values[:, 1], wrong & ~equal))

    def show(self, case: Case, prediction: NDArray[Any], setting: Any) -> Shown:
        """The picture with its border."""
        picture: ListedPicture = case.truth
        return Shown(picture.image, prediction, None, picture.pairs, _judge(picture, prediction, setting)[1])


def crop(image: NDArray[Any]) -> NDArray[Any]:
    """Cut off the border: 9 pixels above and to the left, 10 below and to the right, as the official indices do."""
    return image[CROP_PX - 1 : image.shape[0] - CROP_PX, CROP_PX - 1 : image.shape[1] - CROP_PX]


def restore(prediction: NDArray[Any], size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Scale a prediction (h, w) of a picture without its border back, and repeat its rim into the border: `size_hw`."""
    inner_hw = (size_hw[0] - 2 * CROP_PX + 1, size_hw[1] - 2 * CROP_PX + 1)
    return np.pad(torch_scale(prediction, inner_hw), (CROP_PX - 1, CROP_PX), mode="edge")


def _judge(
    picture: ListedPicture, prediction: NDArray[Any], threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(P, 2) predictions at the points, and which of the P pairs are in the wrong class."""
    values = _values(restore(prediction, picture.size_hw), picture)
    return values, wrong_classes(values[:, 0], values[:, 1], picture.pairs[:, 4], [threshold])[0]


def _values(inverse_depth: NDArray[Any], picture: ListedPicture) -> NDArray[np.float64]:
    points = points_of(picture.pairs)
    return np.asarray(inverse_depth[points[..., 0], points[..., 1]])


def _errors(inverse_depth: NDArray[Any], picture: ListedPicture, thresholds: NDArray[np.float64]) -> WkdrErrors:
    values = _values(inverse_depth, picture)
    return wkdr_errors(values[:, 0], values[:, 1], picture.pairs[:, 4], thresholds)


def _validation_pictures(path: str) -> ListedPictures:
    first, second = VALIDATION_LISTS
    try:
        return ListedPictures(_source(path, first))
    except SourceError as error:
        try:
            return ListedPictures(_source(path, second))
        except SourceError:
            raise error from None


def _source(path: str, pattern: str) -> Any:
    return open_source(NyuOrdinalSourceConfig(kind="nyu_ordinal", path=path, train_list=None, val_list=pattern))
