"""The processes that do the work of packing: our own, or any executor; results come in the order of the items.

Usage:

    with open_pool(workers=0, num_items=len(items)) as run:
        for prepared in run(prepare, items, config): ...
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Protocol, TypeVar

from shards.config import PackConfig
from shards.errors import DataError
from shards.names import printable
from shards.posix import num_cores
from shards.sources import Item

__all__ = ["Run", "open_pool"]

Result = TypeVar("Result")
_WAITING_PER_WORKER = 4


class Run(Protocol):
    """Calls a function of the module level for each item; no more than a few results wait at a time."""

    def __call__(
        self, function: Callable[[Item, PackConfig], Result], items: Sequence[Item], config: PackConfig
    ) -> Iterator[Result]:
        """Results in the order of the items; closing the iterator early drops what has not begun.

        Raises:
            DataError: A process died.
        """
        ...


@contextmanager
def open_pool(workers: int, num_items: int, executor: Executor | None = None) -> Iterator[Run]:
    """Open the pool for the length of a job.

    Args:
        workers: Processes, 0 for one a core; with an executor, how many it has.
        num_items: No more processes than that are started.
        executor: Used instead of processes of our own, and left open.
    """
    workers = workers or num_cores()
    if executor is not None:
        yield _Through(executor, _WAITING_PER_WORKER * workers)
        return
    workers = min(workers, num_items)
    if workers <= 1:
        yield _here
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin_worker)
    try:
        yield _Through(pool, _WAITING_PER_WORKER * workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _here(
    function: Callable[[Item, PackConfig], Result], items: Sequence[Item], config: PackConfig
) -> Iterator[Result]:
    for item in items:
        yield function(item, config)


class _Through:
    def __init__(self, executor: Executor, num_waiting: int) -> None:
        self._executor = executor
        self._num_waiting = num_waiting

    def __call__(
        self, function: Callable[[Item, PackConfig], Result], items: Sequence[Item], config: PackConfig
    ) -> Iterator[Result]:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        upcoming = iter(items)
        try:
            while True:
                while len(waiting) < self._num_waiting and (item := next(upcoming, None)) is not None:
                    with _interrupt_held():  # the first call starts the processes
                        waiting.append((item, self._executor.submit(function, item, config)))
                if not waiting:
                    return
                item, future = waiting.popleft()
                yield future.result()
        except BrokenExecutor as error:
            raise DataError(
                f"a packing process died near {printable(item.name) if item else 'the end'}, most likely for want of "
                "memory; lower shards.workers and start again to continue"
            ) from error
        finally:
            for _, future in waiting:
                future.cancel()


@contextmanager
def _interrupt_held() -> Iterator[None]:
    """Hold Ctrl-C back, so that no process is left half started.

    Processes started meanwhile are born deaf to it; else it would end their imports with a traceback. Blocking the
    signal is not enough here: another thread of this process may take it, and Python then interrupts the main thread.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or not hasattr(signal, "pthread_sigmask") or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    came: list[int] = []
    resource_tracker.ensure_running()  # its start unblocks the signal again
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def _begin_worker() -> None:
    """Ctrl-C reaches the whole group of processes, but the packing process decides; when that is killed, all end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody is left to be told
