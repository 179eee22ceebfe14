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
from pipeline.train.checkpoint import CheckpointStore, Found
from pipeline.train.config import RunConfig
from pipeline.train.lock import RunLock, lock_is_held, read_holder
from pipeline.train.loop import History, TrainingLoop
from pipeline.train.machine import Machine, open_machine, set_threads
from pipeline.train.monitor import Monitor
from pipeline.train.parts import build_parts
from pipeline.train.provenance import describe_environment, settings_to_keep
from pipeline.train.resume import announce_start, check_order, find_start, recorded_threads
from pipeline.train.schedule import run_length
from pipeline.train.session import Session
from pipeline.train.split import split_dependence
from pipeline.train.status import Status, read_status, write_status
from shards.errors import DivergedError, RunError, ShardError
from shards.storage import home_path, publish_bytes

__all__ = ["open_stream", "run_id", "train"]

LOCK_WAIT_SECONDS = 30.0
"""A trainer whose launcher has died still saves; its successor waits this long for it."""
REASON_LIMIT = 8000
"""Characters of an error that `status.json` takes."""
NUMBERS_PER_WEIGHT = 3
"""In a checkpoint: the weight itself and, with AdamW, its two moments."""

logger = logging.getLogger("depthrank")


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
    run_dir = run_folder(config)
    machine = open_machine(config)
    with ExitStack() as stack:
        stack.callback(machine.close)
        session = stack.enter_context(Session(config.session, run_dir))
        machine.on_main(lambda: _take_lock(stack, run_dir))
        store = CheckpointStore(run_dir, run_id=run_id(config), config=config.checkpoint)
        machine.on_main(store.clean)
        found = find_start(config, machine, store)
        finished = machine.on_main(lambda: _finished(run_dir))
        if finished is not None:
            return finished
        loop = _build_loop(config, machine, session, store, found, stack)
        reporter = _Reporter(run_dir, machine, loop, command, _use_command(config))
        reporter.write("running", "training", command)
        loop.on_progress = reporter.write_progress
        return _run_to_status(loop, reporter, machine, session, store)


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


class _Reporter:
    """Writes `status.json` from the main process."""

    def __init__(self, run_dir: Path, machine: Machine, loop: TrainingLoop, command: str, use_command: str) -> None:
        self.run_dir = run_dir
        self.command = command
        self.use_command = use_command
        self._is_main = machine.is_main
        self._loop = loop

    def write(
        self, state: Literal["running", "finished", "stopped", "failed"], reason: str, next_command: str
    ) -> Status:
        """Write how the run stands."""
        loop = self._loop
        status = Status(
            state=state,
            reason=reason,
            step=loop.history.step,
            total_steps=loop.total_steps,
            samples_seen=loop.samples_seen,
            hours=loop.hours,
            next_command=next_command,
        )
        if self._is_main:
            write_status(self.run_dir, status)
        return status

    def write_progress(self) -> None:
        """Say how far the run is; a full disk may not end it."""
        try:
            self.write("running", "training", self.command)
        except RunError as error:
            logger.warning("%s", error)


def _run_to_status(
    loop: TrainingLoop, reporter: _Reporter, machine: Machine, session: Session, store: CheckpointStore
) -> Status:
    """Run the loop and write down how it ended, whatever that is."""
    try:
        reason = loop.run()
        store.wait()
        if reason is None:
            machine.on_main(lambda: _export(loop, reporter.run_dir))
    except Exception as error:
        store.wait()
        kept_step = store.published_step or loop.first_step
        kept = f"the newest checkpoint is of step {kept_step}" if kept_step else "there is no checkpoint"
        text = str(error) or type(error).__name__
        try:
            reporter.write("failed", f"{text}; {kept}"[:REASON_LIMIT], reporter.command)
        except RunError as second:
            logger.warning("%s", second)
        if isinstance(error, DivergedError):
            raise DivergedError(f"{text}; {kept}") from error
        raise
    finally:
        if machine.is_main:
            session.remove_stop_file()
    if reason is None:
        status = reporter.write("finished", "all steps are done", reporter.use_command)
    else:
        if store.last_error is not None:
            reason = f"{reason}; the last checkpoint was not saved ({store.last_error})"
        status = reporter.write("stopped", reason, reporter.command)
    machine.wait()
    return status


def _build_loop(
    config: RunConfig,
    machine: Machine,
    session: Session,
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
    machine.on_main(lambda: store.require_space(4 * NUMBERS_PER_WEIGHT * num_weights))
    monitor = None
    if machine.is_main:
        for line in (*machine.choices, threads, session.description):
            logger.info("%s", line)
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
        store,
        monitor,
        history=history,
        total_steps=total_steps,
        threads=int(threads.value),
    )


def _take_lock(stack: ExitStack, run_dir: Path) -> None:
    if lock_is_held(run_dir):
        logger.info("%s is held by %s; waiting up to %.0f s", run_dir, read_holder(run_dir), LOCK_WAIT_SECONDS)
    stack.enter_context(RunLock(run_dir, wait_seconds=LOCK_WAIT_SECONDS))


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
