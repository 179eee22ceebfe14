"""The training stream: batches of the endless order, prepared by worker processes.

The dataset is map-style over positions of the stream and the batch sampler yields integers, so torch hands the batches
out in order whatever the number of workers; they come in slots of shared memory. A position alone decides what its
picture looks like. The stream has no end, so the workers start once and live as long as the run.

    stream = TrainStream(data, size_hw=(384, 384), seed=0, batch_size=8, micro_batch_size=None, rank=0, world_size=1)
    for micro_batches in stream.steps(start_step): ...
"""

import logging
import math
import multiprocessing
import weakref
from collections.abc import Iterator, Sequence
from itertools import count
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader

from pipeline.data.config import DataConfig
from pipeline.data.mixture import Mixture
from pipeline.data.order import ORDER_VERSION, SampleOrder, rank_slots
from pipeline.data.pictures import Loaded, Pictures, batch_fields
from pipeline.data.shared_batches import SharedBatches
from pipeline.data.store import ShardStore
from pipeline.data.workers import init_worker, killed_if_late, signals_held, stop_processes, worker_context
from shards.errors import ConfigError, DataError
from shards.format import Sample
from shards.manifest import SplitName

__all__ = ["Batch", "TrainStream", "count_validation_samples", "validation_samples"]

Batch = dict[str, Any]
"""The fields of `TrainingPicture` that are not None, stacked; `dataset` (its number in the mixture), `sample` (of that
dataset) and `positions`, int64 (b,); `keys`, b strings; `replaced`, how many stand in for unreadable samples (int)."""
_AHEAD = 2  # batches that each worker prepares ahead
_NAMED = 5  # unreadable samples that are named in warnings
_log = logging.getLogger("depthrank")


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
        node_ranks: Numbers of the processes of this machine, which share one cache; None: this one alone.
        dense: Whether the batches hold `inverse_depth` and `confidence`; a loss on pairs needs neither.

    Raises:
        ConfigError: The processes do not divide the batch, or a dataset is listed twice.
        ShardError: A dataset is missing, incomplete or damaged.
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
        dense: bool = True,
        node_ranks: range | None = None,
    ) -> None:
        self._slots = rank_slots(batch_size, rank, world_size)
        self._batch_size = batch_size
        self._micro_batch_size = min(micro_batch_size or len(self._slots), len(self._slots))
        self._num_workers = data.num_workers
        self._context = worker_context() if data.num_workers else None
        self._node_ranks = node_ranks or range(rank, rank + 1)
        self._world_size = world_size
        self._data, self._seed = data, seed
        self._size_hw, self._dense = size_hw, dense
        share = 1 / len(data.datasets)
        self._stores = stores = [
            _open_store(data, dataset.url, "train", data.limit, share) for dataset in data.datasets
        ]
        _refuse_repetition([store.fingerprint for store in stores])
        orders = [SampleOrder(store.shard_sizes, seed=seed, lanes=data.lanes, window=data.window) for store in stores]
        self._mixture = Mixture(orders, [dataset.weight for dataset in data.datasets])
        self._batches: SharedBatches | None = None
        self._loaded: Iterator[Any] | None = None
        self._opened = 0
        self._named = 0
        self._fetched_by_workers = 0
        self._workers: list[BaseProcess] = []
        self._end_workers: weakref.finalize[[list[BaseProcess]], TrainStream] | None = None
        self.num_samples = self._mixture.num_samples
        """Samples of an epoch; of a mixture, of all its datasets together."""
        self.identity: dict[str, Any] = {
            "order_version": ORDER_VERSION,
            **_datasets_identity(stores, self._mixture),
            "num_samples": self.num_samples,
            "limit": data.limit,
            "lanes": data.lanes,
            "window": data.window,
            "seed": seed,
            "batch_size": batch_size,
        }
        """Everything that decides which sample is where, as JSON values; kept in checkpoints."""

    def steps(self, start_step: int) -> Iterator[list[Batch]]:
        """Endless optimizer steps from `start_step` on, each a list of micro-batches; loading begins at once.

        Raises:
            DataError: While iterating: a sample is damaged, or a worker died.
        """
        self.close()
        self._opened += 1
        self._fetch_ahead(start_step)
        self._start(start_step)
        return self._steps(start_step)

    def locate(self, position: int) -> tuple[int, int, int]:
        """Dataset, its epoch and the sample that belong at a position of the stream."""
        return self._mixture.locate(position)

    @property
    def fetched_bytes(self) -> int:
        """What this process and its workers have fetched from remote stores so far, indexes included."""
        return self._fetched_by_workers + sum(store.fetched.bytes for store in self._stores)

    def close(self) -> None:
        """End the workers and close the shards; nothing happens where none are open."""
        with killed_if_late(self._workers):  # torch would wait seconds for each that is stuck in a fetch
            self._loaded = None  # torch asks the workers to end
        self._workers = []
        if self._end_workers is not None:
            self._end_workers()
            self._end_workers = None
        self._batches = None
        for store in self._stores:
            store.close()

    def _start(self, start_step: int) -> None:
        fields = batch_fields(self._data, self._size_hw, self._dense)
        self._batches = SharedBatches(fields, self._micro_batch_size, under_way=_AHEAD * self._num_workers)
        positions = _positions(start_step, self._batch_size, self._slots, self._micro_batch_size)
        # A generator of its own, or torch would draw the workers' seed from the global one and so change the training.
        loader = DataLoader(
            Pictures(self._stores, self._mixture, self._data, self._seed, self._batches, self._dense),
            batch_sampler=self._batches.tasks(positions),  # type: ignore[arg-type]  # torch hands on what it yields
            collate_fn=_as_it_is,
            generator=torch.Generator(),
            num_workers=self._num_workers,
            prefetch_factor=_AHEAD if self._num_workers else None,
            multiprocessing_context=self._context,
            worker_init_fn=init_worker,
        )
        others = set(multiprocessing.active_children())
        with signals_held():
            self._loaded = iter(loader)
        self._workers = [child for child in multiprocessing.active_children() if child not in others]
        # Also at exit: multiprocessing would wait for ever for workers that do not heed SIGTERM.
        self._end_workers = weakref.finalize(self, stop_processes, self._workers)

    def _steps(self, start_step: int) -> Iterator[list[Batch]]:
        number = math.ceil(len(self._slots) / self._micro_batch_size)
        opened = self._opened
        for step in count(start_step):
            if self._loaded is None or opened != self._opened:
                return
            self._fetch_ahead(step)
            yield [self._next_batch() for _ in range(number)]

    def _fetch_ahead(self, step: int) -> None:
        """Tell the stores what this machine needs from a step on, or its processes would evict each other's shards."""
        coming = self._mixture.coming_shards(step * self._batch_size, self._node_ranks, self._world_size)
        for store, shards in zip(self._stores, coming, strict=True):
            store.prefetch(shards)

    def _next_batch(self) -> Batch:
        # The workers end when the last reference to torch's iterator goes, so no local name (which a traceback would
        # keep alive) holds it.
        assert self._loaded is not None
        assert self._batches is not None
        try:
            loaded: Loaded | DataError = next(self._loaded)
        except (RuntimeError, ConnectionError, EOFError) as error:
            # A worker that dies while it hands over a batch breaks the connection instead.
            if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker (pid"):
                raise
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise DataError(
                f"a loader process died, most likely of too little memory: {reason}; "
                "lower data.num_workers, or give the job more memory"
            ) from None
        if isinstance(loaded, DataError):
            raise loaded
        self._warn(loaded.unreadable)
        if self._num_workers:  # else the stores are this process's own
            self._fetched_by_workers += loaded.fetched_bytes
        batch: Batch = self._batches.take(loaded.slot, len(loaded.keys))
        return {**batch, "keys": loaded.keys, "replaced": loaded.replaced}

    def _warn(self, unreadable: list[str]) -> None:
        """Name the first samples that others stand in for; the batches count all of them."""
        for reason in unreadable[: max(0, _NAMED - self._named)]:
            _log.warning("data.on_bad_shard: another sample stands in for one that cannot be read: %s", reason)
        if self._named < _NAMED <= self._named + len(unreadable):
            _log.warning("data.on_bad_shard: further samples that cannot be read are counted only")
        self._named += len(unreadable)


def count_validation_samples(data: DataConfig, max_samples: int | None = None) -> int:
    """How many `validation_samples` gives all processes together; 0 where `data.val` is not set.

    Raises:
        ShardError: The dataset is missing.
    """
    if data.val is None:
        return 0
    store = _open_store(data, data.val, "val", max_samples)
    try:
        return len(store)
    finally:
        store.close()


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
    store = _open_store(data, data.val, "val", max_samples)
    try:
        for sample in range(rank, len(store), world_size):
            yield store.read(sample)
    finally:
        store.close()


def _open_store(
    data: DataConfig, url: str, split: SplitName, limit: int | None, cache_share: float = 1.0
) -> ShardStore:
    return ShardStore(
        url,
        split,
        data.cache_dir,
        limit,
        cache_bytes=None if data.cache_gb is None else int(data.cache_gb * 1e9),
        cache_share=cache_share,
        retry_seconds=60 * data.retry_minutes,
    )


def _refuse_repetition(fingerprints: Sequence[str]) -> None:
    for number, fingerprint in enumerate(fingerprints):
        first = fingerprints.index(fingerprint)
        if first < number:
            raise ConfigError(
                f"data.train[{number}]: the same dataset as data.train[{first}]; list it once, with both weights"
            )


def _datasets_identity(stores: Sequence[ShardStore], mixture: Mixture) -> dict[str, Any]:
    """What identifies the datasets; of one alone as it was before there were mixtures."""
    if len(stores) == 1:
        return {"fingerprint": stores[0].fingerprint}
    return {
        "datasets": [
            {"fingerprint": store.fingerprint, "num_samples": len(store), "weight": weight}
            for store, weight in zip(stores, mixture.weights, strict=True)
        ]
    }


def _positions(start_step: int, batch_size: int, slots: range, micro_batch_size: int) -> Iterator[list[int]]:
    """Positions of each micro-batch of this process, from a step on, without end."""
    for step in count(start_step):
        for first in range(0, len(slots), micro_batch_size):
            yield [step * batch_size + slot for slot in slots[first : first + micro_batch_size]]


def _as_it_is(batch: Any) -> Any:
    return batch
