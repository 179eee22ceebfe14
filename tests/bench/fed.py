"""A training step fed by the training stream, beside the same step on a batch that lies on the device already.

On the CPU configs/webstereo.yaml, made for a laptop; on a GPU the whole ResNet-50 network at 384 x 384 in bf16 (fp16
where the GPU has none), channels_last. Rounds alternate. What the step computes is held against a product of matrices
in the same precision on the same device, the most that this machine does; a training step counts as three passes.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from launch.recipe import load_recipe
from model.losses import build_loss
from pipeline.checkup.devices import advised_precision
from pipeline.train.config import RunConfig
from pipeline.train.machine import open_machine
from pipeline.train.parts import build_parts
from pipeline.train.plan import giga_macs
from pipeline.train.trainer import open_stream
from shards.config import PackConfig, ShardsConfig
from shards.pack import pack
from shards.sources.config import SyntheticSourceConfig

from .network import at_hand, forget_networks
from .rows import Row

ROUNDS = 5
SCENES = 16
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def run() -> dict[str, Any]:
    """Measure on the CPU, and on a GPU where there is one."""
    return {device: measure(device) for device in ["cpu"] + ["cuda"] * torch.cuda.is_available()}


def rows(record: dict[str, Any]) -> list[Row]:
    found = []
    for device, told in record.items():
        fed, bare, product = told["fed_s"], told["at_hand_s"], told["product_gflops"]
        found += [
            Row(f"fed: step with the stream, {device}", fed, "s", "data on the device", bare, "lower"),
            Row(f"fed: loss of a step, {device}", told["loss_s"], "s", "the step", bare, "lower"),
            Row(
                f"fed: arithmetic of a step, {device}", told["gflops"], "GFLOP/s", "a matrix product", product, "higher"
            ),
        ]
    return found


def measure(device: str) -> dict[str, float]:
    """Seconds of a step, fed and at hand, of waiting for its data, and of its loss; rates in GFLOP/s."""
    os.environ["ACCELERATE_USE_CPU"] = str(device == "cpu").lower()
    forget_networks()
    with tempfile.TemporaryDirectory() as folder:
        source = SyntheticSourceConfig(kind="synthetic", train=SCENES, val=0, height_px=480, width_px=640)
        pack(PackConfig(out=f"{folder}/shards", source=source, shards=ShardsConfig(workers=1)))
        config = load_recipe("configs/webstereo.yaml", overrides(device, folder), needs=RunConfig).recipe.run_config()
        machine = open_machine(config)
        stream = open_stream(config, machine)
        parts = build_parts(config, machine, resumes=False)
        batches = stream.steps(0)
        batch = next(batches)[0]
        on_device = at_hand(batch, machine.device)

        def step(micro_batches: list[Any]) -> None:
            parts.optimizer_step.run(micro_batches, 1e-6, 1)
            parts.optimizer_step.settle()
            wait_for(machine.device)

        rounds = max(1, 12 // config.train.batch_size) if device == "cpu" else 20
        seconds: dict[str, list[float]] = {"fed_s": [], "wait_s": [], "at_hand_s": []}
        for _ in range(3):
            step(next(batches))
            step([on_device])
        for _ in range(ROUNDS):
            for _ in range(2 * config.data.num_workers + 1):
                step(next(batches))  # until nothing is left of what the workers made during the other part
            begin, waited = time.perf_counter(), 0.0
            for _ in range(rounds):
                asked = time.perf_counter()
                micro_batches = next(batches)
                waited += time.perf_counter() - asked
                step(micro_batches)
                del micro_batches  # as the training loop does
            seconds["fed_s"].append((time.perf_counter() - begin) / rounds)
            seconds["wait_s"].append(waited / rounds)
            seconds["at_hand_s"].append(timed(lambda: step([on_device]), rounds))
        stream.close()
        found = {name: statistics.median(values) for name, values in seconds.items()}
        found["loss_s"] = loss_seconds(config, batch, machine.device)
    found["product_gflops"] = product_gflops(machine.device, DTYPES[config.train.precision])
    found["gflops"] = 3 * 2 * giga_macs(config) * config.train.batch_size / found["at_hand_s"]
    found["memory_gib"] = torch.cuda.max_memory_reserved() / 2**30 if device == "cuda" else 0.0
    share = found["wait_s"] / found["fed_s"]
    print(
        f"{device}: " + "  ".join(f"{name} {value:.4g}" for name, value in found.items()) + f"  data wait {share:.1%}"
    )
    return {name: float(f"{value:.5g}") for name, value in found.items()}


def overrides(device: str, folder: str) -> list[str]:
    given = ["run=unused", f"data.train={folder}/shards", "data.val=null", "model.encoder_weights=none"]
    if device == "cpu":
        return given
    workers = min(16, max(1, (os.cpu_count() or 2) - 1))
    return [
        *given,
        f"train.precision={advised_precision(torch.cuda.get_device_capability())}",
        "model.decoder_channels=256",
        "train.size=384",
        "train.batch_size=16",
        "data.num_pairs=3000",
        f"data.num_workers={workers}",
    ]


def loss_seconds(config: RunConfig, batch: dict[str, Any], device: torch.device) -> float:
    """Forward and backward of the loss alone."""
    loss = build_loss(config.loss)
    labels = {name: value.to(device) for name, value in batch.items() if isinstance(value, torch.Tensor)}
    prediction = torch.randn(len(batch["image"]), *config.train.size, device=device, requires_grad=True)

    def work() -> None:
        prediction.grad = None
        loss(prediction, labels).total.sum().backward()
        wait_for(device)

    work()
    return min(timed(work, 1) for _ in range(ROUNDS))


def product_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """Rate of a product of two matrices that fill the device."""
    side = 8192 if device.type == "cuda" else 1536
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def work() -> None:
        left @ right
        wait_for(device)

    work()
    return 2 * side**3 / min(timed(work, 1) for _ in range(ROUNDS)) / 1e9


def timed(work: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begin) / times


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
