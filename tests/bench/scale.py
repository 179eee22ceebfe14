"""A dataset of 1e8 samples in 1e5 shards, and a run of 1,024 processes, by synthetic indexes: sizes and times.

Nothing is trained. The manifest and the order are of full size; the index has a tenth of the rows, and what depends on
it is told for all of them, being proportional. Processor time, as other work on the machine would only add. The
reference is the same thing a hundred times smaller: what grows faster than the dataset shows.
"""

import hashlib
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from pipeline.data.order import SampleOrder
from pipeline.data.presence import local_index
from pipeline.data.shard_table import ShardTable
from pipeline.train.checkpoint_manifest import json_bytes
from pipeline.train.rng import capture_rng
from shards.index import ROW, ShardIndex, encode_index
from shards.manifest import IndexEntry, Manifest, ShardEntry, SplitEntry, publish_manifest, read_manifest

from .rows import Row

SHARDS = 100_000
SHARD_SAMPLES = 1000
INDEX_PART = 10
SAMPLE_BYTES = 450_000
RANKS, NODE_RANKS = 1024, range(8)
WINDOW = 4096
FEWER = 100
T = TypeVar("T")


def run(shards: int = SHARDS) -> dict[str, Any]:
    """Measure at full size and at a hundredth of it."""
    record = {"large": measure(shards), "small": measure(shards // FEWER)}
    print("| | 1e5 shards | 1e3 shards |\n|---|---|---|")
    for name, value in record["large"].items():
        print(f"| {name} | {value:.4g} | {record['small'][name]:.4g} |", flush=True)
    state = json_bytes({"rng": [capture_rng(torch.device("cpu"))] * RANKS})
    record["state_bytes_of_1024_processes"] = len(state)
    print(f"state.json of {RANKS} processes: {len(state) / 1e6:.1f} MB")
    return record


def rows(record: dict[str, Any]) -> list[Row]:
    large, small = record["large"], record["small"]
    units = {name: name.rpartition(", ")[2] for name in large}
    return [
        Row(f"scale: {name}", value, units[name], f"{FEWER} times fewer shards", small[name], "lower")
        for name, value in large.items()
    ]


def measure(shards: int) -> dict[str, float]:
    """Megabytes, and milliseconds of processor time."""
    samples = shards * SHARD_SAMPLES
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(shards)]
        entries = [
            ShardEntry(
                name=f"train-{number:06d}.tar", bytes=SHARD_SAMPLES * SAMPLE_BYTES, samples=SHARD_SAMPLES, sha256=digest
            )
            for number, digest in enumerate(digests)
        ]
        part = np.zeros(max(1, samples // INDEX_PART), dtype=ROW)
        part["shard"] = np.arange(len(part)) // SHARD_SAMPLES
        part["offset"], part["length"] = np.arange(len(part)) % SHARD_SAMPLES * SAMPLE_BYTES, SAMPLE_BYTES
        data = encode_index(part)
        (folder / "train.index").write_bytes(data)
        index = IndexEntry(name="train.index", bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        del part
        split = SplitEntry(samples=samples, shards=entries, index=index)
        manifest = Manifest(splits={"train": split}, config={}, rejects={})
        found["write the manifest, ms"], _ = timed(lambda: publish_manifest(str(folder), manifest))
        found["manifest, MB"] = (folder / "manifest.json").stat().st_size / 1e6
        found["read and check the manifest, ms"], read = timed(lambda: read_manifest(str(folder)))
        found["fingerprint, ms"], _ = timed(lambda: read.fingerprint)
        pickled = pickle.dumps(ShardTable(read.splits["train"].shards))
        found["shard list that each worker gets, MB"] = len(pickled) / 1e6
        found["unpack the shard list in a worker, ms"], _ = timed(lambda: pickle.loads(pickled))
        found["index, MB"] = INDEX_PART * len(data) / 1e6
        del data
        hashed_ms, path = timed(lambda: local_index(folder, index))
        found["verify the index, ms"] = INDEX_PART * hashed_ms
        found["open the index, ms"], _ = timed(lambda: ShardIndex.open(path))
    order = SampleOrder(np.full(shards, SHARD_SAMPLES), seed=0, lanes=1, window=WINDOW)
    found["first position of an epoch, ms"], _ = timed(lambda: order.locate(0))
    step = samples // 10_000 + 1
    located_ms, _ = timed(lambda: [order.locate(position) for position in range(1, samples, step)])
    found["a position, us"] = 1000 * located_ms / len(range(1, samples, step))
    coming = order.coming_shards(samples // 2, NODE_RANKS, RANKS)
    found["the next 8 shards of a node, ms"], _ = timed(lambda: [next(coming) for _ in range(8)])
    found["order that each worker gets, MB"] = len(pickle.dumps(order)) / 1e6
    return found


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds of processor time, and the result."""
    begin = time.process_time()
    result = work()
    return 1000 * (time.process_time() - begin), result
