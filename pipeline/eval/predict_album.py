"""Predict many pictures: read ahead, those of one network size together, written while the next are computed.

for outcome in predict_album(predict, album.jobs, lambda job, image, inverse_depth: ...):
print(outcome.path, outcome.failure)
"""

import errno
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.eval.album import PictureJob
from pipeline.eval.predict import Predictor
from pipeline.eval.stills import read_still
from shards.errors import DataError, DecodeError, RunError
from shards.names import printable

__all__ = ["Outcome", "Write", "predict_album"]

Write = Callable[[PictureJob, NDArray[np.uint8], NDArray[np.float32]], Any]
"""Takes a picture (H, W, 3) and its prediction (H, W)."""

_READ_AHEAD = 4
_NUM_WRITERS = 2
_WAITING_PX = 64_000_000
"""Pixels that wait for others of their size, or to be written; about 8 bytes each."""


class Outcome(NamedTuple):
    """What became of a picture."""

    path: Path
    failure: str = ""
    """Why there is no prediction; empty where it is written."""


class _Read(NamedTuple):
    job: PictureJob
    image: NDArray[np.uint8]
    failure: str = ""


def predict_album(predict: Predictor, jobs: Sequence[PictureJob], write: Write) -> Iterator[Outcome]:
    """Predict and write each picture; one that fails does not end the rest.

    Pictures that the network sees at one size go through it together, `predict.batch_size` at most, fewer where they
    are large. Memory does not grow with the number of pictures.

    Args:
        predict: the predictor.
        jobs: from `find_pictures`.
        write: writes a prediction; called in threads of its own.

    Yields:
        Each picture once, as it is written or has failed.

    Raises:
        RunError: nothing can be written, or a batch does not fit into memory, so going on is useless.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(_NUM_WRITERS) as writers:
        writing: deque[tuple[_Read, Future[Any]]] = deque()
        try:
            for batch in _batches(_read_ahead(jobs, reader), predict):
                if batch[0].failure:
                    yield Outcome(batch[0].job.path, batch[0].failure)
                    continue
                for read, inverse_depth in zip(batch, _predicted(predict, batch), strict=True):
                    while writing and (writing[0][1].done() or _pixels(r for r, _ in writing) > _WAITING_PX):
                        yield _finished(*writing.popleft())
                    writing.append((read, writers.submit(write, read.job, read.image, inverse_depth)))
            while writing:
                yield _finished(*writing.popleft())
        finally:
            writers.shutdown(cancel_futures=True)
            reader.shutdown(cancel_futures=True)


def _read_ahead(jobs: Sequence[PictureJob], pool: ThreadPoolExecutor) -> Iterator[_Read]:
    coming: deque[Future[_Read]] = deque()
    for job in jobs:
        coming.append(pool.submit(_read, job))
        if len(coming) > _READ_AHEAD:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def _read(job: PictureJob) -> _Read:
    try:
        return _Read(job, read_still(job.path))
    except DecodeError as error:
        return _Read(job, np.empty((0, 0, 3), np.uint8), str(error))


def _batches(reads: Iterator[_Read], predict: Predictor) -> Iterator[list[_Read]]:
    """Pictures of one network size together; a failed one is a batch of its own."""
    waiting: dict[Any, list[_Read]] = {}
    for read in reads:
        if read.failure:
            yield [read]
            continue
        sizes = predict.inference.sizes((read.image.shape[0], read.image.shape[1]), predict.size_hw)
        waiting.setdefault(sizes, []).append(read)
        if len(waiting[sizes]) == predict.batch_size:
            yield waiting.pop(sizes)
        elif _pixels(one for batch in waiting.values() for one in batch) > _WAITING_PX:
            yield waiting.pop(max(waiting, key=lambda key: _pixels(iter(waiting[key]))))
    yield from waiting.values()


def _predicted(predict: Predictor, batch: Sequence[_Read]) -> list[NDArray[np.float32]]:
    try:
        return predict.many([read.image for read in batch])
    except RuntimeError as error:
        # That of an Apple GPU has no class of its own.
        if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error):
            raise
        raise RunError(
            f"{len(batch)} pictures at a time do not fit into the memory of {predict.device}; give a smaller "
            "--batch-size or --long-side, or --device cpu"
        ) from error


def _finished(read: _Read, written: Future[Any]) -> Outcome:
    """Wait until a picture is written; what is wrong with this one alone is its failure."""
    path = read.job.path
    try:
        written.result()
    except ValueError as error:
        return Outcome(path, f"{printable(str(path))}: {error}")
    except (DataError, OSError) as error:
        fault = error if isinstance(error, OSError) else error.__cause__
        if isinstance(fault, OSError) and fault.errno == errno.ENAMETOOLONG:
            return Outcome(path, f"{printable(str(path))}: the names of its output would be too long")
        raise RunError(f"cannot write the prediction of {printable(path.name)}: {error}") from error
    return Outcome(path)


def _pixels(reads: Iterator[_Read]) -> int:
    return sum(read.image.shape[0] * read.image.shape[1] for read in reads)
