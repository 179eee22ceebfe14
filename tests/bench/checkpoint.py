"""Saving a checkpoint: how long training is blocked, how long the writing takes, what saves cost in a whole run.

Network and AdamW moments of the ResNet-50 network, beside two references of the same run: a fresh copy of all tensors
to the host, and `accelerator.save_state`, which blocks until all is written. Rounds alternate; figures are medians.
Ours also hashes and syncs every file, which `save_state` does not.

What a save costs a run is what training loses until the checkpoint is published: the stall, and the steps that are
slower while the other thread writes. With a save every five minutes that is a share of 300 s.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import CheckpointConfig, TrainConfig
from pipeline.train.machine import Machine, open_machine
from pipeline.train.optimizer_state import flatten_optimizer
from pipeline.train.parts import Parts, build_parts

from .network import NETWORKS, a_batch, run_of, timed
from .rows import Row

ROUNDS = {"cpu": 9, "cuda": 3}
"""By the device: minutes of a GPU are dear."""
INTERVAL_SECONDS = 300
QUIET_STEPS = 3
"""Without a write, before and after each save."""


class Round(NamedTuple):
    """Seconds of one round."""

    copy: float
    stall: float
    written: float
    save_state: float
    lost: float


def run() -> dict[str, object]:
    """Measure on a GPU where there is one, else on the CPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {device: measure(device)}


def rows(record: dict[str, object]) -> list[Row]:
    found = []
    for device, told in record.items():
        stall, written, save_state = (told[f"{name}_s"] for name in ("stall", "written", "save_state"))
        found += [
            Row(
                f"checkpoint: training blocked, {device}",
                stall,
                "s",
                "a fresh copy to the host",
                told["copy_s"],
                "lower",
            ),
            Row(
                f"checkpoint: blocked beside Accelerate, {device}",
                stall,
                "s",
                "save_state",
                save_state,
                "lower",
            ),
            Row(f"checkpoint: written and synced, {device}", written, "s", "save_state", save_state, "lower"),
            Row(f"checkpoint: lost to a save, {device}", told["lost_s"], "s", "1 % of five minutes", 3.0, "lower"),
        ]
    return found


def measure(device: str) -> dict[str, object]:
    batch_size, size = (16, 384) if device == "cuda" else (2, 160)
    num_rounds = ROUNDS[device]
    os.environ["ACCELERATE_USE_CPU"] = str(device == "cpu").lower()
    config = run_of(NETWORKS["CVPR 2018"], TrainConfig(steps=1, batch_size=batch_size, size=size))
    machine = open_machine(config)
    parts = build_parts(config, machine, resumes=False)
    batch = a_batch(config, machine.device)

    def step() -> None:
        figures = parts.optimizer_step.run([batch], 1e-6, 1)
        parts.optimizer_step.settle()
        assert figures is not None
        figures.terms.tolist()

    for _ in range(3):
        step()
    folder = Path("runs")
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-checkpoint-") as scratch:
        store = CheckpointStore(Path(scratch) / "ours", run_id="bench", config=CheckpointConfig())
        first_stall = seconds_of_save(store, parts, 1)[0]
        rounds = [a_round(store, parts, machine, step, Path(scratch), 2 + 2 * number) for number in range(num_rounds)]
        num_bytes = sum(tensor.nbytes for tensor in tensors_of(parts))
    middle = Round(*(statistics.median(values) for values in zip(*rounds, strict=True)))
    allowed = 1.1 * middle.copy + 0.02
    threads = torch.get_num_threads()
    print(f"{device}: {num_bytes / 1e6:.0f} MB of tensors; medians of {num_rounds} rounds, {threads} threads")
    print("| | s | beside |\n|---|---|---|")
    print(f"| a fresh copy to the host | {middle.copy:.3f} | |")
    against = (
        f"{middle.stall / middle.copy:.2f} of the copy; allowed {allowed:.3f} s: {verdict(middle.stall <= allowed)}"
    )
    print(f"| training is blocked by `save` | {middle.stall:.3f} | {against} |")
    print(f"| the same, first save of a session | {first_stall:.3f} | {first_stall / middle.copy:.2f} of the copy |")
    print(
        f"| written, hashed, synced | {middle.written:.3f} | {middle.written / middle.save_state:.2f} of save_state |"
    )
    print(
        f"| `accelerator.save_state` blocks | {middle.save_state:.3f} | {middle.save_state / middle.stall:.1f} stalls |"
    )
    share = middle.lost / INTERVAL_SECONDS
    print(f"| training loses by a save | {middle.lost:.3f} | {share:.2%} of five minutes: {verdict(share < 0.01)} |")
    return {
        "megabytes": round(num_bytes / 1e6),
        "threads": threads,
        "rounds": num_rounds,
        "first_stall_s": round(first_stall, 4),
        **{f"{name}_s": round(value, 4) for name, value in middle._asdict().items()},
        "stall_over_copy": round(middle.stall / middle.copy, 3),
        "share_of_five_minutes": round(share, 5),
    }


def a_round(
    store: CheckpointStore, parts: Parts, machine: Machine, step: Callable[[], None], scratch: Path, number: int
) -> Round:
    """Everything once, one after the other; the store saves as `number` and `number + 1`."""
    copy = timed(lambda: fresh_copies(parts))
    stall, written = seconds_of_save(store, parts, number)
    save_state = timed(lambda: machine.accelerator.save_state(str(scratch / "theirs")))
    shutil.rmtree(scratch / "theirs")
    return Round(copy, stall, written, save_state, seconds_lost(store, parts, step, number + 1))


def seconds_of_save(store: CheckpointStore, parts: Parts, number: int) -> tuple[float, float]:
    """How long a save blocks, and how long it takes to be written; nothing else runs."""
    begin = time.perf_counter()
    store.save(number, parts.tensors(), {})
    stall = time.perf_counter() - begin
    store.wait()
    assert store.last_error is None, store.last_error
    return stall, time.perf_counter() - begin


def seconds_lost(store: CheckpointStore, parts: Parts, step: Callable[[], None], number: int) -> float:
    """What training loses by a save: the steps until it is published take so much longer, stall included."""
    quiet = [timed(step) for _ in range(QUIET_STEPS)]
    steps = 0
    begin = time.perf_counter()
    store.save(number, parts.tensors(), {})
    while steps == 0 or store.published_step != number:
        step()
        steps += 1
        assert store.last_error is None, store.last_error
    taken = time.perf_counter() - begin
    store.wait()
    quiet += [timed(step) for _ in range(QUIET_STEPS)]
    return taken - steps * statistics.median(quiet)


def fresh_copies(parts: Parts) -> list[Tensor]:
    copies = [tensor.detach().to("cpu", copy=True) for tensor in tensors_of(parts)]
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return copies


def tensors_of(parts: Parts) -> list[Tensor]:
    found = parts.tensors()
    moments, _ = flatten_optimizer(found["optimizer"])
    groups = [found["model"], moments, found.get("ema", {})]
    return [tensor for group in groups for tensor in group.values()]


def verdict(holds: bool) -> str:
    return "kept" if holds else "MISSED"
