"""Training steps on the CPU, fed by the training stream, with the settings that a recipe gets and with naive ones.

Naive is what torch and a DataLoader do unless told otherwise: as many threads as cores, two workers, contiguous
tensors, an optimizer that is not fused, memory that goes back to the system. Two recipes: that of `make demo`, and
configs/webstereo.yaml, made for a laptop. Every case has processes of its own that wait while others are measured, and
rounds alternate; each begins with steps that are not timed, for what workers have ready.
"""

import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from launch.recipe import load_recipe
from pipeline.train import machine as machine_module
from pipeline.train.config import RunConfig
from pipeline.train.machine import open_machine, set_threads
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
    keeps_memory: bool = True
    processes: int = 1
    joined: bool = False
    """Whether several processes train one network; else each has its own."""

    @property
    def runs(self) -> int:
        """Networks that are trained."""
        return 1 if self.joined else self.processes


RECIPES = {
    "demo": Recipe("configs/demo.yaml", (), (72, 96), 10),
    "laptop": Recipe("configs/webstereo.yaml", ("model.encoder_weights=none",), (480, 640), 2),
}
CASES = {
    "naive": Settings(0, 2, fused=False, keeps_memory=False),
    "all threads, no workers": Settings(0, 0),
    "all threads, no workers, channels_last, memory given back": Settings(0, 0, True, keeps_memory=False),
    "all threads, no workers, channels_last": Settings(0, 0, channels_last=True),
    "all threads, 1 worker, channels_last": Settings(0, 1, channels_last=True),
    "1 thread, no workers, channels_last": Settings(1, 0, channels_last=True),
    "1 thread, no workers: two runs at once": Settings(1, 0, processes=2),
    "1 thread, no workers, channels_last: two processes": Settings(1, 0, True, processes=2, joined=True),
}
CHOSEN = {
    "demo": "1 thread, no workers: two runs at once",
    "laptop": "all threads, no workers, channels_last",
}


def run() -> dict[str, Any]:
    """Measure both recipes with every case."""
    return {name: measure(recipe) for name, recipe in RECIPES.items()}


def rows(record: dict[str, Any]) -> list[Row]:
    return [
        Row(f"cpu: {name} recipe as set", cases[CHOSEN[name]]["of_naive"], "x", "naive settings", 1.0, "higher")
        for name, cases in record.items()
    ]


def measure(recipe: Recipe) -> dict[str, dict[str, float]]:
    """Images a second and processor time of an image, of each case; of several runs at once, of all together."""
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    cpu: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        height, width = recipe.scene_hw
        source = SyntheticSourceConfig(kind="synthetic", train=16, val=0, height_px=height, width_px=width)
        pack(PackConfig(out=f"{folder}/shards", source=source, shards=ShardsConfig(workers=1)))
        trainees = {name: start(recipe, settings, Path(folder), stack) for name, settings in CASES.items()}
        for _ in range(ROUNDS):
            for name, settings in CASES.items():
                for trainee in trainees[name]:
                    trainee.send((2 * settings.workers + 1, recipe.steps))
                told = [trainee.recv() for trainee in trainees[name]]
                images = settings.runs * told[0]["images"]
                seconds[name].append(max(one["seconds"] for one in told) / images)
                cpu[name].append(sum(one["cpu_s"] for one in told) / images)
    print(f"\n| {recipe.file} | images/s | of naive | CPU ms an image |\n|---|---|---|---|")
    found = {}
    for name in CASES:
        ratio = statistics.median(a / b for a, b in zip(seconds["naive"], seconds[name], strict=True))
        rate, cpu_ms = 1 / statistics.median(seconds[name]), 1000 * statistics.median(cpu[name])
        print(f"| {name} | {rate:.1f} | {ratio:.2f} | {cpu_ms:.1f} |", flush=True)
        found[name] = {"images_per_s": round(rate, 2), "of_naive": round(ratio, 3), "cpu_ms": round(cpu_ms, 2)}
    return found


def start(recipe: Recipe, settings: Settings, folder: Path, stack: ExitStack) -> list[Connection]:
    """Processes that train when they are told how many steps; they end with the stack."""
    context = multiprocessing.get_context("spawn")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ends = []
    for rank in range(settings.processes):
        ours, theirs = context.Pipe()
        launched = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(settings.processes),
            "LOCAL_WORLD_SIZE": str(settings.processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        process = context.Process(
            target=serve, args=(recipe, settings, folder, launched if settings.joined else {}, theirs)
        )
        process.start()
        theirs.close()
        stack.callback(process.join)
        stack.callback(ours.close)
        ends.append(ours)
    for end in ends:
        end.recv()  # it is ready
    return ends


def serve(recipe: Recipe, settings: Settings, folder: Path, environ: dict[str, str], orders: Connection) -> None:
    """A process that is measured: takes steps when it is told to, until nobody is left to tell it."""
    os.environ |= {"ACCELERATE_USE_CPU": "true", **environ}
    if not settings.keeps_memory:
        machine_module.keep_freed_memory = lambda: False
    with ExitStack() as stack:
        step = a_step(recipe, settings, folder, stack)
        step()
        orders.send("ready")
        while True:
            try:
                untimed, steps = orders.recv()
            except EOFError:
                return
            for _ in range(untimed):
                step()
            begin, cpu_begin = time.perf_counter(), cpu_seconds()
            images = sum(step() for _ in range(steps))
            orders.send({"seconds": time.perf_counter() - begin, "cpu_s": cpu_seconds() - cpu_begin, "images": images})


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
    stack.callback(machine.close)
    set_threads(settings.threads, None, machine.local_processes)
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
