"""Loader processes that start fast, end with their trainer and leave the signals to it.

Processes come from a fork server that has imported torch once: it holds no CUDA context, no threads and no locks of the
trainer, which a plain fork would copy, and it spares each worker the seconds that a spawned one spends on imports.

Launchers and schedulers send SIGTERM, SIGINT or SIGUSR1 to every process of a job. The trainer answers them by saving;
a worker that died of one would break the batch it still waits for. So workers ignore them, from their first moment on,
and end when the trainer closes them or dies.

    context = worker_context()
    with signals_held(): batches = iter(DataLoader(..., multiprocessing_context=context, worker_init_fn=init_worker))
"""

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

import cv2

from shards.errors import DataError

__all__ = ["GRACE_SECONDS", "init_worker", "killed_if_late", "signals_held", "stop_processes", "worker_context"]

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]
GRACE_SECONDS = 2.0
"""Time that processes have to end by themselves."""


def worker_context() -> BaseContext:
    """The way workers are started: a fork server where there is one (not on Windows).

    The server starts here and imports torch while the caller goes on.

    Raises:
        DataError: The folder of temporary files has too long a path for the server's socket.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver  # here, as Windows has none

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.data.loader"])
    with signals_held():
        try:
            forkserver.ensure_running()
        except OSError as error:
            if "too long" not in str(error):
                raise
            folder = tempfile.gettempdir()
            raise DataError(
                f"TMPDIR: {folder} is too long a path for a socket ({error}), over which loader processes are started; "
                "set TMPDIR to a shorter one, or data.num_workers=0"
            ) from error
    return context


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Block the signals of `init_worker` in this thread; processes started meanwhile are born with them blocked.

    One that arrives meanwhile is delivered to this process afterwards. The fork server needs this too: were it killed,
    its workers would believe that their trainer is gone.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start unblocks two of them again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def init_worker(worker_id: int) -> None:
    """Set up a loader process: no stop signals, one thread, and an end when the trainer ends."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # also where the server was started by somebody else
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def stop_processes(processes: Iterable[BaseProcess]) -> None:
    """Give processes that are about to end a moment, then kill those that are still there."""
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


@contextlib.contextmanager
def killed_if_late(processes: Sequence[BaseProcess]) -> Iterator[None]:
    """Within, processes are asked to end; those that take longer than a moment are killed."""

    def kill() -> None:
        for process in processes:
            process.kill()

    if not processes:
        yield
        return
    timer = threading.Timer(GRACE_SECONDS, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_with_parent() -> None:
    # torch watches the parent's process id, which under a fork server is the server's: it outlives the trainer as long
    # as a worker does, so both would stay for ever after a SIGKILL of the trainer.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
