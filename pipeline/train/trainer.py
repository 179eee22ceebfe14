"""A training run from its first to its last line: join, lock, resume, train, save, say how it stands.

status = train(config, command="python -m launch.train --config configs/demo.yaml")

Each process of a launcher calls `train`; one process alone runs the same code. A run that was stopped or killed goes
on from its newest valid checkpoint when the same command is given again.
"""

import json
import logging
import os
import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.data.loader import TrainStream
from pipeline.train.carry_logs import carry_logs
from pipeline.train.checkpoint import CheckpointStore, Found
from pipeline.train.checkpoint_search import step_folders, step_in
from pipeline.train.config import RunConfig
from pipeline.train.determinism import deterministic_algorithms
from pipeline.train.lock import RunLock, lock_is_held, read_holder
from pipeline.train.loop import History, TrainingLoop
from pipeline.train.machine import Machine, device_type, open_machine, set_threads
from pipeline.train.monitor import Monitor
from pipeline.train.parts import build_parts
from pipeline.train.provenance import describe_environment, settings_to_keep
from pipeline.train.resume import announce_start, check_order, find_start, recorded_threads
from pipeline.train.schedule import run_length
from pipeline.train.session import Interrupted, Session
from pipeline.train.split import split_dependence
from pipeline.train.status import STATUS_NAME, Status, hang_reports, read_status, write_status
from pipeline.train.watchdog import LostProcessError, Watchdog, open_store
from shards.errors import DivergedError, RunError, ShardError
from shards.storage import home_path, publish_bytes

__all__ = ["open_stream", "run_id", "train"]

LOCK_WAIT_SECONDS = 30.0
"""A trainer whose launcher has died still saves; its successor waits this long for it."""
REASON_LIMIT = 8000
"""Characters of an error that `status.json` takes."""
MIRROR_SECONDS = 600.0
"""The longest that the end of a session waits for the mirror; half of `session.hang_minutes` where that is less."""
HURRIED_MIRROR_SECONDS = 5.0
"""The same after a signal, or without a launcher: SLURM and torchrun kill 30 s after they have asked."""
NUMBERS_PER_WEIGHT = 3
"""In a checkpoint: the weight itself and, with AdamW, its two moments; the moving average is one more."""

logger = logging.getLogger("depthrank")

_State = Literal["running", "finished", "stopped", "failed"]


def train(config: RunConfig, *, command: str) -> Status:
    """Train the run of `config` as far as this session allows.

    Args:
        config: The run's settings.
        command: What the user typed; it is told again when there is more to do.

    Returns:
        `finished`, or `stopped` in order, with the reason and what to type next.

    Raises:
        DepthRankError: A config, data, checkpoint or run folder is at fault, as the message says. Before the first
            step that leaves the run as it was; later the run is `failed`, and so it is by a `DivergedError` (loss or
            gradients are not finite). Checkpoints stay good.
    """
    with ExitStack() as stack:
        stack.enter_context(deterministic_algorithms(config.train.deterministic, device_type(os.environ)))
        machine = open_machine(config)
        stack.callback(machine.close)
        session = stack.enter_context(Session(config.session, run_folder(config)))
        watchdog = stack.enter_context(_open_watchdog(config, machine))
        try:
            return _train(config, command, machine, session, watchdog, stack)
        except Interrupted as wish:
            return _stopped_at_start(config, command, machine, session, str(wish))
        except Exception as error:
            explained = watchdog.explained(error)
            if isinstance(explained, LostProcessError) and not explained.words and session.stop_reason() is not None:
                # Where the first rank that heard of a stop left at once, the others find it gone.
                logger.info("%s", explained)
                return _stopped_at_start(config, command, machine, session, str(session.stop_reason()))
            if isinstance(explained, LostProcessError) and not machine.is_main:
                return _stopped_at_start(config, command, machine, session, str(explained))  # the main process speaks
            if explained is error:
                raise
            raise explained from error


def open_stream(config: RunConfig, machine: Machine) -> TrainStream:
    """This process's part of the endless stream of training samples.

    Raises:
        DataError: The dataset is missing or damaged.
        ConfigError: The processes do not divide the batch.
    """
    return TrainStream(
        config.data,
        size_hw=config.train.size,
        seed=config.train.seed,
        batch_size=config.train.batch_size,
        micro_batch_size=config.train.micro_batch_size,
        rank=machine.rank,
        world_size=machine.world_size,
        dense=config.loss.needs_maps,
        node_ranks=machine.node_ranks,
    )


def run_folder(config: RunConfig) -> Path:
    """Where the run lives."""
    return home_path(config.run)


def run_id(config: RunConfig) -> str:
    """Name by which checkpoints elsewhere are recognised as this run's."""
    # Not `resolve`, which would take the name of what a link points to.
    return Path(os.path.abspath(run_folder(config))).name  # noqa: PTH100


def _train(
    config: RunConfig, command: str, machine: Machine, session: Session, watchdog: Watchdog, stack: ExitStack
) -> Status:
    run_dir = run_folder(config)
    with session.interruptible():
        watchdog.progress("the start", leave_seconds=LOCK_WAIT_SECONDS)
        machine.on_main(lambda: _take_lock(stack, run_dir))
        store = CheckpointStore(run_dir, run_id=run_id(config), config=config.checkpoint)
        machine.on_main(store.clean)
        watchdog.progress("the wait for the run's lock", leave_seconds=MIRROR_SECONDS)
        machine.on_main(store.meet_mirror)
        found = find_start(config, machine, store)
        finished = machine.on_main(lambda: _finished(run_dir))
        if finished is not None:
            store.finish(_mirror_seconds(None, config))
            return finished
        watchdog.progress("the look for checkpoints", leave_seconds=60 * config.data.retry_minutes)
        loop = _build_loop(config, machine, session, watchdog, store, found, stack)
        reporter = _Reporter(run_dir, machine, loop, store, command, _use_command(config))
        reporter.write("running", "training", command)
    watchdog.progress("the building of the run", leave_seconds=60 * config.data.retry_minutes)
    watchdog.on_hang = reporter.write_hang
    loop.on_progress = reporter.write_progress
    return _run_to_status(config, loop, reporter, machine, session, watchdog, store)


def _open_watchdog(config: RunConfig, machine: Machine) -> Watchdog:
    rank, world_size = machine.rank, machine.world_size
    store = open_store(rank, world_size, machine.on_main) if world_size > 1 else None
    limit_seconds = 60 * config.session.hang_minutes
    return Watchdog(limit_seconds, run_folder(config), rank=rank, world_size=world_size, store=store)


def _stopped_at_start(config: RunConfig, command: str, machine: Machine, session: Session, reason: str) -> Status:
    """What is said of a run that was stopped before its first step; its checkpoints are those of before."""
    run_dir = run_folder(config)
    holder = read_holder(run_dir)
    has_lock = machine.is_main and holder is not None and holder.pid == os.getpid()
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
    if status.state == "running":
        status = status.model_copy(update={"state": "stopped", "reason": reason})
        if has_lock:
            write_status(run_dir, status)
    if has_lock:
        session.remove_stop_file()
    return status


class _Reporter:
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

    def write_hang(self, reason: str) -> None:
        """Say that the run hangs, from any process: the main one may be the one that does."""
        if (self.run_dir / STATUS_NAME).exists():
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


def _mirror_seconds(reason: str | None, config: RunConfig) -> float:
    """How long a session that ends for this reason waits for the mirror; the others wait for the main process."""
    if reason is not None and reason.startswith(("received ", "the launcher ")):
        return HURRIED_MIRROR_SECONDS
    return min(MIRROR_SECONDS, 30.0 * config.session.hang_minutes)


def _run_to_status(
    config: RunConfig,
    loop: TrainingLoop,
    reporter: _Reporter,
    machine: Machine,
    session: Session,
    watchdog: Watchdog,
    store: CheckpointStore,
) -> Status:
    """Run the loop and write down how it ended, whatever that is."""
    try:
        reason = loop.run()
        store.wait()
        if reason is None:
            watchdog.progress("the last step, to export the network")
            machine.on_main(lambda: _export(loop, reporter.run_dir))
        seconds = _mirror_seconds(reason, config)
        watchdog.progress("training", leave_seconds=seconds)
        store.finish(seconds)
    except Exception as caught:
        error = watchdog.explained(caught)
        store.finish()
        kept = _kept(store.published_step or loop.first_step)
        text = str(error) or type(error).__name__
        # A process that was killed says nothing about the run: there is more to do.
        state: _State = "stopped" if isinstance(error, LostProcessError) and error.words is None else "failed"
        try:
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
    text = "; ".join([reason or "all steps are done", *store.shortcomings])[:REASON_LIMIT]
    if reason is None:
        status = reporter.write("finished", text, reporter.use_command)
    else:
        status = reporter.write("stopped", text, reporter.command)
    machine.wait()
    return status


def _build_loop(
    config: RunConfig,
    machine: Machine,
    session: Session,
    watchdog: Watchdog,
    store: CheckpointStore,
    found: Found | None,
    stack: ExitStack,
) -> TrainingLoop:
    """Build everything and bring it to the state of the checkpoint; says what was chosen and why."""
    threads = set_threads(config.train.threads, recorded_threads(found, machine), machine.local_processes)
    stream = open_stream(config, machine)
    stack.callback(stream.close)
    if found is not None:
        check_order(found, stream.identity)
        if machine.is_main:
            announce_start(found, config, machine)
    total_steps = run_length(config.train, config.optim, stream.num_samples)
    parts = build_parts(config, machine, resumes=found is not None)
    history = History()
    if found is not None:
        parts.restore(store.load(found.path))
        history = History.from_state(found.state)
    num_weights = sum(parameter.numel() for parameter in parts.net.parameters())
    numbers = NUMBERS_PER_WEIGHT + (parts.ema is not None)
    machine.on_main(lambda: store.require_space(4 * numbers * num_weights))
    monitor = None
    if machine.is_main:
        for line in (*machine.choices, threads, session.description):
            logger.info("%s", line)
        if found is not None and found.state["run_id"] == run_id(config):
            carry_logs(found.path, run_folder(config))
        for line in split_dependence(config):
            logger.info("depends on processes and micro-batches: %s", line)
        batches = f"batches of {config.train.batch_size} from {stream.num_samples} samples"
        logger.info("trains %d steps in %s; %.2f million weights", total_steps, batches, num_weights / 1e6)
        monitor = stack.enter_context(
            Monitor(run_folder(config), config.monitor, total_steps=total_steps, resume_step=history.step)
        )
        _write_facts(config, machine, monitor)
    return TrainingLoop(
        config,
        machine,
        parts,
        stream,
        session,
        watchdog,
        store,
        monitor,
        history=history,
        total_steps=total_steps,
        threads=int(threads.value),
    )


def _kept(step: int) -> str:
    return f"the newest checkpoint is of step {step}" if step else "there is no checkpoint"


def _take_lock(stack: ExitStack, run_dir: Path) -> None:
    if lock_is_held(run_dir):
        logger.info("%s is held by %s; waiting up to %.0f s", run_dir, read_holder(run_dir), LOCK_WAIT_SECONDS)
    stack.enter_context(RunLock(run_dir, wait_seconds=LOCK_WAIT_SECONDS))
    for report in hang_reports(run_dir):
        report.unlink(missing_ok=True)


def _finished(run_dir: Path) -> Status | None:
    """The status of a run that is complete, results included; else None."""
    try:
        status = read_status(run_dir)
    except RunError as error:
        logger.warning("%s; it is written anew", error)
        return None
    results = [run_dir / "model.safetensors", run_dir / "config.json"]
    if status is None or status.state != "finished" or not all(path.is_file() for path in results):
        return None
    logger.info("%s is finished after %d steps; choose another `run` to train again", run_dir, status.step)
    return status


def _write_facts(config: RunConfig, machine: Machine, monitor: Monitor) -> None:
    """Settings and environment, beside the results that depend on them."""
    settings, environment = settings_to_keep(config), describe_environment(machine.device)
    run_dir = run_folder(config)
    _publish(run_dir / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    _publish(run_dir / "env.json", _json_text(environment))
    monitor.describe(settings, environment)


def _export(loop: TrainingLoop, run_dir: Path) -> None:
    """Write what a finished run leaves: the network and its figures."""
    try:
        loop.net.save_pretrained(run_dir, size_hw=loop.net.size_hw)
    except (OSError, ValueError) as error:
        raise RunError(f"{run_dir}: the network cannot be written ({error}); start again to finish the run") from error
    _publish(run_dir / "metrics.json", _json_text(loop.results()))


def _publish(path: Path, text: str) -> None:
    try:
        publish_bytes(str(path), text.encode())
    except ShardError as error:
        raise RunError(f"the run folder cannot be written: {error}") from error


def _json_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _use_command(config: RunConfig) -> str:
    """What to type once the run is finished."""
    checkpoint = f"--checkpoint {shlex.quote(config.run)}"
    if config.data.val is None:
        return f"python -m launch.predict {checkpoint} PICTURE --out depth"
    return f"python -m launch.evaluate {checkpoint} --data {shlex.quote(f'shards={config.data.val}')}"
