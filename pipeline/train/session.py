"""When to stop early and in order: signals, a stop file, a wall-clock budget, a launcher that is gone.

Nothing here stops anything: the loop asks at each step, and inside long evaluations, and then saves and leaves.

    with Session(config.session, run_dir) as session:
        for step in ...:
            if reason := agree_to_stop(session.stop_reason(reserve_seconds=60), cpu_group):
                break

A handler only sets a flag, except where nothing is lost (`Session.interruptible`): while the run is being built and
while it waits for data, a wish to stop raises `Interrupted` within a second.

A second SIGINT or SIGTERM, more than a second after the first, ends the process at once; earlier ones count as the
first, because `timeout`, SLURM and torchrun often deliver one wish twice. SIGUSR1, a scheduler's warning, and SIGHUP, a
terminal that is gone, stop in order as well and never count as a first; under nohup SIGHUP is ignored and stays so. The
budget's clock counts the time a machine sleeps, as the services that end sessions do.
"""

import os
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist

from pipeline.train.config import SessionConfig
from pipeline.train.surroundings import Launcher, budget_of, find_launcher, seconds_since_start

__all__ = ["Interrupted", "Session", "agree", "agree_to_stop"]

# Windows has only the first two. It cannot train, but commands that read a run import this.
_STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
_URGENT_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ONE_WISH_SECONDS = 1.0
_LOOK_SECONDS = 0.5
_UNWINDING_SECONDS = 10.0
_REASON_BYTES = 512


class Interrupted(BaseException):  # a wish and no error, as KeyboardInterrupt
    """A stop was asked for where nothing has to be saved; no `Exception`, as libraries catch those."""


def _seconds_since_boot() -> float:
    """Seconds that only rise, time asleep included where the system can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Session:
    """The span of one process of a run.

    Args:
        config: budget and stop file.
        run_dir: where the stop file is looked for.
        clock: seconds that only rise.
    """

    def __init__(
        self, config: SessionConfig, run_dir: Path, *, clock: Callable[[], float] = _seconds_since_boot
    ) -> None:
        self._clock = clock
        self._stop_file = run_dir / config.stop_file
        self._process = os.getpid()
        self._parent = os.getppid()
        self._launcher = find_launcher(os.environ)
        budget = budget_of(config.max_hours, os.environ)
        self._max_hours = budget.max_hours
        self._start = clock() - seconds_since_start(container=budget.from_container_start)
        self._budget_text = budget.reason
        self._signal: int | None = None
        self._urgent_since: float | None = None
        self._former_handlers: dict[int, Any] = {}
        self._reserve_seconds: float | None = None
        self._raise_after = 0.0
        self._asked: str | None = None

    def install(self) -> None:
        """Set the signal handlers, from the main thread; a signal that the parent had ignored stays ignored."""
        for number in _STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._former_handlers[number] = signal.signal(number, self._on_signal)
        self._former_handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_alarm)

    def restore(self) -> None:
        """Put the former signal handlers back."""
        for number, handler in self._former_handlers.items():
            # None stands for a handler that was not set from Python and cannot be set from there.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former_handlers.clear()

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    @contextmanager
    def interruptible(self, reserve_seconds: float = 0.0) -> Iterator[None]:
        """Within, a wish to stop raises `Interrupted`: for what may take minutes and leaves nothing to save.

        From the main thread, once `install` was called. A timer looks for the wishes that come without a signal.

        Args:
            reserve_seconds: As `stop_reason`.
        """
        try:  # from the first line on, which may be interrupted as well
            self._reserve_seconds = reserve_seconds
            signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
            yield
        finally:
            self._reserve_seconds = None
            signal.setitimer(signal.ITIMER_REAL, 0)

    @property
    def hours(self) -> float:
        """Hours since the session began: the start of the container on Kaggle and Colab, else of this process."""
        return (self._clock() - self._start) / 3600

    @property
    def hours_left(self) -> float | None:
        """Hours until the budget ends, below zero after that; None without a budget."""
        return None if self._max_hours is None else self._max_hours - self.hours

    @property
    def description(self) -> str:
        """One line for the user: the budget, what is left and why, and whether a launcher is watched."""
        left = self.hours_left
        budget = "no time budget" if left is None else f"budget {self._max_hours:g} h, {left:.2f} h left"
        watched = "; watching the launcher" if self._launcher is not Launcher.NONE else ""
        return f"session: {budget} ({self._budget_text}){watched}"

    def stop_reason(self, reserve_seconds: float = 0.0) -> str | None:
        """Why this process wants to stop, or None; cheap enough for every step.

        The most urgent comes first: a signal, a launcher that is gone, the stop file, the budget.

        Args:
            reserve_seconds: what it takes to end in order: the slowest save and evaluation so far.
        """
        if self._asked is not None:
            return self._asked
        if self._signal is not None:
            return f"received {signal.Signals(self._signal).name}"
        if self._launcher is Launcher.GONE or (self._launcher is Launcher.ALIVE and os.getppid() != self._parent):
            return "the launcher that started this process is gone"
        if os.path.lexists(self._stop_file):
            return f"found the stop file {self._stop_file}"
        left = self.hours_left
        if left is not None and left * 3600 <= reserve_seconds:
            return f"the session's budget of {self._max_hours:g} h is used up but for the time to save"
        return None

    def remove_stop_file(self) -> None:
        """Remove the stop file once the run has stopped, so that it does not stop the next start as well."""
        self._stop_file.unlink(missing_ok=True)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked worker: its parent decides
        now = time.monotonic()
        if self._signal is None:
            self._signal = number
        if number in _URGENT_SIGNALS:
            if self._urgent_since is None:
                self._urgent_since = now
            elif now - self._urgent_since > _ONE_WISH_SECONDS:
                signal.signal(number, signal.SIG_DFL)
                os.kill(self._process, number)
        self._interrupt(frame)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        self._interrupt(frame)

    def _interrupt(self, frame: FrameType | None) -> None:
        if self._reserve_seconds is None or os.getpid() != self._process:
            return
        if frame is not None and frame.f_code.co_filename == weakref.__file__:
            # Where a signal ends up that came during a long garbage collection. What its callbacks raise Python prints
            # and drops, so the next look raises.
            return
        reason = self.stop_reason(self._reserve_seconds)
        # Not again while the first one unwinds; but it may have been lost where Python ignores all that is raised.
        if reason is not None and time.monotonic() >= self._raise_after:
            self._raise_after = time.monotonic() + _UNWINDING_SECONDS
            self._asked = reason
            raise Interrupted(reason)


def agree_to_stop(reason: str | None, group: Any = None) -> str | None:
    """The same answer on every rank: the reason of the lowest rank that has one, or None; see `agree`."""
    return agree(reason, False, group)[0]


def agree(reason: str | None, flag: bool, group: Any = None) -> tuple[str | None, bool]:
    """What all ranks do next: the reason of the lowest rank that has one, or None; and whether any rank's flag is set.

    Every rank must call it at the same step. One small reduction, and a second message only when there is a reason.

    Args:
        reason: this rank's `Session.stop_reason`.
        flag: something else that all ranks must know of.
        group: a gloo group of all ranks, so that no rank waits for its device; ignored with a single process.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return reason, flag
    world_size = dist.get_world_size()
    least = torch.tensor([dist.get_rank() if reason is not None else world_size, int(not flag)])
    dist.all_reduce(least, op=dist.ReduceOp.MIN, group=group)
    lowest, unset = least.tolist()
    if lowest == world_size:
        return None, not unset
    text = torch.zeros(_REASON_BYTES, dtype=torch.uint8)
    if reason is not None and lowest == dist.get_rank():
        data = reason.encode()[:_REASON_BYTES]
        text[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    dist.broadcast(text, src=lowest, group=group)
    return bytes(text.tolist()).rstrip(b"\0").decode(errors="replace"), not unset
