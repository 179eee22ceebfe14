"""WHDR of a predictor on pictures with truth, and on the ordinal pairs of a set of shards.

A predictor is any function from a picture (H, W, 3) uint8 to inverse depth (H, W), larger = nearer: a network behind
`Predictor`, a baseline, somebody else's model. It is read at the exact pixel of the picture's own size.

    result = evaluate_truth(Predictor(net, "cpu"), TruthFolder(Path("gt")))
    wrong, total = evaluate_samples(Predictor(net, "cpu"), validation_samples(config.data, rank, world_size, None))
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.metrics import (
    PairCounts,
    add_counts,
    dense_whdr_name,
    draw_dense_pairs,
    equal_share,
    judge_pairs,
)
from pipeline.eval.truth import TruthPicture
from shards.errors import DecodeError, ShardError
from shards.format import Sample, decode_jpeg

__all__ = ["PictureScore", "Predict", "Result", "evaluate_samples", "evaluate_truth"]

Predict = Callable[[NDArray[np.uint8]], NDArray[Any]]


@dataclass(frozen=True)
class PictureScore:
    """Dense WHDR of one picture."""

    name: str
    set_name: str
    counts: PairCounts
    equal_share: float
    """Share of the drawn pairs that are equal, hence not judged; NaN where none could be drawn."""


@dataclass(frozen=True)
class Result:
    """Dense WHDR of one predictor: of each picture, each set, and the mean of the sets."""

    metric: str
    pictures: tuple[PictureScore, ...]

    @property
    def set_names(self) -> tuple[str, ...]:
        """The sets in the order in which they came."""
        return tuple(dict.fromkeys(picture.set_name for picture in self.pictures))

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Pictures without an unequal pair; they count in no mean."""
        return tuple(picture.name for picture in self.pictures if not picture.counts.total)

    @property
    def whdr_percent(self) -> dict[str, float]:
        """Set to the mean over its pictures of each one's WHDR in percent; NaN where no picture was judged."""
        return {name: 100 * _mean([p.counts.share for p in self._judged(name)]) for name in self.set_names}

    @property
    def equal_percent(self) -> dict[str, float]:
        """Set to the mean share of equal pairs in percent."""
        return {name: 100 * _mean([p.equal_share for p in self._judged(name)]) for name in self.set_names}

    @property
    def mean_percent(self) -> float:
        """Mean over the sets, each counting once however many pictures it has; NaN where nothing was judged."""
        return _mean([percent for percent in self.whdr_percent.values() if percent == percent])

    def num_pictures(self, set_name: str) -> int:
        """Pictures of a set that were judged."""
        return len(self._judged(set_name))

    def _judged(self, set_name: str) -> list[PictureScore]:
        return [picture for picture in self.pictures if picture.set_name == set_name and picture.counts.total]


def evaluate_truth(
    predict: Predict,
    pictures: Iterable[TruthPicture],
    *,
    num_pairs: int = 10_000,
    seed: int = 0,
    tolerance: float = 0.02,
) -> Result:
    """Dense WHDR of a predictor; see `metrics.draw_dense_pairs` for the arguments.

    Every predictor is judged on the same pairs of a picture.

    Raises:
        ValueError: the predictor returns another size than the picture's.
        DataError: a picture or its truth cannot be read.
    """
    scores = []
    for picture in pictures:
        pairs = draw_dense_pairs(
            picture.inverse_depth, picture.name, num_pairs=num_pairs, seed=seed, tolerance=tolerance
        )
        counts = _judge(predict, picture.image, pairs, picture.name)
        scores.append(PictureScore(picture.name, picture.set_name, counts, equal_share(pairs)))
    return Result(dense_whdr_name(num_pairs, seed, tolerance), tuple(scores))


def evaluate_samples(
    predict: Predict, samples: Iterable[Sample], *, stop: Callable[[], bool] | None = None
) -> PairCounts:
    """WHDR on the stored ordinal pairs of samples, as sums that processes can add up.

    Args:
        predict: the predictor.
        samples: this process's part of the set; samples without unequal pairs add nothing.
        stop: asked before each sample; once true, the sums of what was judged so far are returned.

    Raises:
        ValueError: the predictor returns another size than the picture's.
        DataError: a sample cannot be read.
    """
    counts = []
    for sample in samples:
        if stop is not None and stop():
            break
        if np.any(sample.pairs[:, 4]):
            try:
                image = decode_jpeg(sample.image)
            except DecodeError as error:
                raise ShardError(f"sample {sample.key}: {error}") from error
            counts.append(_judge(predict, image, sample.pairs, sample.key))
    return add_counts(counts)


def _judge(predict: Predict, image: NDArray[np.uint8], pairs: NDArray[Any], name: str) -> PairCounts:
    inverse_depth = predict(image)
    if inverse_depth.shape != image.shape[:2]:
        raise ValueError(f"{name}: the prediction has the shape {inverse_depth.shape}, the picture {image.shape[:2]}")
    wrong = judge_pairs(inverse_depth, pairs)
    return PairCounts(int(np.count_nonzero(wrong)), int(np.count_nonzero(pairs[:, 4])))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
