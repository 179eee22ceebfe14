"""The training stream: batches of the endless order, prepared by worker processes.

A position of the stream alone decides which sample is there and what its picture looks like. The stream has no end, so
the workers start once and live as long as the run.

    stream = TrainStream(data, size_hw=(384, 384), seed=0, batch_size=8, micro_batch_size=None, rank=0, world_size=1)
    for micro_batches in stream.steps(start_step): ...
"""

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from pipeline.data.config import DataConfig
from pipeline.data.loading import AHEAD, Batch, Loading
from pipeline.data.mixture import Mixture
from pipeline.data.order import ORDER_VERSION, SampleOrder, rank_slots
from pipeline.data.pictures import Pictures, batch_fields
from pipeline.data.shared_batches import SharedBatches
from pipeline.data.store import ShardStore
from pipeline.data.workers import worker_context
from shards.errors import ConfigError
from shards.format import Sample
from shards.manifest import SplitName

__all__ = ["Batch", "TrainStream", "count_validation_samples", "validation_samples"]


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
        pinned: Whether the batches lie in pinned memory, for a run on a GPU.

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
        pinned: bool = False,
    ) -> None:
        self._slots = rank_slots(batch_size, rank, world_size)
        self._batch_size = batch_size
        self._micro_batch_size = min(micro_batch_size or len(self._slots), len(self._slots))
        self._batches_a_step = math.ceil(len(self._slots) / self._micro_batch_size)
        self._num_workers = data.num_workers
        self._context = worker_context() if data.num_workers else None
        self._node_ranks = node_ranks or range(rank, rank + 1)
        self._world_size = world_size
        self._data, self._seed = data, seed
        self._size_hw, self._dense, self._pinned = size_hw, dense, pinned
        share = 1 / len(data.datasets)
        self._stores = stores = [
            _open_store(data, dataset.url, "train", data.limit, share) for dataset in data.datasets
        ]
        _refuse_repetition([store.fingerprint for store in stores])
        orders = [SampleOrder(store.shard_sizes, seed=seed, lanes=data.lanes, window=data.window) for store in stores]
        self._mixture = Mixture(orders, [dataset.weight for dataset in data.datasets])
        self._loading: Loading | None = None
        self._fetched_by_workers = 0  # of the loadings that are closed
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
        self._loading = self._start(start_step)
        return self._steps(self._loading)

    def locate(self, position: int) -> tuple[int, int, int]:
        """Dataset, its epoch and the sample that belong at a position of the stream."""
        return self._mixture.locate(position)

    @property
    def fetched_bytes(self) -> int:
        """What this process and its workers have fetched from remote stores so far, indexes included."""
        by_workers = self._fetched_by_workers + (self._loading.fetched_bytes if self._loading is not None else 0)
        return by_workers + sum(store.fetched.bytes for store in self._stores)

    def close(self) -> None:
        """End the workers and close the shards; nothing happens where none are open."""
        if self._loading is not None:
            self._loading.close()
            self._fetched_by_workers += self._loading.fetched_bytes
            self._loading = None
        for store in self._stores:
            store.close()

    def _start(self, start_step: int) -> Loading:
        fields = batch_fields(self._data, self._size_hw, self._dense)
        under_way = AHEAD * self._num_workers
        batches = SharedBatches(fields, self._micro_batch_size, under_way, pinned=self._pinned)
        pictures = Pictures(self._stores, self._mixture, self._data, self._seed, batches, self._dense)
        positions = _positions(start_step, self._batch_size, self._slots, self._micro_batch_size)
        # Names of their own, as what the loading calls must not refer to this stream.
        stores, mixture, node_ranks, world_size = self._stores, self._mixture, self._node_ranks, self._world_size
        batch_size, batches_a_step = self._batch_size, self._batches_a_step

        def fetch_ahead(number: int) -> None:
            """Tell the stores what this machine needs from now on, or its processes would evict each other's shards."""
            if number % batches_a_step:
                return
            # The batch before is in use, so other processes may still wait for theirs of that step.
            step = start_step + max(0, number // batches_a_step - 1)
            coming = mixture.coming_shards(step * batch_size, node_ranks, world_size)
            for store, shards in zip(stores, coming, strict=True):
                store.prefetch(shards)

        fetch_ahead(0)  # while the workers start
        return Loading(pictures, batches, positions, fetch_ahead, self._num_workers, self._context)

    def _steps(self, loading: Loading) -> Iterator[list[Batch]]:
        while self._loading is loading:
            yield [loading.next_batch() for _ in range(self._batches_a_step)]


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
