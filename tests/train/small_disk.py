"""What test_disk_full.py runs in a process of its own, on a disk of some megabytes; reports go to another disk."""

import contextlib
import json
import logging
import shutil
from pathlib import Path

from test_disk_full import save, store_of
from test_trainer import COMMAND, make_config, make_dataset

from pipeline.train import checkpoint
from pipeline.train.checkpoint_folder import step_of
from pipeline.train.config import MonitorConfig
from pipeline.train.metrics_log import read_metrics
from pipeline.train.monitor import Monitor
from pipeline.train.samples_log import ConsumedSample, read_samples
from pipeline.train.status import Status, write_status
from pipeline.train.trainer import train
from shards.errors import RunError

STAGES_KB = (0, 4, 8, 12, 16, 28, 40, 52, 64)
"""Room that is left for a save of about 70 kB: it ends in each of its files."""


class Filler:
    """Takes all the room of a disk, and gives back as much as it is told."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "filler"

    def take_all(self, but_kb: int = 0) -> None:
        with self._path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        if but_kb:
            with self._path.open("r+b") as file:
                file.truncate(self._path.stat().st_size - 1024 * but_kb)

    def give_back(self) -> None:
        self._path.unlink()


class Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def listen() -> Messages:
    messages, logger = Messages(), logging.getLogger("depthrank")
    logger.setLevel(logging.INFO)
    logger.addHandler(messages)
    return messages


def steps_in(run_dir: Path) -> list[int]:
    names = [path.name for path in (run_dir / "checkpoints").iterdir()]
    assert all(step_of(name) is not None for name in names), names
    return sorted(step_of(name) for name in names)


def status_of(state: str) -> Status:
    return Status(state=state, reason="x" * 4000, step=1, total_steps=9, samples_seen=8, hours=0.1, next_command="x")


def write_everything(disk: Path, scratch: Path) -> None:
    messages, run_dir, filler = listen(), disk / "run", Filler(disk)
    run_dir.mkdir()
    store, report = store_of(run_dir), {}
    assert save(store, 1) is None
    assert save(store, 2) is None
    with Monitor(run_dir, MonitorConfig(log_samples=True), total_steps=9, resume_step=0) as monitor:

        def log(step: int) -> None:
            monitor.evaluation({"val/figure": 1.0}, {}, step)
            monitor.samples(step, [ConsumedSample(0, 0, step, f"key-{step}")])

        log(1)
        write_status(run_dir, status_of("running"))
        filler.take_all()
        for _ in range(400):  # the last page of a file has some room left
            log(2)
        with contextlib.suppress(RunError):
            write_status(run_dir, status_of("failed"))
        report["precheck"] = save(store, 3)
        checkpoint.SPARE_SPACE = 0.0
        report["torn"] = []
        for room in STAGES_KB:
            filler.take_all(but_kb=room)
            report["torn"].append(save(store, 3))
            assert steps_in(run_dir) == [1, 2], room
            assert store_of(run_dir).find().step == 2, room
        report["steps_when_full"] = steps_in(run_dir)
        report["status_when_full"] = json.loads((run_dir / "status.json").read_text())["state"]
        filler.give_back()
        assert save(store, 9) is None
        log(9)
        write_status(run_dir, status_of("stopped"))
    report["steps_later"] = steps_in(run_dir)
    report["status_later"] = json.loads((run_dir / "status.json").read_text())["state"]
    report["metrics"] = [entry["step"] for entry in read_metrics(run_dir / "metrics.jsonl")]
    report["samples"] = [entry.step for entry in read_samples(run_dir / "samples.jsonl")]
    report["warned"] = [name for name in ("metrics", "samples", "tb") if f"run/{name}" in "".join(messages.lines)]
    (scratch / "report.json").write_text(json.dumps(report))


class FullBetween(logging.Handler):
    """Fills the disk once one step is logged and empties it once another is."""

    def __init__(self, disk: Path, full_from: int, full_until: int) -> None:
        super().__init__()
        self.kept: list[int] = []
        self._disk, self._filler = disk, Filler(disk)
        self._full_from, self._full_until = f"step {full_from}/", f"step {full_until}/"

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith(self._full_from):
            self._filler.take_all()
        elif text.startswith(self._full_until):
            found = (self._disk / "run" / "checkpoints").glob("step_*")
            self.kept = sorted(step_of(path.name) for path in found)
            self._filler.give_back()


def train_through_a_full_disk(disk: Path, scratch: Path) -> None:
    messages, full = listen(), FullBetween(disk, full_from=3, full_until=6)
    checkpoint.RETRY_SECONDS = (0.0, 0.0)
    dataset = make_dataset(scratch / "shards")
    settings = {
        "model__encoder_width": 8,
        "train__steps": 8,
        "optim__ema_decay": 0.9,
        "checkpoint__every_steps": 2,
        "monitor__log_every_steps": 1,
        "monitor__log_samples": True,
    }
    assert train(make_config(scratch / "large" / "run", dataset, **settings), command=COMMAND).state == "finished"
    messages.lines.clear()
    logging.getLogger("depthrank").addHandler(full)
    status = train(make_config(disk / "run", dataset, **settings), command=COMMAND)
    shutil.copy(disk / "run" / "model.safetensors", scratch / "small.safetensors")
    shutil.copy(scratch / "large" / "run" / "model.safetensors", scratch / "large.safetensors")
    report = {
        "state": status.state,
        "log": "\n".join(messages.lines),
        "kept_while_full": full.kept,
        "steps": steps_in(disk / "run"),
    }
    (scratch / "report.json").write_text(json.dumps(report))
