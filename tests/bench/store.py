"""An object store that is slow and faulty, and a training of 200 samples/s; then the memory of a reader by samples.

The store is a local server of 50 ms latency and 60 MB/s a connection; of its answers a share fails: errors of the
server, resets, truncated, short and slow bodies. It runs in a process of its own. The samples are of the usual size and
cost almost nothing to decode. The training is the training stream with two workers: as in the training loop a batch is
taken, 40 ms are spent on it, it is let go, the next is taken. All the time in `next` counts as waiting; what local
files give in the same run stands beside it.
"""

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pipeline.data.config import AugmentConfig, DataConfig
from pipeline.data.loader import Batch, TrainStream
from pipeline.data.order import SampleOrder
from pipeline.data.store import ShardStore
from shards.format import Sample
from shards.index import ROW, encode_index
from shards.manifest import IndexEntry, Manifest, SplitEntry, publish_manifest, read_manifest
from shards.writer import DatasetWriter

from .rows import Row

SAMPLES = 5000
SHARD_BYTES = 16 << 20
IMAGE_BYTES = 41_000
SIDE_PX = 64
PAIRS = 3000
LATENCY_S = 0.05
BYTES_PER_S = 60e6
RATE = 200.0
WINDOW = 512
BATCH_SIZE = 8
WORKERS = 2
FAULT_SHARES = (0.0, 0.2)
INDEXED = (1_000, 10_000, 100_000, 1_000_000)


class Taken(NamedTuple):
    """What a training got of an epoch: its digest, seconds to the first batch and those waited for each later one."""

    digest: str
    first_s: float
    waits_s: list[float]

    def waiting_share(self, samples: int = 0) -> float:
        """Share of the time that was waited, after the first batch and after so many samples."""
        waits_s = self.waits_s[samples // BATCH_SIZE :]
        return round(sum(waits_s) / (sum(waits_s) + len(waits_s) * BATCH_SIZE / RATE), 5)


def run(samples: int = SAMPLES, shard_bytes: int = SHARD_BYTES, indexed: tuple[int, ...] = INDEXED) -> dict[str, Any]:
    """Measure; the trainings one after the other, each with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        write_samples(data, samples, shard_bytes)
        shards = read_manifest(str(data)).splits["train"].shards
        size = sum(shard.bytes for shard in shards)
        local = train(str(data), Path(folder, "none"), samples)
        result: dict[str, Any] = {
            "samples": samples,
            "dataset_bytes": size,
            "first_batch_shards": f"{shards_of_first_batch(data)} of {len(shards)}",
            "local": {
                "first_batch_s": round(local.first_s, 3),
                "waiting_share": local.waiting_share(),
                "waiting_share_after_window": local.waiting_share(WINDOW),
            },
            "object_store": {},
        }
        print(f"the same from local files: {result['local']}", flush=True)
        for share in FAULT_SHARES:
            with served(data, share) as url:
                taken = train(url, Path(folder, f"cache-{share}"), samples)
                with urllib.request.urlopen(f"{url}/told") as answer:
                    told = json.load(answer)
            row = {
                "first_batch_s": round(taken.first_s, 3),
                "waiting_share": taken.waiting_share(),
                "waiting_share_after_window": taken.waiting_share(WINDOW),
                "longest_wait_s": round(max(taken.waits_s), 3),
                "bytes_ratio": round(told["whole_bytes"] / size, 4),
                "partial_bytes_ratio": round(told["partial_bytes"] / size, 4),
                "faults": told["faults"],
                "requests": told["requests"],
                "same_samples": taken.digest == local.digest,
            }
            result["object_store"][f"{share:.0%} of the answers fail"] = row
            print(f"{share:.0%} of the answers fail: {row}", flush=True)
        result["reader_mb"] = {count: memory_mb(Path(folder, f"index-{count}"), count) for count in indexed}
    first, *_, last = result["reader_mb"].values()
    result["reader_ratio"] = round(last / first, 3)
    print(f"private memory of a reader, MB: {result['reader_mb']}  ratio {result['reader_ratio']}", flush=True)
    return result


def rows(record: dict[str, Any]) -> list[Row]:
    memory = record["reader_mb"]
    few, *_, many = memory
    found = [Row(f"store: memory of a reader of {many} samples", memory[many], "MB", f"of {few}", memory[few], "lower")]
    for name, told in record["object_store"].items():
        share, local = told["waiting_share"], record["local"]["waiting_share"]
        found.append(Row(f"store: time waited, {name}", share, "of all", "local files", local, "lower"))
        found.append(Row(f"store: bytes fetched, {name}", told["bytes_ratio"], "datasets", "one", 1.0, "lower"))
    return found


def train(url: str, cache: Path, samples: int) -> Taken:
    """Take one epoch, 200 samples a second."""
    config = DataConfig(
        train=url,
        num_workers=WORKERS,
        window=WINDOW,
        pairs="stored",
        num_pairs=PAIRS,
        cache_dir=str(cache),
        augment=AugmentConfig(crop_scale_min=1, flip_probability=0),
    )
    stream = TrainStream(
        config,
        size_hw=(SIDE_PX, SIDE_PX),
        seed=0,
        batch_size=BATCH_SIZE,
        micro_batch_size=None,
        rank=0,
        world_size=1,
        dense=False,
    )
    digest = hashlib.sha256()
    times_s = []
    began = time.monotonic()
    steps = stream.steps(0)
    for _ in range(samples // BATCH_SIZE):
        (batch,) = next(steps)
        got = time.monotonic()
        times_s.append(got - began)
        add_to(digest, batch)
        del batch
        # A training that has waited does not hurry afterwards.
        time.sleep(max(0.0, got + BATCH_SIZE / RATE - time.monotonic()))
        began = time.monotonic()
    stream.close()
    return Taken(digest.hexdigest(), times_s[0], times_s[1:])


def add_to(digest: Any, batch: Batch) -> None:
    digest.update(json.dumps([batch["keys"], batch["replaced"]]).encode())
    for name in ("image", "pairs_yx", "relation", "valid", "positions", "sample"):
        digest.update(batch[name].numpy())


def shards_of_first_batch(data: Path) -> int:
    """How many shards hold the samples of the first batch."""
    sizes = ShardStore(str(data), "train").shard_sizes
    order = SampleOrder(sizes, seed=0, lanes=1, window=WINDOW)
    samples = [order.locate(position)[1] for position in range(BATCH_SIZE)]
    return len(set(np.searchsorted(np.cumsum(sizes), samples, side="right").tolist()))


def write_samples(folder: Path, samples: int, shard_bytes: int) -> None:
    """Small pictures, each another one, in JPEGs that are filled up to the usual size."""
    rng = np.random.default_rng(0)
    pairs = np.zeros((PAIRS, 5), dtype=np.int16)
    with DatasetWriter(str(folder), shard_bytes=shard_bytes, config={}) as writer:
        for number in range(samples):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)).save(buffer, "JPEG")
            image = buffer.getvalue() + rng.bytes(IMAGE_BYTES - len(buffer.getvalue()))
            pairs[:, :4] = rng.integers(0, SIDE_PX, (PAIRS, 4))
            writer.add("train", Sample(key=f"s{number:06d}", image=image, meta={"number": number}, pairs=pairs))
        writer.finish({})


@contextmanager
def served(folder: Path, fault_share: float) -> Any:
    arguments = [str(folder), str(LATENCY_S), str(BYTES_PER_S), str(fault_share)]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.data.flaky_server", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.communicate()


def memory_mb(folder: Path, count: int) -> float:
    """Memory of its own of a process that has read samples all over an index of so many rows."""
    write_samples(folder, 100, 1 << 30)
    manifest = read_manifest(str(folder))
    split = manifest.splits["train"]
    rows = np.fromfile(folder / "train.index", dtype=ROW, offset=32)
    data = encode_index(np.tile(rows, -(-count // len(rows)))[:count])
    (folder / "train.index").write_bytes(data)
    index = IndexEntry(name="train.index", bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    shard = split.shards[0].model_copy(update={"samples": count})
    splits = {"train": SplitEntry(samples=count, shards=[shard], index=index)}
    publish_manifest(str(folder), Manifest(splits=splits, config={}, rejects={}))  # type: ignore[arg-type]
    command = [sys.executable, "-m", "tests.bench.store", str(folder)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def read_some(folder: str) -> None:
    store = ShardStore(folder, "train")
    order = SampleOrder(store.shard_sizes, seed=0, lanes=1, window=4096)
    rng = random.Random(0)
    for _ in range(2000):
        store.read(order.locate(rng.randrange(10 * len(store)))[1])
    with open("/proc/self/smaps_rollup") as file:  # noqa: PTH123
        kilobytes = next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))
    print(round(kilobytes / 1024, 1))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    read_some(sys.argv[1])
