"""Processor time of starts: help, the import of torch and Accelerate, a dry run, and one that resumes.

The floor of a help is Python itself, of a dry run the import of torch and Accelerate, of a resume the dry run of a new
run and one look at every byte of the checkpoint: hashed, and copied once. Each is a process of its own, rounds
alternate, and the least of each counts, as other work on the machine only adds.
"""

import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from launch.cli import COMMANDS
from shards.config import PackConfig, ShardsConfig
from shards.pack import pack
from shards.sources.config import SyntheticSourceConfig

from .rows import Row

ROUNDS = 3
ALLOWED_S = 3.0
"""Of a dry run, beyond the imports: networks and steps of the demo take that much."""
BIG = ("model.encoder=resnet50", "model.encoder_width=64", "model.decoder_channels=256", "train.batch_size=2")


def run() -> dict[str, Any]:
    """Measure; the checkpoint is that of the ResNet-50 network with AdamW's moments."""
    with tempfile.TemporaryDirectory() as folder:
        source = SyntheticSourceConfig(kind="synthetic", train=32, val=0, height_px=72, width_px=96)
        pack(PackConfig(out=f"{folder}/shards", source=source, shards=ShardsConfig(workers=1)))
        train = ["-m", "launch.train", "--config", "configs/demo.yaml", f"data.train={folder}/shards", "data.val=null"]
        big = [*train, *BIG, "train.steps=2", "checkpoint.every_steps=2", "optim.warmup_steps=0"]
        subprocess.run([sys.executable, *big, f"run={folder}/resumed"], check=True, capture_output=True)
        (checkpoint,) = Path(folder, "resumed", "checkpoints").glob("step_*")
        helps = {f"{name} --help": ["-m", "launch.cli", name, "--help"] for name in COMMANDS}
        cases = {
            "python": ["-c", "import argparse"],
            **helps,
            "torch and accelerate": ["-c", "import torch, accelerate"],
            "dry run": [*train, f"run={folder}/new", "--dry-run"],
            "dry run, ResNet-50": [*big, f"run={folder}/new", "--dry-run"],
            "dry run that resumes, ResNet-50": [*big, f"run={folder}/resumed", "--dry-run"],
        }
        seconds = dict.fromkeys(cases, float("inf"))
        for _ in range(ROUNDS):
            for name, arguments in cases.items():
                seconds[name] = min(seconds[name], cpu_seconds(arguments))
        floor = min(look_seconds(checkpoint) for _ in range(ROUNDS))
    for name, value in seconds.items():
        print(f"{name:34} {value:6.2f} s of processor time", flush=True)
    print(f"{'each byte of the checkpoint once':34} {floor:6.2f} s")
    return {"cpu_s": {name: round(value, 3) for name, value in seconds.items()}, "checkpoint_floor_s": round(floor, 3)}


def rows(record: dict[str, Any]) -> list[Row]:
    seconds, floor = record["cpu_s"], record["checkpoint_floor_s"]
    slowest = max((name for name in seconds if name.endswith("--help")), key=seconds.__getitem__)
    allowed = seconds["torch and accelerate"] + ALLOWED_S
    resumed, fresh = seconds["dry run that resumes, ResNet-50"], seconds["dry run, ResNet-50"]
    return [
        Row("start: the slowest --help", seconds[slowest], "s", "the 0.5 s that are allowed", 0.5, "lower"),
        Row(
            "start: dry run of the demo",
            seconds["dry run"],
            "s",
            "importing torch, accelerate + 3 s",
            allowed,
            "lower",
        ),
        Row("start: dry run that resumes", resumed, "s", "a new run's + one look at each byte", fresh + floor, "lower"),
    ]


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of a Python process, and of those that it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def look_seconds(folder: Path) -> float:
    """Processor time of hashing every file of a folder and copying it once."""
    begin = time.process_time()
    for path in folder.iterdir():
        data = np.fromfile(path, dtype=np.uint8)
        hashlib.sha256(data).hexdigest()
        data.copy()
    return time.process_time() - begin
