"""The training stream: batches of the endless order, prepared by worker processes.

The dataset is map-style over positions of the stream and the batch sampler yields plain integers, so torch hands the
batches out in order whatever the number of workers. A position alone decides what its picture looks like.

    stream = TrainStream(data, size_hw=(384, 384), seed=0, batch_size=8, micro_batch_size=None, rank=0, world_size=1)
    for micro_batches in stream.steps(start_step): ...
"""

import math
import multiprocessing
import weakref
from collections.abc import Iterator
from itertools import count
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.data.config import DataConfig
from pipeline.data.order import ORDER_VERSION, SampleOrder, rank_slots
from pipeline.data.store import ShardStore
from pipeline.data.training_sample import TrainingPicture, training_picture
from pipeline.data.workers import init_worker, signals_held, stop_processes, worker_context
from shards.errors import ConfigError, DataError
from shards.format import Sample
from shards.randomness import CounterRng
from shards.storage import shown

__all__ = ["Batch", "TrainStream", "validation_samples"]

Batch = dict[str, Any]
"""The fields of `TrainingPicture` stacked; `sample` and `positions`, int64 (b,); `keys`, a list of b strings."""


class TrainStream:
    """This process's part of the stream. Close it when done; a new call of `steps` ends the former one.

    Args:
        data: Which shards, in which order, with which pairs.
        size_hw: Height and width of the network's input.
        seed: Seeds the order, the geometry and the pairs.
        batch_size: Samples of a step over all processes.
        micro_batch_size: Samples of one of the batches that make up a process's share of a step; None takes all of it.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        ConfigError: The processes do not divide the batch.
        ShardError: The dataset is missing, incomplete or damaged.
    """

    def __init__(
        self,
        data: DataConfig,
        *,
        size_hw: tuple[int, int],
        seed: int,
        batch_size: int,
        micro_batch_size: int | None,
        rank: int,
        world_size: int,
    ) -> None:
        self._slots = rank_slots(batch_size, rank, world_size)
        self._batch_size = batch_size
        self._micro_batch_size = min(micro_batch_size or len(self._slots), len(self._slots))
        self._num_workers = data.num_workers
        self._context = worker_context() if data.num_workers else None
        store = ShardStore(data.train, "train", data.cache_dir, data.limit)
        order = SampleOrder(store.shard_sizes, seed=seed, lanes=data.lanes, window=data.window)
        self._pictures = _Pictures(store, order, data, size_hw)
        self._batches: Iterator[Any] | None = None
        self._opened = 0
        self._end_workers: weakref.finalize[[list[BaseProcess]], TrainStream] | None = None
        self.num_samples = order.num_samples
        """Samples of an epoch."""
        self.identity: dict[str, Any] = {
            "order_version": ORDER_VERSION,
            "fingerprint": store.fingerprint,
            "num_samples": order.num_samples,
            "limit": data.limit,
            "lanes": data.lanes,
            "window": data.window,
            "seed": seed,
            "batch_size": batch_size,
        }
        """Everything that decides which sample is where; kept in checkpoints."""

    def steps(self, start_step: int) -> Iterator[list[Batch]]:
        """Endless optimizer steps from `start_step` on, each a list of micro-batches; loading begins at once.

        Raises:
            DataError: While iterating: a sample is damaged, or a worker died.
        """
        self.close()
        self._opened += 1
        self._batches = self._start(start_step)
        return self._steps()

    def close(self) -> None:
        """End the workers and close the shards; nothing happens where none are open."""
        self._batches = None  # torch asks the workers to end
        if self._end_workers is not None:
            self._end_workers()
            self._end_workers = None
        self._pictures.store.close()

    def _start(self, start_step: int) -> Iterator[Any]:
        # A generator of its own, or torch would draw the workers' seed from the global one and so change the training.
        loader = DataLoader(
            self._pictures,
            batch_sampler=_positions(start_step, self._batch_size, self._slots, self._micro_batch_size),
            collate_fn=_as_it_is,
            generator=torch.Generator(),
            pin_memory=torch.cuda.is_available(),
            num_workers=self._num_workers,
            multiprocessing_context=self._context,
            worker_init_fn=init_worker,
        )
        others = set(multiprocessing.active_children())
        with signals_held():
            batches = iter(loader)
        workers = [child for child in multiprocessing.active_children() if child not in others]
        # Also at exit: multiprocessing would wait for ever for workers that do not heed SIGTERM.
        self._end_workers = weakref.finalize(self, stop_processes, workers)
        return batches

    def _steps(self) -> Iterator[list[Batch]]:
        number = math.ceil(len(self._slots) / self._micro_batch_size)
        opened = self._opened
        while self._batches is not None and opened == self._opened:
            yield [self._next_batch() for _ in range(number)]

    def _next_batch(self) -> Batch:
        # The workers end when the last reference to torch's iterator goes, so no local name (which a traceback would
        # keep alive) holds it.
        assert self._batches is not None
        try:
            batch: Batch | DataError = next(self._batches)
        except (RuntimeError, ConnectionError, EOFError) as error:
            # A worker that dies while it hands over a batch breaks the connection instead.
            if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker (pid"):
                raise
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise DataError(
                f"a loader process died, most likely of too little memory: {reason}; "
                "lower data.num_workers, or give the job more memory"
            ) from None
        if isinstance(batch, DataError):
            raise batch
        return batch


def validation_samples(
    data: DataConfig, rank: int, world_size: int, max_samples: int | None = None
) -> Iterator[Sample]:
    """This process's share of the validation samples: every `world_size`-th of the first `max_samples`, as stored.

    Raises:
        ConfigError: `data.val` is not set.
        ShardError: The dataset is missing, or a sample is damaged.
    """
    if data.val is None:
        raise ConfigError("data.val: it is not set, so there is nothing to validate on")
    store = ShardStore(data.val, "val", data.cache_dir, max_samples)
    try:
        for sample in range(rank, len(store), world_size):
            yield store.read(sample)
    finally:
        store.close()


class _Pictures(Dataset[Any]):
    """Map-style dataset over positions of the stream; lives in the workers."""

    def __init__(self, store: ShardStore, order: SampleOrder, config: DataConfig, size_hw: tuple[int, int]) -> None:
        self.store = store
        self._order = order
        self._config = config
        self._size_hw = size_hw

    def __getitems__(self, positions: list[int]) -> Batch | DataError:
        """A whole batch; an error of the data comes as a value, as torch would wrap it into a worker's traceback."""
        try:
            located = [(position, *self._order.locate(position)) for position in positions]
            prepared = [self._prepare(*place) for place in located]
        except DataError as error:
            return error.with_traceback(None)
        keys, pictures = zip(*prepared, strict=True)
        batch: Batch = {
            name: torch.stack([getattr(picture, name) for picture in pictures]) for name in TrainingPicture._fields
        }
        batch["sample"] = torch.tensor([sample for _, _, sample in located])
        batch["positions"] = torch.tensor(positions)
        batch["keys"] = list(keys)
        return batch

    def _prepare(self, position: int, epoch: int, sample: int) -> tuple[str, TrainingPicture]:
        key = (self._order.seed, self.store.fingerprint, epoch, sample)
        view_rng, pairs_rng = CounterRng(*key, "view"), CounterRng(*key, "pairs")
        try:
            stored = self.store.read(sample)
            try:
                return stored.key, training_picture(stored, self._config, self._size_hw, view_rng, pairs_rng)
            except DataError as error:
                raise type(error)(f"{shown(self.store.url)}: {error}") from error
        except DataError:
            raise
        except Exception as error:
            error.add_note(f"while preparing sample {sample} of {shown(self.store.url)}, position {position}")
            raise


def _positions(start_step: int, batch_size: int, slots: range, micro_batch_size: int) -> Iterator[list[int]]:
    """Positions of each micro-batch of this process, from a step on, without end."""
    for step in count(start_step):
        for first in range(0, len(slots), micro_batch_size):
            yield [step * batch_size + slot for slot in slots[first : first + micro_batch_size]]


def _as_it_is(batch: Any) -> Any:
    return batch
