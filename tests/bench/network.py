"""The networks: weights, multiply-adds and time of a picture; and what the settings of speed do to a training step.

Prints the table of docs/model.md. Times are of this machine; GMAC do not depend on it.
"""

import statistics
import time
from collections.abc import Callable

import torch

from model import DepthNet, ModelConfig
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
if torch.cuda.is_available():  # CPUs without bf16 instructions emulate it, which takes minutes a step
    SPEED["bf16"] = {"precision": "bf16"}


def run() -> dict[str, object]:
    return {"networks": table(), "speed": speed()}


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
    """Time of a training step of ResNet-50 with each setting, as a ratio to the plain one; rounds alternate."""
    batch_size, size = (16, 384) if torch.cuda.is_available() else (4, 160)
    steps: dict[str, Callable[[], object]] = {}
    for title, settings in SPEED.items():
        for fused in (False, True) if title == "plain" else (True,):
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
    batch = a_batch(config)

    def step() -> object:
        figures = parts.optimizer_step.run([batch], 1e-6, 1)
        parts.optimizer_step.settle()
        assert figures is not None
        return figures.terms.tolist()

    for _ in range(3):
        step()
    return step


def a_batch(config: RunConfig) -> dict[str, object]:
    size, count, pairs = config.train.size[0], config.train.batch_size, config.data.num_pairs
    rng = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=rng),
        "pairs_yx": torch.randint(size, (count, pairs, 4), generator=rng).to(torch.int16),
        "relation": torch.randint(-1, 2, (count, pairs), generator=rng).to(torch.int8),
        "valid": torch.ones(count, pairs, dtype=torch.bool),
        "colour": torch.zeros(count, 0),
        "replaced": 0,
        "keys": [str(index) for index in range(count)],
    }


def run_of(model: ModelConfig, train: TrainConfig) -> RunConfig:
    return RunConfig(run="unused", data=DataConfig(train="unused"), model=model, train=train)


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
