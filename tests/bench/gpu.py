"""The training step of the ResNet-50 network on a GPU: precision, memory format, compilation, the largest batch.

    make bench-gpu

Each setting's images a second on data that lies on the device, beside the plain float32 step of the same run, the
memory that it takes, and the largest batch (a power of two) that fits. What the training stream can feed is measured
by the benchmark `fed`. Without a GPU there is nothing to measure.
"""

import statistics
from typing import Any

import torch

from pipeline.train.config import TrainConfig
from pipeline.train.machine import AMPERE, open_machine
from pipeline.train.parts import build_parts

from .network import NETWORKS, a_batch, run_of, timed
from .rows import Row

SIZE, BATCH_SIZE, STEPS, ROUNDS = 384, 16, 10, 5
SETTINGS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp32, channels_last": {"channels_last": True},
    "fp16, channels_last": {"precision": "fp16", "channels_last": True},
    "bf16": {"precision": "bf16"},
    "bf16, channels_last": {"precision": "bf16", "channels_last": True},
    "bf16, channels_last, compile": {"precision": "bf16", "channels_last": True, "compile": True},
}


def run() -> dict[str, Any]:
    """Measure; nothing where there is no GPU."""
    if not torch.cuda.is_available():
        print("no CUDA GPU was found")
        return {}
    has_bf16 = torch.cuda.get_device_capability() >= AMPERE
    chosen = {name: given for name, given in SETTINGS.items() if has_bf16 or "bf16" not in name}
    record = {name: measure(given) for name, given in chosen.items()}
    print(f"| {SIZE}², batch {BATCH_SIZE} | images/s | GiB | largest batch |\n|---|---|---|---|")
    for name, told in record.items():
        print(f"| {name} | {told['images_per_s']:.1f} | {told['memory_gib']:.2f} | {told['largest_batch']} |")
    return record


def rows(record: dict[str, Any]) -> list[Row]:
    return [
        Row(f"gpu: step, {name}", told["images_per_s"], "images/s", "fp32", record["fp32"]["images_per_s"], "higher")
        for name, told in record.items()
        if name != "fp32"
    ]


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Images a second at the usual batch, the memory of that, and the largest batch."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    images_per_s = rate(settings, BATCH_SIZE)
    memory_gib = torch.cuda.max_memory_reserved() / 2**30
    largest = BATCH_SIZE
    while fits(settings, 2 * largest):
        largest *= 2
    return {"images_per_s": round(images_per_s, 2), "memory_gib": round(memory_gib, 3), "largest_batch": largest}


def fits(settings: dict[str, Any], batch_size: int) -> bool:
    try:
        rate(settings, batch_size, rounds=1)
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def rate(settings: dict[str, Any], batch_size: int, rounds: int = ROUNDS) -> float:
    config = run_of(NETWORKS["CVPR 2018"], TrainConfig(steps=1, batch_size=batch_size, size=SIZE, **settings))
    machine = open_machine(config)
    step = build_parts(config, machine, resumes=False).optimizer_step
    batch = a_batch(config)

    def work() -> None:
        for _ in range(STEPS):
            step.run([batch], 1e-6, 1)
        step.settle()
        torch.cuda.synchronize()

    work()  # compiles, and finds the fastest kernels
    return batch_size * STEPS / statistics.median(timed(work) for _ in range(rounds))
