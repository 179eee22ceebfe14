"""DIW (Chen et al., NIPS 2016): WHDR on its test list, as the official Lua code computes it, or at the picture's size.

- `diw`: the picture is scaled to 320×240 without regard to its aspect, the answer back to its size, both by Torch's
  `image.scale`. This is the official code.
- `diw_own`: the predictor gets the picture as it is, as later papers did (MiDaS: long side 384, `--long-side 384`).

The prediction is read at the exact pixels; a pair is right only where it is strictly in the order of its label, so a
tie is an error; WHDR is the share of wrong pairs, every picture having one.

    DiwBenchmark("diw=DIW", "DIW")
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.metrics import wrong_pairs
from pipeline.eval.protocols.base import Case, Judgement, Metric, OverSets, Shown, Tally, Tuned, wrong_margin
from pipeline.eval.protocols.listed import ListedPicture, ListedPictures, points_of
from pipeline.eval.torch_scale import torch_scale, torch_scale_at, torch_scale_picture
from pipeline.eval.whdr import Predict
from shards.sources import open_source
from shards.sources.config import DiwSourceConfig

__all__ = ["INPUT_HW", "OFFICIAL_PICTURES", "DiwBenchmark"]

INPUT_HW = (240, 320)
OFFICIAL_PICTURES = 74_441


class DiwBenchmark:
    """The test list of DIW; see `protocols.base.Benchmark`.

    Args:
        label: as the data was given.
        path: folder, archive or URL with `DIW_test.csv` and the pictures that it names.
        own_size: show the predictor the picture as it is.

    Raises:
        SourceError: the collection or its list is missing or of another format.
    """

    over_sets: OverSets = None

    def __init__(self, label: str, path: str, *, own_size: bool = False) -> None:
        self.label = label
        self.kind = "diw_own" if own_size else "diw"
        self._own_size = own_size
        self._pictures = ListedPictures(open_source(DiwSourceConfig(kind="diw", path=path, splits=("test",))))
        self.metrics: tuple[Metric, ...] = (Metric("whdr_diw_own_size" if own_size else "whdr_diw_320x240", "WHDR %"),)
        notes = self._pictures.passed_over()
        if len(self) != OFFICIAL_PICTURES:
            notes.insert(0, f"the official test list has {OFFICIAL_PICTURES} pictures, this one {len(self)}")
        self.notes = tuple(notes)

    def __len__(self) -> int:
        return len(self._pictures)

    def name(self, index: int) -> str:
        """Name of a picture."""
        return self._pictures.name(index)

    def case(self, index: int) -> Case:
        """Read a picture and scale it as the protocol does."""
        picture = self._pictures.load(index)
        image = picture.image if self._own_size else torch_scale_picture(picture.image, INPUT_HW)
        return Case(picture.name, self.kind, image, picture)

    def tune(self, predict: Predict) -> Tuned:
        """Nothing is left to be chosen."""
        return Tuned()

    def judge(self, case: Case, prediction: NDArray[Any], setting: Any) -> Judgement:
        """Read the prediction at the points of the one pair."""
        values, wrong = _judge(case.truth, prediction)
        return Judgement(
            (Tally(float(wrong.sum()), float(len(wrong))),), wrong_margin(prediction, values[:, 0], values[:, 1], wrong)
        )

    def show(self, case: Case, prediction: NDArray[Any], setting: Any) -> Shown:
        """The picture in the size of its label."""
        picture: ListedPicture = case.truth
        image = np.clip(np.rint(torch_scale(picture.image, picture.size_hw)), 0, 255).astype(np.uint8)
        return Shown(image, prediction, None, picture.pairs, _judge(picture, prediction)[1])


def _judge(picture: ListedPicture, prediction: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(P, 2) predictions at the points, and which of the P pairs are wrong."""
    points = points_of(picture.pairs).reshape(-1, 2)
    values = torch_scale_at(prediction, picture.size_hw, points).reshape(-1, 2)
    return values, wrong_pairs(values[:, 0], values[:, 1], picture.pairs[:, 4])
