"""The training step of the ResNet-50 network on a GPU: precision, memory format, compilation, the largest batch.

    make bench-gpu

Each setting's images a second on data that lies on the device, beside the plain fp32 step of the same run (torch
computes its convolutions in TF32 where the GPU has that), the memory that it takes, and the largest batch (a power of
two) that fits, looked for up to `MOST` and without compiling for each. What the training stream can feed is measured by
the benchmark `fed`. Without a GPU there is nothing to measure.
"""

import re
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch

from pipeline.checkup.devices import advised_precision
from pipeline.train.config import TrainConfig
from pipeline.train.machine import open_machine
from pipeline.train.parts import build_parts

from .network import NETWORKS, a_batch, forget_networks, run_of, timed
from .rows import Row

SIZE, BATCH_SIZE, STEPS, ROUNDS = 384, 16, 10, 5
MOST = 128
"""The largest batch that is tried."""
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
    has_bf16 = advised_precision(torch.cuda.get_device_capability()) == "bf16"
    record = {}
    print(f"| {SIZE}², batch {BATCH_SIZE} | images/s | GiB | largest batch |\n|---|---|---|---|")
    for name, settings in SETTINGS.items():
        if has_bf16 or "bf16" not in name:
            record[name] = told = measure(settings)
            cells = (name, f"{told['images_per_s']:.1f}", f"{told['memory_gib']:.2f}", told["largest_batch"])
            print(f"| {' | '.join(cells)} |", flush=True)
    return record


def rows(record: dict[str, Any]) -> list[Row]:
    return [
        Row(f"gpu: step, {name}", told["images_per_s"], "images/s", "fp32", record["fp32"]["images_per_s"], "higher")
        for name, told in record.items()
        if name != "fp32"
    ]


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Images a second at the usual batch, the memory of that, and the largest batch in words."""
    images_per_s = rate(settings)
    return {
        "images_per_s": round(images_per_s, 2),
        "memory_gib": round(torch.cuda.max_memory_reserved() / 2**30, 3),
        "largest_batch": "not looked for" if "compile" in settings else largest_batch(settings),
    }


def rate(settings: dict[str, Any]) -> float:
    """Images a second."""
    train = trainer(settings, BATCH_SIZE)
    train(STEPS)  # compiles, and makes what the optimizer keeps
    return BATCH_SIZE * STEPS / statistics.median(timed(lambda: train(STEPS)) for _ in range(ROUNDS))


def largest_batch(settings: dict[str, Any]) -> str:
    largest = BATCH_SIZE
    while largest < MOST:
        if not fits(settings, 2 * largest):
            return str(largest)
        largest *= 2
    return f"at least {MOST}"


def fits(settings: dict[str, Any], batch_size: int) -> bool:
    """Whether two steps go through: in the second what the optimizer keeps lies beside all else."""
    try:
        trainer(settings, batch_size)(2)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        # In what is left of the memory cuDNN may find no way; anything else is a defect.
        if not isinstance(error, torch.OutOfMemoryError) and not re.search("cudnn|engine", reason, re.IGNORECASE):
            raise
        print(f"batch {batch_size} does not fit: {reason}", file=sys.stderr, flush=True)
        return False
    return True


def trainer(settings: dict[str, Any], batch_size: int) -> Callable[[int], None]:
    """Takes so many steps on one batch; nothing of an earlier one is left."""
    forget_networks()
    config = run_of(NETWORKS["CVPR 2018"], TrainConfig(steps=1, batch_size=batch_size, size=SIZE, **settings))
    machine = open_machine(config)
    step = build_parts(config, machine, resumes=False).optimizer_step
    batch = a_batch(config, machine.device)

    def train(steps: int) -> None:
        for _ in range(steps):
            step.run([batch], 1e-6, 1)
        step.settle()
        torch.cuda.synchronize()

    return train
