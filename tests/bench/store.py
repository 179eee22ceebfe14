"""An object store that is slow and faulty, and a reader of 200 samples/s; then the memory of a reader by samples.

The store is a local server of 50 ms latency and 60 MB/s a connection; of its answers a share fails: errors of the
server, resets, truncated, short and slow bodies. It runs in a process of its own. The samples are of the usual size and
cost almost nothing to decode. One thread reads in the order of the training and is at most so many samples ahead as the
loader's two workers are; another takes them at the rate, and what it waits for one is counted: after the first shard,
and after the shards of the first window, all of which the first samples need.
"""

import hashlib
import io
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.data.order import SampleOrder
from pipeline.data.store import ShardStore
from shards.format import Sample
from shards.index import ROW, encode_index
from shards.manifest import IndexEntry, Manifest, SplitEntry, publish_manifest, read_manifest
from shards.writer import DatasetWriter

SAMPLES = 5000
SHARD_BYTES = 16 << 20
IMAGE_BYTES = 41_000
PAIRS = 3000
LATENCY_S = 0.05
BYTES_PER_S = 60e6
RATE = 200.0
WINDOW = 512
BATCH_SIZE = 8
READ_AHEAD = 32
FAULT_SHARES = (0.0, 0.2)
INDEXED = (1_000, 10_000, 100_000, 1_000_000)


def run(samples: int = SAMPLES, shard_bytes: int = SHARD_BYTES, indexed: tuple[int, ...] = INDEXED) -> dict[str, Any]:
    """Measure; the readers of the object store one after the other, each with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        write_samples(data, samples, shard_bytes)
        wanted, _, _ = read_all(ShardStore(str(data), "train"), rate=None)
        size = sum(shard.bytes for shard in read_manifest(str(data)).splits["train"].shards)
        result: dict[str, Any] = {"samples": samples, "dataset_bytes": size, "object_store": {}}
        _, _, waits_s = read_all(ShardStore(str(data), "train"), rate=RATE)
        result["local_waiting_share"] = round(sum(waits_s) / (samples / RATE), 5)
        print(f"the same from local files: waiting_share {result['local_waiting_share']}", flush=True)
        for share in FAULT_SHARES:
            with served(data, share) as url:
                store = ShardStore(url, "train", cache_dir=str(Path(folder, f"cache-{share}")))
                delivered, first_s, waits_s = read_all(store, rate=RATE)
                with urllib.request.urlopen(f"{url}/told") as answer:
                    told = json.load(answer)
            row = {
                "first_sample_s": round(first_s, 3),
                "waiting_share": round(sum(waits_s) / (samples / RATE + sum(waits_s)), 5),
                "waiting_share_after_window": round(sum(waits_s[WINDOW:]) / ((samples - WINDOW) / RATE), 5),
                "bytes_ratio": round(told["whole_bytes"] / size, 4),
                "partial_bytes_ratio": round(told["partial_bytes"] / size, 4),
                "faults": told["faults"],
                "requests": told["requests"],
                "same_samples": delivered == wanted,
            }
            result["object_store"][f"{share:.0%} of the answers fail"] = row
            print(f"{share:.0%} of the answers fail: {row}", flush=True)
        result["reader_mb"] = {count: memory_mb(Path(folder, f"index-{count}"), count) for count in indexed}
    first, *_, last = result["reader_mb"].values()
    result["reader_ratio"] = round(last / first, 3)
    print(f"private memory of a reader, MB: {result['reader_mb']}  ratio {result['reader_ratio']}", flush=True)
    return result


def read_all(store: ShardStore, rate: float | None) -> tuple[str, float, list[float]]:
    """Read an epoch, at so many samples a second.

    Returns:
        Digest of what came, seconds to the first sample, and seconds waited for each of the others.
    """
    order = SampleOrder(store.shard_sizes, seed=0, lanes=1, window=WINDOW)
    ready: queue.Queue[Sample] = queue.Queue(maxsize=READ_AHEAD)

    def read() -> None:
        for position in range(len(store)):
            ready.put(store.read(order.locate(position)[1]))

    digest = hashlib.sha256()
    began = time.monotonic()
    first_s = 0.0
    waits_s: list[float] = []
    store.prefetch(order.coming_shards(0))
    threading.Thread(target=read, daemon=True).start()
    for position in range(len(store)):
        if position % BATCH_SIZE == 0:
            store.prefetch(order.coming_shards(position))
        asked = time.monotonic()
        sample = ready.get()
        got = time.monotonic()
        digest.update(sample.key.encode() + sample.image)
        if position == 0:
            first_s = got - began
        else:
            waits_s.append(got - asked)
        if rate is not None:  # a training that has waited does not hurry afterwards
            time.sleep(max(0.0, began + first_s + sum(waits_s) + (position + 1) / rate - time.monotonic()))
    store.close()
    return digest.hexdigest(), first_s, waits_s


def write_samples(folder: Path, samples: int, shard_bytes: int) -> None:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    pairs = np.zeros((PAIRS, 5), dtype=np.int16)
    with DatasetWriter(str(folder), shard_bytes=shard_bytes, config={}) as writer:
        for number in range(samples):
            image = buffer.getvalue() + rng.bytes(IMAGE_BYTES - len(buffer.getvalue()))
            pairs[:, :4] = rng.integers(0, 64, (PAIRS, 4))
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
