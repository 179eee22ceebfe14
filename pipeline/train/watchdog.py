"""Ends a job in which nothing gets on any more, and says which process is to blame.

A thread of each process looks at how long ago its process reported progress, and tells the others through a store of
their own. When the time is up and no other process gets on either, it says so, writes the stacks, and exits: the
launcher then ends the rest. A process that cannot speak, stopped or stuck in native code, is named by the others.

    with Watchdog(1800, run_dir, rank=0, world_size=2, store=open_store(0, 2, machine.on_main)) as watchdog:
        watchdog.progress("step 120 done")

Time in which the thread itself did not run (Ctrl-Z, a debugger, a laptop that slept) does not count. A process alone
whose native code keeps the interpreter's lock is the one hang that cannot be seen.
"""

import contextlib
import faulthandler
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch does not list it

from pipeline.train.machine import is_lost_process
from pipeline.train.status import hang_report
from shards.errors import RunError

__all__ = ["LostProcessError", "Report", "Watchdog", "blame", "open_store", "place_of"]

_LONGEST_TICK_SECONDS = 5.0
_TICKS_A_LIMIT = 20
_SILENT_TICKS = 6
"""A process whose beat stands still for so many ticks does not answer."""
_LAST_SECONDS = 30.0
"""What saying goodbye may take; a full pipe must not keep a hanging process alive."""
_ANSWER_SECONDS = 5.0
_LAST_WORDS = 500
_STORE_TIMEOUT = timedelta(seconds=60)
_ROOT = Path(__file__).parents[2]
_WAITS = (
    ("torch/distributed/", "waits for the other processes"),
    ("torch/nn/parallel/", "waits for the other processes"),
    ("torch/cuda/", "waits for its GPU, and with it perhaps for the other processes"),
    ("torch/autograd/", "computes gradients, or waits for those of the other processes"),
    ("torch/utils/data/", "waits for its loader processes"),
    ("pipeline/data/one_ahead", "waits for its loader processes"),
    ("pipeline/data/", "waits for data"),
)


@dataclass(frozen=True)
class Report:
    """What a process tells the others about itself."""

    rank: int
    beat: int
    """Rises as long as its watchdog runs."""
    idle_seconds: float
    """Since its last progress, less what it has leave to take."""
    last: str
    """What it did last."""
    place: str
    """Where its main thread is."""
    error: str | None = None
    """What it died of."""


class LostProcessError(RunError):
    """Another process of the job has gone."""

    words: str | None = None
    """What it left word of; None where it was killed."""


class Watchdog:
    """Watches this process, and with the others' help all of them.

    Args:
        limit_seconds: Longest time without progress.
        run_dir: Where `hang-rankN.txt` goes.
        rank: Number of this process.
        world_size: Number of processes.
        store: Through which the processes tell each other; None for a process alone. See `open_store`.
    """

    def __init__(
        self,
        limit_seconds: float,
        run_dir: Path,
        *,
        rank: int = 0,
        world_size: int = 1,
        store: Any = None,
    ) -> None:
        self.on_hang: Callable[[str], None] = _nothing
        """Called with the reason before the process ends, in the lowest process that still answers."""
        self._limit_seconds = limit_seconds
        self._tick_seconds = min(_LONGEST_TICK_SECONDS, limit_seconds / _TICKS_A_LIMIT)
        self._run_dir = run_dir
        self._rank = rank
        self._others = [number for number in range(world_size) if number != rank]
        self._store = store
        self._main = threading.main_thread().ident
        self._last = "started"
        self._due = 0.0
        self._beat = 0
        self._error: str | None = None
        self._heard: dict[int, tuple[Report, float]] = {}
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.progress("started")
        works = [self._watch] if self._store is None else [self._watch, self._exchange]
        for work in works:
            threading.Thread(target=work, name=f"watchdog{work.__name__}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def progress(self, what: str, *, leave_seconds: float = 0.0) -> None:
        """Something is done, or begins.

        Args:
            what: In a few words; it is shown when nothing follows.
            leave_seconds: What the next thing may take beyond the usual limit.
        """
        self._last = what
        self._due = time.monotonic() + leave_seconds

    def explained(self, error: Exception) -> Exception:
        """An error of this process, or what became of the one whose loss it shows; to be called before it ends.

        What this process dies of is told to the others, whose collective operations fail when it is gone.
        """
        store = self._store
        if store is None or isinstance(error, LostProcessError):
            return error
        if not is_lost_process(error):
            self._error = f"{type(error).__name__}: {error}".splitlines()[0][:_LAST_WORDS]
            _within(_ANSWER_SECONDS, lambda: self._tell(store))
            return error
        reports: list[Report] = []
        if self._rank == 0:  # the store may have gone with its host
            _within(_ANSWER_SECONDS, lambda: reports.extend(self._read(store)))
        words = next((f"rank {report.rank} ended with {report.error}" for report in reports if report.error), None)
        text = words or "another process of the job has been killed or has lost its connection"
        lost = LostProcessError(f"{text}; this one had done {self._last}")
        lost.words = words
        return lost

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(self._tick_seconds):
            now = time.monotonic()
            if now - looked > 2 * self._tick_seconds + 1:  # this process did not run meanwhile
                self._due += now - looked
            looked = now
            self._beat += 1
            if now - self._due < self._limit_seconds:
                continue
            heard = dict(self._heard)
            oldest = now - _SILENT_TICKS * self._tick_seconds
            answering = [report for report, since in heard.values() if since >= oldest]
            if all(report.idle_seconds >= self._limit_seconds for report in answering):
                silent = [heard[n][0] if n in heard else _unheard(n) for n in self._others]
                self._end(answering, [report for report in silent if report not in answering])

    def _exchange(self) -> None:
        """Tell and listen; a thread of its own, as a store whose host has been stopped never answers."""
        store = self._store
        assert store is not None
        with contextlib.suppress(RuntimeError):  # the store has gone with its host
            while not self._ended.wait(self._tick_seconds):
                self._tell(store)
                for report in self._read(store):
                    before = self._heard.get(report.rank)
                    if before is None or before[0].beat != report.beat:
                        self._heard[report.rank] = report, time.monotonic()

    def _tell(self, store: Any) -> None:
        store.set(f"report/{self._rank}", json.dumps(asdict(self._own())))

    def _read(self, store: Any) -> list[Report]:
        return [Report(**json.loads(text)) for text in store.multi_get([f"report/{n}" for n in self._others])]

    def _own(self) -> Report:
        frame = sys._current_frames().get(self._main or 0)
        idle_seconds = time.monotonic() - self._due
        return Report(self._rank, self._beat, idle_seconds, self._last, place_of(_files(frame)), self._error)

    def _end(self, answering: Sequence[Report], silent: Sequence[Report]) -> None:
        """Say it, write it down, and end the process and its workers."""
        # In C and without the interpreter: whatever below gets stuck, the process ends.
        faulthandler.dump_traceback_later(_LAST_SECONDS, exit=True)
        own = self._own()
        text = blame(own, answering, silent)
        path = hang_report(self._run_dir, self._rank)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"error: {text}; stacks follow and lie in {path}\n")
            sys.stderr.flush()
            faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
        with contextlib.suppress(OSError), path.open("w") as file:
            file.write(f"{text}\n\n")
            file.flush()
            faulthandler.dump_traceback(file)
        if own.rank <= min((report.rank for report in answering), default=own.rank):
            with contextlib.suppress(Exception):  # nothing may keep the process alive now
                self.on_hang(f"{text}; stacks in {path}")
        for child in multiprocessing.active_children():
            child.kill()  # a worker that has been stopped would not notice that its trainer is gone
        os._exit(1)


def open_store(rank: int, world_size: int, share: Callable[[Callable[[], int]], int]) -> Any:
    """A store of the watchdogs alone, in the process of rank 0: no other traffic can block it.

    Args:
        rank: Number of this process.
        world_size: Number of processes.
        share: Runs a function in rank 0 and returns its result in all processes.
    """
    host = os.environ.get("MASTER_ADDR", "127.0.0.1")

    def serve() -> Any:
        store = TCPStore(host, 0, is_master=True, timeout=_STORE_TIMEOUT, wait_for_workers=False)
        for number in range(world_size):
            store.set(f"report/{number}", json.dumps(asdict(_unheard(number))))
        return store

    mine = serve() if rank == 0 else None
    port = share(lambda: 0 if mine is None else mine.port)
    return mine or TCPStore(host, port, is_master=False, timeout=_STORE_TIMEOUT, wait_for_workers=False)


def blame(own: Report, answering: Iterable[Report], silent: Sequence[Report]) -> str:
    """One paragraph: what this process was at, and which process the others wait for."""
    text = (
        f"rank {own.rank} has got no further for {_duration(own.idle_seconds)}: after '{own.last}' it {own.place}"
        f" (session.hang_minutes)"
    )
    busy = [report for report in answering if not _waits_for_others(report.place)]
    if any(report.rank == 0 for report in silent):
        silent = [report for report in silent if report.rank == 0]  # through it all reports go
    if silent:
        named = "; ".join(f"rank {report.rank}, last heard of at '{report.last}'," for report in silent)
        text += f"; {named} does not answer: it is stopped, gone, or stuck in native code"
    for report in busy:
        text += f"; rank {report.rank} after '{report.last}' {report.place}"
    return text


def place_of(files: Sequence[str]) -> str:
    """Where a thread is, in words.

    Args:
        files: `FILE:LINE FUNCTION` of its frames, innermost first.
    """
    found = next((what for file in files for part, what in _WAITS if part in file), "is busy")
    ours = next((file for file in files if file.startswith(("pipeline/", "shards/", "model/", "launch/"))), "")
    return f"{found} at {ours}" if ours else found


def _files(frame: FrameType | None) -> list[str]:
    files = []
    while frame is not None:
        path = frame.f_code.co_filename
        path = path.removeprefix(f"{_ROOT}/")
        files.append(f"{path}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return files


def _waits_for_others(place: str) -> bool:
    return "other processes" in place


def _unheard(rank: int) -> Report:
    return Report(rank, beat=0, idle_seconds=0.0, last="its start", place="is busy")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _within(seconds: float, action: Callable[[], None]) -> None:
    """Run something that may never return, for so long."""

    def run() -> None:
        with contextlib.suppress(RuntimeError):
            action()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)


def _nothing(reason: str) -> None:
    """Nobody wants to know."""
