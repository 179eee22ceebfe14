"""The networks: weights, multiply-adds and time of a picture; and what the settings of speed do to a training step.

Prints the tables of docs/model.md, on a GPU the second only: that of the networks is of the CPU. Times are of this
machine; GMAC do not depend on it.
"""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model import DepthNet, ModelConfig
from pipeline.checkup.devices import advised_precision
from pipeline.data.config import DataConfig
from pipeline.train.config import RunConfig, TrainConfig
from pipeline.train.machine import open_machine
from pipeline.train.parts import build_parts
from pipeline.train.plan import giga_macs

from .rows import Row

SIZE = 384
ROUNDS = 3
NETWORKS = {
    "CVPR 2018": ModelConfig(name="redweb", encoder="resnet50"),
    "CVPR 2018, v1 strides": ModelConfig(name="redweb", encoder="resnet50", encoder_variant="v1"),
    "CVPR 2020 official": ModelConfig(name="sgr", encoder="resnet50"),
    "MiDaS-style head": ModelConfig(name="midas", encoder="resnet50"),
    "MiDaS-style head, large": ModelConfig(name="midas", encoder="resnext101_32x8d"),
    **{
        f"CVPR 2018 on {encoder}": ModelConfig(encoder=encoder)
        for encoder in ("resnet18", "resnet34", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d")
    },
    **{f"CVPR 2018 on {encoder}": ModelConfig(encoder=encoder) for encoder in ("convnext_tiny", "convnext_small")},
    "for phones": ModelConfig(encoder="mobilenet_v3_large", decoder_channels=64),
    "make demo": ModelConfig(encoder="resnet18", encoder_width=32, decoder_channels=32),
}
SPEED = {
    "plain": {},
    "channels_last": {"channels_last": True},
    "compile": {"compile": True},
    "channels_last + compile": {"channels_last": True, "compile": True},
}


def run() -> dict[str, object]:
    return {"speed": speed()} if torch.cuda.is_available() else {"networks": table(), "speed": speed()}


def rows(record: dict[str, object]) -> list[Row]:
    seconds = record["speed"]["seconds"]
    plain = seconds["plain, unfused AdamW"]
    return [
        Row(f"network: step, {name}", taken, "s", "plain, unfused AdamW", plain, "lower")
        for name, taken in seconds.items()
        if taken is not plain
    ]


def table() -> list[dict[str, object]]:
    """One row a network; the time is that of one picture, the best of some rounds."""
    rows = []
    print(f"| network | encoder | million weights | GMAC at {SIZE}² | s a picture |\n|---|---|---|---|---|")
    image = torch.randint(256, (1, 3, SIZE, SIZE), dtype=torch.uint8)
    for title, config in NETWORKS.items():
        net = DepthNet(config).eval()
        run_config = run_of(config, TrainConfig(steps=1, size=SIZE))
        with torch.inference_mode():
            net(image)
            seconds = min(timed(lambda net=net: net(image)) for _ in range(ROUNDS))
        row = {
            "network": title,
            "encoder": config.encoder,
            "parameters": sum(parameter.numel() for parameter in net.parameters()),
            "gmac": round(giga_macs(run_config), 2),
            "seconds": round(seconds, 3),
        }
        rows.append(row)
        cells = (title, config.encoder, f"{row['parameters'] / 1e6:.2f}", f"{row['gmac']:.2f}", f"{seconds:.3f}")
        print(f"| {' | '.join(cells)} |", flush=True)
    return rows


def speed() -> dict[str, object]:
    """Time of a training step of ResNet-50 with each setting, as a ratio to the plain one; rounds alternate.

    The plain one's AdamW is not fused, which is what torch takes by itself: `foreach` on a GPU, a loop on a CPU.
    """
    forget_networks()
    batch_size, size, chosen = 4, 160, SPEED
    if torch.cuda.is_available():  # CPUs without bf16 instructions emulate it, which takes minutes a step
        precision = advised_precision(torch.cuda.get_device_capability())
        batch_size, size, chosen = 16, 384, SPEED | {precision: {"precision": precision}}
    steps: dict[str, Callable[[], object]] = {}
    for title, settings in chosen.items():
        # Of a fused update Accelerate cannot tell that it was skipped, so fp16 is trained without.
        for fused in {"plain": (False, True), "fp16": (False,)}.get(title, (True,)):
            train = TrainConfig(steps=1, batch_size=batch_size, size=size, **settings)
            config = run_of(NETWORKS["CVPR 2018"], train)
            config = config.model_copy(update={"optim": config.optim.model_copy(update={"fused": fused})})
            steps[f"{title}, {'fused' if fused else 'unfused'} AdamW"] = a_step(config)
    seconds: dict[str, list[float]] = {title: [] for title in steps}
    for _ in range(ROUNDS):
        for title, step in steps.items():
            seconds[title].append(timed(step))
    medians = {title: statistics.median(times) for title, times in seconds.items()}
    reference = medians["plain, unfused AdamW"]
    print(f"\n| training step, batch {batch_size}, {size}² | s | of plain |\n|---|---|---|")
    for title, median in medians.items():
        print(f"| {title} | {median:.3f} | {median / reference:.2f} |")
    return {"batch": batch_size, "size": size, "seconds": {title: round(value, 4) for title, value in medians.items()}}


def a_step(config: RunConfig) -> Callable[[], object]:
    """A training step on a fixed batch, warmed up."""
    machine = open_machine(config)
    parts = build_parts(config, machine, resumes=False)
    batch = a_batch(config, machine.device)

    def step() -> object:
        figures = parts.optimizer_step.run([batch], 1e-6, 1)
        parts.optimizer_step.settle()
        assert figures is not None
        return figures.terms.tolist()

    for _ in range(3):
        step()
    return step


def a_batch(config: RunConfig, device: torch.device) -> dict[str, Any]:
    """Noise as the training stream would give it, at hand on the device."""
    size, count, pairs = config.train.size[0], config.train.batch_size, config.data.num_pairs
    rng = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=rng),
        "pairs_yx": torch.randint(size, (count, pairs, 4), generator=rng).to(torch.int16),
        "relation": torch.randint(-1, 2, (count, pairs), generator=rng).to(torch.int8),
        "valid": torch.ones(count, pairs, dtype=torch.bool),
        "colour": torch.zeros(count, 0),
        "replaced": 0,
        "keys": [str(index) for index in range(count)],
    }
    return at_hand(batch, device)


def at_hand(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch on the device, but for the labels of which the loss counts what it uses: it does so on the host."""
    return {
        name: value.to(device) if isinstance(value, Tensor) and name not in ("valid", "relation") else value
        for name, value in batch.items()
    }


def forget_networks() -> None:
    """Begin as in a process of its own: Accelerate leaves networks in cycles, torch.compile keeps what it made of them.

    Having compiled for one size, it would compile for any size next. A GPU's most memory counts from here on.
    """
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def run_of(model: ModelConfig, train: TrainConfig) -> RunConfig:
    return RunConfig(run="unused", data=DataConfig(train="unused"), model=model, train=train)


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
