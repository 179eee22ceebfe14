"""The ordinal pairs that the validation samples of a set of shards hold: WHDR over all of them.

StoredPairs("runs/web-shards")
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import ShardStore
from pipeline.eval.metrics import PairCounts, judge_pairs
from pipeline.eval.protocols.base import Case, Judgement, Metric, OverSets, Shown, Tuned, pair_tally, wrong_margin
from pipeline.eval.whdr import Predict
from shards.errors import DecodeError, ShardError
from shards.format import decode_jpeg
from shards.storage import shown

__all__ = ["STORED_PAIRS_METRIC", "StoredPairs"]

STORED_PAIRS_METRIC = "whdr_stored_pairs"
"""Every unequal pair counts alike, whatever picture it is of."""


class StoredPairs:
    """The validation samples of a set of shards; see `protocols.base.Benchmark`.

    Args:
        url: folder or fsspec URL of the dataset.

    Raises:
        ShardError: it is missing or damaged, or has no split `val`.
    """

    kind = "shards"
    metrics: tuple[Metric, ...] = (Metric(STORED_PAIRS_METRIC, "WHDR %"),)
    over_sets: OverSets = None
    notes: tuple[str, ...] = ("whdr_stored_pairs: labels of the shards themselves, errors of the matcher included",)

    def __init__(self, url: str) -> None:
        self.set_name = shown(url).rstrip("/").rpartition("/")[2] or "shards"
        self.label = f"shards={self.set_name}"
        self._store = ShardStore(url, "val")

    def __len__(self) -> int:
        return len(self._store)

    def name(self, index: int) -> str:
        """Number of a sample in the split."""
        return f"sample {index}"

    def case(self, index: int) -> Case:
        """Read a sample."""
        sample = self._store.read(index, maps=False)
        try:
            image = decode_jpeg(sample.image)
        except DecodeError as error:
            raise ShardError(f"sample {sample.key}: {error}") from error
        return Case(sample.key, self.set_name, image, sample.pairs)

    def tune(self, predict: Predict) -> Tuned:
        """Nothing is left to be chosen."""
        return Tuned()

    def judge(self, case: Case, prediction: NDArray[Any], setting: Any) -> Judgement:
        """Judge a prediction by its pairs."""
        pairs: NDArray[np.int16] = case.truth
        wrong = judge_pairs(prediction, pairs)
        counts = PairCounts(int(np.count_nonzero(wrong)), int(np.count_nonzero(pairs[:, 4])))
        y_a, x_a, y_b, x_b = pairs[:, :4].astype(np.int64).T
        margin = wrong_margin(prediction, prediction[y_a, x_a], prediction[y_b, x_b], wrong)
        return Judgement((pair_tally(counts),), margin)

    def show(self, case: Case, prediction: NDArray[Any], setting: Any) -> Shown:
        """Picture and pairs."""
        return Shown(case.image, prediction, None, case.truth, judge_pairs(prediction, case.truth))
