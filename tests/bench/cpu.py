"""Training steps on the CPU, fed by the training stream, with the settings that a recipe gets and with naive ones.

Naive is what torch and a DataLoader do unless told otherwise: as many threads as cores, two workers, contiguous
tensors, an optimizer that is not fused. Two recipes: that of `make demo`, and configs/webstereo.yaml, made for a
laptop. Rounds alternate; each begins with steps that are not timed, for what workers have ready.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from launch.recipe import load_recipe
from pipeline.train.config import RunConfig
from pipeline.train.machine import open_machine
from pipeline.train.parts import build_parts
from pipeline.train.trainer import open_stream
from shards.config import PackConfig, ShardsConfig
from shards.pack import pack
from shards.sources.config import SyntheticSourceConfig

from .rows import Row

ROUNDS = 5


class Recipe(NamedTuple):
    """What is trained, on scenes of which size, and how many steps of a round are timed."""

    file: str
    overrides: tuple[str, ...]
    scene_hw: tuple[int, int]
    steps: int


class Settings(NamedTuple):
    """How it is trained; the threads of 0 are all cores."""

    threads: int
    workers: int
    channels_last: bool = False
    fused: bool = True


RECIPES = {
    "demo": Recipe("configs/demo.yaml", (), (72, 96), 10),
    "laptop": Recipe("configs/webstereo.yaml", ("model.encoder_weights=none",), (480, 640), 3),
}
NAIVE = Settings(threads=0, workers=2, fused=False)
CASES = {
    "naive": NAIVE,
    "all threads, no workers": Settings(0, 0),
    "all threads, 1 worker": Settings(0, 1),
    "1 thread, no workers": Settings(1, 0),
    "1 thread, 1 worker": Settings(1, 1),
    "1 thread, 2 workers": Settings(1, 2),
    "all threads, no workers, channels_last": Settings(0, 0, channels_last=True),
    "all threads, 1 worker, channels_last": Settings(0, 1, channels_last=True),
}
CHOSEN = {"demo": "1 thread, no workers", "laptop": "all threads, 1 worker, channels_last"}


def run() -> dict[str, Any]:
    """Measure both recipes with every case."""
    return {name: measure(recipe) for name, recipe in RECIPES.items()}


def rows(record: dict[str, Any]) -> list[Row]:
    return [
        Row(
            f"cpu: {name} recipe as chosen",
            cases[CHOSEN[name]]["images_per_s"],
            "images/s",
            "naive settings",
            cases["naive"]["images_per_s"],
            "higher",
        )
        for name, cases in record.items()
    ]


def measure(recipe: Recipe) -> dict[str, dict[str, float]]:
    """Images a second and processor time of an image, of each case."""
    threads = torch.get_num_threads()
    os.environ["ACCELERATE_USE_CPU"] = "true"
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    cpu: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        height, width = recipe.scene_hw
        source = SyntheticSourceConfig(kind="synthetic", train=16, val=0, height_px=height, width_px=width)
        pack(PackConfig(out=f"{folder}/shards", source=source, shards=ShardsConfig(workers=1)))
        steps = {name: a_step(recipe, settings, Path(folder), stack) for name, settings in CASES.items()}
        for _ in range(ROUNDS):
            for name, settings in CASES.items():
                torch.set_num_threads(settings.threads or os.cpu_count() or 1)
                for _ in range(2 * settings.workers + 1):
                    steps[name]()
                begin, cpu_begin = time.perf_counter(), cpu_seconds()
                for _ in range(recipe.steps):
                    batch_size = steps[name]()
                images = recipe.steps * batch_size
                seconds[name].append((time.perf_counter() - begin) / images)
                cpu[name].append((cpu_seconds() - cpu_begin) / images)
    torch.set_num_threads(threads)
    print(f"\n| {recipe.file} | images/s | of naive | CPU ms an image |\n|---|---|---|---|")
    found = {}
    for name in CASES:
        ratio = statistics.median(a / b for a, b in zip(seconds["naive"], seconds[name], strict=True))
        rate, cpu_ms = 1 / statistics.median(seconds[name]), 1000 * statistics.median(cpu[name])
        print(f"| {name} | {rate:.1f} | {ratio:.2f} | {cpu_ms:.1f} |", flush=True)
        found[name] = {"images_per_s": round(rate, 2), "of_naive": round(ratio, 3), "cpu_ms": round(cpu_ms, 2)}
    return found


def a_step(recipe: Recipe, settings: Settings, folder: Path, stack: ExitStack) -> Callable[[], int]:
    """Take a batch from a stream of its own and train on it; returns how many images that were."""
    overrides = [
        *recipe.overrides,
        "run=unused",
        f"data.train={folder}/shards",
        "data.val=null",
        f"data.num_workers={settings.workers}",
        f"train.channels_last={str(settings.channels_last).lower()}",
        f"optim.fused={str(settings.fused).lower()}",
    ]
    config = load_recipe(recipe.file, overrides, needs=RunConfig).recipe.run_config()
    machine = open_machine(config)
    stream = open_stream(config, machine)
    stack.callback(stream.close)
    parts = build_parts(config, machine, resumes=False)
    batches = stream.steps(0)

    def step() -> int:
        parts.optimizer_step.run(next(batches), 1e-6, 1)
        parts.optimizer_step.settle()
        return config.train.batch_size

    return step


def cpu_seconds() -> float:
    """Processor time so far of this process and of those that it started and that still live."""
    from tests.bench.peers.measure import cpu_seconds as of_all

    return of_all()
