"""WHDR of a predictor on the ordinal pairs of samples, as sums that processes can add up.

A predictor is any function from a picture (H, W, 3) uint8 to inverse depth (H, W), larger = nearer: a network behind
`Predictor`, a baseline, somebody else's model. It is read at the exact pixel of the picture's own size.

    wrong, total = evaluate_samples(Predictor(net, "cpu"), validation_samples(config.data, rank, world_size, None))
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.metrics import PairCounts, add_counts, judge_pairs
from shards.errors import DecodeError, ShardError
from shards.format import Sample, decode_jpeg

__all__ = ["Predict", "check_size", "evaluate_samples"]

Predict = Callable[[NDArray[np.uint8]], NDArray[Any]]


def evaluate_samples(
    predict: Predict,
    samples: Iterable[Sample],
    *,
    stop: Callable[[], bool] | None = None,
    observe: Callable[[Sample, NDArray[Any]], None] | None = None,
) -> PairCounts:
    """WHDR on the stored ordinal pairs of samples, as sums that processes can add up.

    Args:
        predict: the predictor.
        samples: this process's part of the set; samples without unequal pairs add nothing.
        stop: asked before each sample; once true, the sums of what was judged so far are returned.
        observe: called with each sample that is judged and its prediction.

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
            inverse_depth = predict(image)
            check_size(inverse_depth, image, sample.key)
            wrong = judge_pairs(inverse_depth, sample.pairs)
            counts.append(PairCounts(int(np.count_nonzero(wrong)), int(np.count_nonzero(sample.pairs[:, 4]))))
            if observe is not None:
                observe(sample, inverse_depth)
    return add_counts(counts)


def check_size(inverse_depth: NDArray[Any], image: NDArray[np.uint8], name: str) -> None:
    """Raise ValueError unless a prediction has the height and width of its picture."""
    if inverse_depth.shape != image.shape[:2]:
        raise ValueError(f"{name}: the prediction has the shape {inverse_depth.shape}, the picture {image.shape[:2]}")
