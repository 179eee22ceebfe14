"""How a session ends, and what `status.json` says of it.

reporter = Reporter(run_dir, machine, loop, store, command, use_command)
reporter.write("running", "training", command)
status = run_to_status(loop, reporter, machine, session, watchdog, store)
"""

import logging
import os
import socket
import time
from pathlib import Path
from typing import Literal

from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.checkpoint_search import step_folders, step_in
from pipeline.train.config import RunConfig
from pipeline.train.lock import read_holder
from pipeline.train.loop import TrainingLoop
from pipeline.train.machine import Machine
from pipeline.train.records import write_results
from pipeline.train.session import Session
from pipeline.train.status import Status, read_status, write_status
from pipeline.train.watchdog import LostProcessError, Watchdog
from shards.errors import DivergedError, RunError

__all__ = ["MIRROR_SECONDS", "Reporter", "run_to_status", "stopped_at_start", "wait_for_mirror"]

REASON_LIMIT = 8000
"""Characters of an error that `status.json` takes."""
MIRROR_SECONDS = 600.0
"""The longest that the end of a session waits for the mirror."""
HURRIED_SECONDS = 5.0
"""The same after a signal or stop file, or without a launcher: SLURM and torchrun kill 30 s after they have asked."""

logger = logging.getLogger("depthrank")

_State = Literal["running", "finished", "stopped", "failed"]


class Reporter:
    """Writes `status.json` from the main process."""

    def __init__(
        self,
        run_dir: Path,
        machine: Machine,
        loop: TrainingLoop,
        store: CheckpointStore,
        command: str,
        use_command: str,
    ) -> None:
        self._store = store
        self.run_dir = run_dir
        self.command = command
        self.use_command = use_command
        self._is_main = machine.is_main
        self._loop = loop

    def write(self, state: _State, reason: str, next_command: str) -> Status:
        """Write how the run stands."""
        status = self._status(state, reason, next_command)
        if self._is_main:
            write_status(self.run_dir, status)
        return status

    def write_end(self, state: _State, reason: str, next_command: str) -> Status:
        """Write how the session ended, and what did not succeed in it."""
        return self.write(state, "; ".join([reason, *self._store.shortcomings])[:REASON_LIMIT], next_command)

    def write_hang(self, reason: str) -> None:
        """Say that the run hangs, from any process: the main one may be the one that does.

        A last word that has been written stands: the others may hang because the main process has left in order.
        """
        status = read_status(self.run_dir)
        if status is not None and status.state == "running":
            steps = [step_in(path) for path in step_folders(self.run_dir / "checkpoints")]
            text = f"{reason}; {_kept(max(steps, default=0))}"
            write_status(self.run_dir, self._status("failed", text[:REASON_LIMIT], self.command))

    def _status(self, state: _State, reason: str, next_command: str) -> Status:
        loop = self._loop
        return Status(
            state=state,
            reason=reason,
            step=loop.history.step,
            total_steps=loop.total_steps,
            samples_seen=loop.samples_seen,
            hours=loop.hours,
            next_command=next_command,
            mirrored_step=self._store.mirrored_step,
        )

    def write_progress(self) -> None:
        """Say how far the run is; a full disk may not end it."""
        try:
            self.write("running", "training", self.command)
        except RunError as error:
            logger.warning("%s", error)


def run_to_status(
    loop: TrainingLoop,
    reporter: Reporter,
    machine: Machine,
    session: Session,
    watchdog: Watchdog,
    store: CheckpointStore,
) -> Status:
    """Run the loop and write down how it ended, whatever that is; then wait for the mirror.

    In this order, because whoever ends the process meanwhile (a launcher after an error, a scheduler) must not turn a
    run that failed into one that is started again.
    """
    try:
        reason = loop.run()
        store.finish()
        if reason is None:
            watchdog.progress("the last step, to export the network")
            machine.on_main(lambda: write_results(reporter.run_dir, loop.net, loop.results()))
            status = reporter.write_end("finished", "all steps are done", reporter.use_command)
        else:
            status = reporter.write_end("stopped", reason, reporter.command)
        watchdog.progress("training", leave_seconds=MIRROR_SECONDS)
        if wait_for_mirror(store, session):
            status = reporter.write_end(status.state, reason or "all steps are done", status.next_command)
    except Exception as caught:
        error = watchdog.explained(caught)
        store.finish()
        kept = _kept(store.published_step or loop.first_step)
        text = str(error) or type(error).__name__
        # A process that was killed says nothing about the run: there is more to do.
        state: _State = "stopped" if isinstance(error, LostProcessError) and error.words is None else "failed"
        try:
            reporter.write(state, f"{text}; {kept}"[:REASON_LIMIT], reporter.command)
            watchdog.progress("an error", leave_seconds=MIRROR_SECONDS)
            if wait_for_mirror(store, session):
                reporter.write(state, f"{text}; {kept}"[:REASON_LIMIT], reporter.command)
        except RunError as second:
            logger.warning("%s", second)
        if isinstance(error, DivergedError | LostProcessError):
            error.args = (f"{text}; {kept}",)
        if error is caught:
            raise
        raise error from caught
    finally:
        if machine.is_main:
            session.remove_stop_file()
    for shortcoming in store.shortcomings:
        logger.warning("%s", shortcoming)
    machine.wait()
    return status


def wait_for_mirror(store: CheckpointStore, session: Session) -> bool:
    """Let the mirror catch up, not for long once something asks to stop; whether there is one."""
    asked_at: float | None = None

    def is_hurried() -> bool:
        nonlocal asked_at
        if session.stop_reason() is None:
            return False
        asked_at = time.monotonic() if asked_at is None else asked_at
        return time.monotonic() - asked_at >= HURRIED_SECONDS

    return store.wait_for_mirror(MIRROR_SECONDS, is_hurried)


def stopped_at_start(
    run_dir: Path, config: RunConfig, command: str, machine: Machine, session: Session, reason: str
) -> Status:
    """What is said of a run that was stopped before its first step; its checkpoints are those of before."""
    holder = read_holder(run_dir)
    me = (os.getpid(), socket.gethostname())
    has_lock = machine.is_main and holder is not None and (holder.pid, holder.host) == me
    before = read_status(run_dir) if has_lock else None
    status = before or Status(
        state="running",
        reason="",
        step=0,
        total_steps=config.train.steps or 0,
        samples_seen=0,
        hours=0,
        next_command=command,
    )
    if status.state in ("running", "stopped"):
        facts = status.model_dump(exclude={"state", "reason", "updated"})
        status = Status(state="stopped", reason=reason, **facts)
        if has_lock:
            write_status(run_dir, status)
    if has_lock:
        session.remove_stop_file()
    return status


def _kept(step: int) -> str:
    return f"the newest checkpoint is of step {step}" if step else "there is no checkpoint"
