"""What the machine gives at best, and what a training step of configs/webstereo.yaml would take if only that counted.

Rates: a product of matrices, a copy in memory, a file read that is not in memory and one written to the disk, JPEGs
decoded by one thread. A step's floors: its arithmetic (three passes) at the rate of the product; the bytes that it
moves at the rate of the copy; its pictures read from the disk; and decoded. What moves: weights, gradients and moments
as often as the passes, AdamW and the moving average touch them; the output of each convolution as often as the passes
touch it, as if nothing stayed in a cache. The step itself is measured in the same run.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from launch.recipe import load_recipe
from model.depthnet import DepthNet
from pipeline.train.config import RunConfig
from pipeline.train.plan import giga_macs
from shards.config import ShardsConfig
from shards.format import decode_jpeg
from shards.images import encode_jpeg
from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene

from . import fed
from .rows import Row

RUNS = Path("runs")  # on the disk that shards are read from; temporary folders may lie in memory
FILE_BYTES = 1 << 30
COPY_BYTES = 1 << 29
ROUNDS = 5
WEIGHT_PASSES = 13
"""Weight: read on both ways, by AdamW and by the average, written; gradient, two moments, average: read, written."""
OUTPUT_PASSES = 6  # written, read; read again on the way back; its gradient written, read for inputs and for weights


def run() -> dict[str, Any]:
    """Measure on the CPU."""
    pictures = jpegs()
    record: dict[str, Any] = {
        "copy_gb_per_s": copy_rate(),
        "decode_per_s": max(decode_rate(pictures) for _ in range(ROUNDS)),
        "picture_bytes": sum(map(len, pictures)) / len(pictures),
        **disk_rates(),
    }
    step = fed.measure("cpu")
    config = load_recipe("configs/webstereo.yaml", fed.overrides("cpu", "unused"), needs=RunConfig).recipe.run_config()
    batch_size = config.train.batch_size
    record |= {"step_s": step["at_hand_s"], "product_gflops": step["product_gflops"]}
    record["step_gb"] = moved_gb(config)
    record["arithmetic_s"] = 3 * 2 * giga_macs(config) * batch_size / record["product_gflops"]
    record["memory_s"] = record["step_gb"] / record["copy_gb_per_s"]
    record["disk_s"] = batch_size * record["picture_bytes"] / 1e9 / record["disk_read_gb_per_s"]
    record["decode_s"] = batch_size / record["decode_per_s"]
    record = {name: float(f"{value:.4g}") for name, value in record.items()}
    print("  ".join(f"{name} {value:g}" for name, value in record.items()), flush=True)
    return record


def rows(record: dict[str, Any]) -> list[Row]:
    wanted = {"arithmetic": "its arithmetic", "memory": "its bytes", "disk": "its pictures read", "decode": "decoded"}
    return [
        Row(f"floors: step, {name}", record["step_s"], "s", of, record[f"{name}_s"], "lower")
        for name, of in wanted.items()
    ]


def copy_rate() -> float:
    """GB/s that one thread reads and writes when it copies; both count."""
    source = np.ones(COPY_BYTES, np.uint8)
    target = np.zeros_like(source)
    return 2 * COPY_BYTES / min(fed.timed(lambda: np.copyto(target, source), 1) for _ in range(ROUNDS)) / 1e9


def disk_rates() -> dict[str, float]:
    """GB/s of a file written until it is on the disk, and of one read that is not in memory."""
    RUNS.mkdir(exist_ok=True)
    data = np.random.default_rng(0).bytes(1 << 24)
    with tempfile.TemporaryDirectory(dir=RUNS) as folder:
        path = Path(folder, "file")
        began = time.perf_counter()
        with path.open("wb") as file:
            for _ in range(FILE_BYTES // len(data)):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
            write_s = time.perf_counter() - began
            if hasattr(os, "posix_fadvise"):  # elsewhere it is read from memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        buffer = bytearray(len(data))
        began = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
        read_s = time.perf_counter() - began
    return {"disk_write_gb_per_s": FILE_BYTES / write_s / 1e9, "disk_read_gb_per_s": FILE_BYTES / read_s / 1e9}


def jpegs() -> list[bytes]:
    """Pictures as packing stores them."""
    config, settings = SyntheticSourceConfig(kind="synthetic", height_px=480, width_px=640), ShardsConfig()
    return [encode_jpeg(test_scene(config, number).left, settings.jpeg_quality) for number in range(16)]


def decode_rate(pictures: list[bytes]) -> float:
    began = time.perf_counter()
    for picture in pictures:
        decode_jpeg(picture)
    return len(pictures) / (time.perf_counter() - began)


def moved_gb(config: RunConfig) -> float:
    """What a training step reads and writes, if nothing stays in a cache."""
    outputs: list[int] = []
    with torch.device("meta"), torch.no_grad():
        net = DepthNet(config.model).eval()
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda _layer, _args, output: outputs.append(output.numel()))
        net(torch.empty(1, 3, *config.train.size))
    weights = sum(values.numel() for values in net.parameters())
    return 4 * (WEIGHT_PASSES * weights + OUTPUT_PASSES * sum(outputs) * config.train.batch_size) / 1e9
