"""Rate of the training stream beside plain decoding of the same JPEGs, both in one process.

The stream reads a sample from its tar, checks it, decodes picture and disparity, crops, scales and draws pairs.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.data.config import DataConfig
from pipeline.data.loader import TrainStream
from pipeline.data.store import ShardStore
from shards.config import PackConfig, ShardsConfig
from shards.format import decode_jpeg
from shards.pack import pack
from shards.sources.config import SyntheticSourceConfig

from .rows import Row

SCENES = 48
BATCH_SIZE = 8
SIZE_HW = (384, 384)
ROUNDS = 3


def run() -> dict[str, object]:
    """Measure in alternating rounds; the best of each counts."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "shards")
        source = SyntheticSourceConfig(kind="synthetic", train=SCENES, val=0, height_px=480, width_px=640)
        pack(PackConfig(out=out, source=source, shards=ShardsConfig()))
        store = ShardStore(out, "train")
        pictures = [store.read(sample).image for sample in range(len(store))]
        stream = TrainStream(
            DataConfig(train=out, num_workers=0),
            size_hw=SIZE_HW,
            seed=0,
            batch_size=BATCH_SIZE,
            micro_batch_size=None,
            rank=0,
            world_size=1,
        )
        steps = stream.steps(0)
        count = len(pictures) // BATCH_SIZE * BATCH_SIZE

        def decode() -> None:
            for data in pictures[:count]:
                decode_jpeg(data)

        def draw() -> None:
            for _ in range(count // BATCH_SIZE):
                next(steps)

        draw()
        rates = {"plain decode": 0.0, "stream": 0.0}
        for _ in range(ROUNDS):
            rates["plain decode"] = max(rates["plain decode"], rate(decode, count))
            rates["stream"] = max(rates["stream"], rate(draw, count))
        stream.close()
    ratio = rates["stream"] / rates["plain decode"]
    print("  ".join(f"{name} {value:.0f} pictures/s" for name, value in rates.items()) + f"  ratio {ratio:.2f}")
    return {"pictures_per_s": {name: round(value, 1) for name, value in rates.items()}, "ratio": round(ratio, 3)}


def rows(record: dict[str, object]) -> list[Row]:
    rates = record["pictures_per_s"]
    return [
        Row("loader: stream", rates["stream"], "pictures/s", "decoding the JPEGs only", rates["plain decode"], "higher")
    ]


def rate(work: Callable[[], None], count: int) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)
