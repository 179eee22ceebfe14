"""One run of the loader's processes: from their start to their end they give the batches of a list of positions.

The dataset is map-style and the batch sampler yields the positions, so torch's DataLoader hands the batches out in
order, whatever the number of processes; they come in slots of shared memory. A thread takes them one ahead, which hides
the message, the tensors and, for a GPU, the copy to pinned memory.

    loading = Loading(pictures, batches, positions, before_take, num_workers=2, context=worker_context())
    batch = loading.next_batch()
    loading.close()
"""

import logging
import multiprocessing
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from multiprocessing.context import BaseContext
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.data.one_ahead import OneAhead
from pipeline.data.pictures import Loaded, Pictures
from pipeline.data.shared_batches import SharedBatches
from pipeline.data.workers import GRACE_SECONDS, init_worker, killed_if_late, signals_held, stop_processes
from shards.errors import DataError

__all__ = ["AHEAD", "Batch", "Loading"]

Batch = dict[str, Any]
"""The fields of `TrainingPicture` that are not None, stacked; `dataset` (its number in the mixture), `sample` (of that
dataset) and `positions`, int64 (b,); `keys`, b strings; `replaced`, how many stand in for unreadable samples (int)."""
AHEAD = 2
"""Batches that each process prepares ahead."""
_NAMED = 5  # unreadable samples that are named in warnings
_log = logging.getLogger("depthrank")


class Loading:
    """Batches from processes that start here, or made by this process where `num_workers` is 0.

    Args:
        pictures: Makes a batch.
        batches: Where `pictures` makes them, with room for `AHEAD` batches a worker under way.
        positions: Of the samples of each batch.
        before_take: Called with the number of each batch, from 0 on, before it is taken: with workers, while the
            consumer has the one before. It must not refer to who holds this object, or neither would ever be gone.
        num_workers: Processes.
        context: How they are started; None without processes.
    """

    def __init__(
        self,
        pictures: Pictures,
        batches: SharedBatches,
        positions: Iterable[list[int]],
        before_take: Callable[[int], None],
        num_workers: int,
        context: BaseContext | None,
    ) -> None:
        # A generator of its own, or torch would draw the workers' seed from the global one and so change the training.
        loader = DataLoader(
            pictures,
            batch_sampler=batches.tasks(positions),  # type: ignore[arg-type]  # torch hands on what it yields
            collate_fn=_as_it_is,
            generator=torch.Generator(),
            num_workers=num_workers,
            prefetch_factor=AHEAD if num_workers else None,
            multiprocessing_context=context,
            worker_init_fn=init_worker,
        )
        others = set(multiprocessing.active_children())
        with signals_held():
            loaded = iter(loader)
        self._workers = [child for child in multiprocessing.active_children() if child not in others]
        # Also at exit: multiprocessing would wait for ever for workers that do not heed SIGTERM.
        self._end_workers = weakref.finalize(self, stop_processes, self._workers)
        cuda_device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        # torch ends its workers when its iterator is gone, so only this generator may refer to it.
        self._taken = _take(loaded, batches, before_take, cuda_device)
        if num_workers:
            self._taken = OneAhead(self._taken, GRACE_SECONDS)
        self._named = 0
        self.fetched_bytes = 0
        """What the worker processes have fetched from remote stores for the batches so far."""

    def next_batch(self) -> Batch:
        """The next batch.

        Raises:
            DataError: A sample is damaged, or a worker died.
        """
        try:
            loaded, tensors = next(self._taken)
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
        if self._workers:  # else the stores are this process's own
            self.fetched_bytes += loaded.fetched_bytes
        return {**tensors, "keys": loaded.keys, "replaced": loaded.replaced}

    def close(self) -> None:
        """End the processes: those that take longer than a moment, as in a fetch that is stuck, are killed."""
        with killed_if_late(self._workers):  # torch would wait seconds for each
            if isinstance(self._taken, OneAhead):
                self._taken.close()
            del self._taken
            self._end_workers()

    def _warn(self, unreadable: list[str]) -> None:
        """Name the first samples that others stand in for; the batches count all of them."""
        for reason in unreadable[: max(0, _NAMED - self._named)]:
            _log.warning("data.on_bad_shard: another sample stands in for one that cannot be read: %s", reason)
        if self._named < _NAMED <= self._named + len(unreadable):
            _log.warning("data.on_bad_shard: further samples that cannot be read are counted only")
        self._named += len(unreadable)


def _take(
    loaded: Iterator[Loaded | DataError],
    batches: SharedBatches,
    before_take: Callable[[int], None],
    cuda_device: int | None,
) -> Iterator[tuple[Loaded | DataError, dict[str, Tensor]]]:
    """What torch hands out, and the tensors in its slot; of an error none."""
    if cuda_device is not None:
        # Each thread has its own: pinned memory might else open the first GPU as well.
        torch.cuda.set_device(cuda_device)
    for number in count():
        before_take(number)
        one = next(loaded)
        if isinstance(one, DataError):
            yield one, {}
        else:
            yield one, batches.take(one.slot, len(one.keys))


def _as_it_is(batch: Any) -> Any:
    return batch
