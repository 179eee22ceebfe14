"""A training run from its first to its last line: join, lock, resume, train, save, say how it stands.

status = train(config, command="python -m launch.train --config configs/demo.yaml")

Each process of a launcher calls `train`; one process alone runs the same code. A run that was stopped or killed goes
on from its newest valid checkpoint when the same command is given again.
"""

import logging
import os
import shlex
from contextlib import ExitStack
from pathlib import Path

from pipeline.data.loader import TrainStream
from pipeline.train.carry_logs import carry_logs
from pipeline.train.checkpoint import CheckpointStore, Found
from pipeline.train.config import RunConfig
from pipeline.train.determinism import deterministic_algorithms
from pipeline.train.history import History
from pipeline.train.lock import RunLock, lock_is_held, read_holder
from pipeline.train.loop import TrainingLoop
from pipeline.train.machine import Machine, describe_workers, device_type, open_machine, set_threads
from pipeline.train.outcome import MIRROR_SECONDS, Reporter, run_to_status, stopped_at_start, wait_for_mirror
from pipeline.train.parts import build_parts
from pipeline.train.provenance import describe_environment, settings_to_keep
from pipeline.train.records import write_facts
from pipeline.train.resume import announce_start, check_order, find_start, meet_mirror, recorded_threads
from pipeline.train.schedule import run_length
from pipeline.train.session import Interrupted, Session
from pipeline.train.split import split_dependence
from pipeline.train.status import Status, hang_reports, read_status
from pipeline.train.watchdog import LostProcessError, Watchdog, open_store
from shards.errors import RunError
from shards.storage import home_path

__all__ = ["open_stream", "run_id", "train"]

LOCK_WAIT_SECONDS = 30.0
"""A trainer whose launcher has died still saves; its successor waits this long for it."""
NUMBERS_PER_WEIGHT = 3
"""In a checkpoint: the weight itself and, with AdamW, its two moments; the moving average is one more."""

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
    with ExitStack() as stack:
        stack.enter_context(deterministic_algorithms(config.train.deterministic, device_type(os.environ)))
        machine = open_machine(config)
        watchdog = stack.enter_context(_open_watchdog(config, machine))
        stack.callback(machine.close)  # watched: leaving the group waits for the device, and so for the others
        stack.callback(watchdog.progress, "the end of the run")
        session = stack.enter_context(Session(config.session, run_folder(config)))
        try:
            return _train(config, command, machine, session, watchdog, stack)
        except Interrupted as wish:
            return stopped_at_start(run_folder(config), config, command, machine, session, str(wish))
        except Exception as error:
            explained = watchdog.explained(error)
            if isinstance(explained, LostProcessError) and not explained.words and session.stop_reason() is not None:
                # Where the first rank that heard of a stop left at once, the others find it gone.
                logger.info("%s", explained)
                return stopped_at_start(
                    run_folder(config), config, command, machine, session, str(session.stop_reason())
                )
            if isinstance(explained, LostProcessError) and not machine.is_main:
                return stopped_at_start(
                    run_folder(config), config, command, machine, session, str(explained)
                )  # the main process speaks
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
        pinned=machine.device.type == "cuda",
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
        meet_mirror(config, machine, store)
        found = find_start(config, machine, store)
        finished = machine.on_main(lambda: _finished(run_dir))
        if finished is not None:
            wait_for_mirror(store, session)
            return finished
        watchdog.progress("the look for checkpoints", leave_seconds=60 * config.data.retry_minutes)
        loop = _build_loop(config, machine, session, watchdog, store, found, stack)
        reporter = Reporter(run_dir, machine, loop, store, command, _use_command(config))
        reporter.write("running", "training", command)
    watchdog.progress("the building of the run", leave_seconds=60 * config.data.retry_minutes)
    watchdog.on_hang = reporter.write_hang
    loop.on_progress = reporter.write_progress
    return run_to_status(loop, reporter, machine, session, watchdog, store)


def _open_watchdog(config: RunConfig, machine: Machine) -> Watchdog:
    rank, world_size = machine.rank, machine.world_size
    store = open_store(rank, world_size, machine.on_main) if world_size > 1 else None
    limit_seconds = 60 * config.session.hang_minutes
    return Watchdog(limit_seconds, run_folder(config), rank=rank, world_size=world_size, store=store)


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
    from pipeline.train.monitor import Monitor  # here, as it brings TensorBoard, which a dry run has no use for

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
        workers = describe_workers(
            config.data.num_workers, int(threads.value), machine.local_processes, machine.device.type
        )
        for line in (*machine.choices, threads, workers, session.description):
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
        settings, environment = settings_to_keep(config), describe_environment(machine.device)
        write_facts(run_folder(config), settings, environment)
        monitor.describe(settings, environment)
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


def _use_command(config: RunConfig) -> str:
    """What to type once the run is finished."""
    checkpoint = f"--checkpoint {shlex.quote(config.run)}"
    if config.data.val is None:
        return f"python -m launch.predict {checkpoint} PICTURE --out depth"
    return f"python -m launch.evaluate {checkpoint} --data {shlex.quote(f'shards={config.data.val}')}"
