"""One loader, measured in a process of its own; speaks one line of JSON on stdout.

Each module beside this one names its loader and calls `run`. They import nothing of the project unless they measure it,
because the peers live in an environment without it.

    python -m tests.bench.peers.loose --work runs/bench-data --decode pil --batches 62
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIDE_PX = 384
PAIRS = 3000
EDGE_BATCHES = 5  # at both ends, not timed: batches that were prepared ahead, workers that end

Open = Callable[[argparse.Namespace], Iterator[Any]]


def run(open_batches: Open, build: Callable[[Path], None] | None = None) -> None:
    """Read the arguments, then write this loader's own copy of the data, or load and print what it took.

    Args:
        open_batches: Starts the workers and gives the batches; called once. A batch is a dict or a sequence of tensors.
        build: Makes the format of this loader out of the loose files.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True, help="folder with the data")
    parser.add_argument("--decode", default="default", help="default | pil | opencv | torchvision")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=62, help="to load")
    parser.add_argument("--skip", type=int, default=0, help="batches that an interrupted run has had already")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--augment", action="store_true", help="random crops and flips (ours only)")
    parser.add_argument("--dataset", default="shards", help="folder below --work (ours only)")
    parser.add_argument("--memory", action="store_true", help="look at the workers' memory after two thirds")
    parser.add_argument("--build", action="store_true")
    args = parser.parse_args()
    if args.build:
        if build is not None:
            build(args.work)
        print(json.dumps({"built": True}))
        return
    print(json.dumps(measure(open_batches, args)), flush=True)


def measure(open_batches: Open, args: argparse.Namespace) -> dict[str, Any]:
    """Rate and processor time away from both ends of the epoch, seconds to the first batch, memory of the workers."""
    start = time.perf_counter()
    batches = open_batches(args)
    check(next(batches), args.batch_size)
    first_s = time.perf_counter() - start
    samples, workers = 0, []
    begin = end = (0.0, 0.0)
    for number in range(1, args.batches):
        batch = next(batches)
        if EDGE_BATCHES < number < args.batches - EDGE_BATCHES:
            samples += size(batch)
            end = time.perf_counter(), cpu_seconds()
        elif number == EDGE_BATCHES:
            begin = time.perf_counter(), cpu_seconds()
        if args.memory and number == args.batches * 2 // 3:
            workers = [memory(pid) for pid in worker_pids()]
    return {
        "first_s": first_s,
        "samples": samples,
        "samples_per_s": samples / (end[0] - begin[0]) if samples else None,
        "cpu_ms_per_sample": 1000 * (end[1] - begin[1]) / samples if samples else None,
        "workers": workers,
    }


def worker_pids() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid]


def cpu_seconds() -> float:
    """Processor time that this process and its workers have used so far, threads included."""
    total = time.process_time()
    for pid in worker_pids():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def check(batch: Any, batch_size: int) -> None:
    """All loaders deliver the same: uint8 pictures and the labels of all their pairs."""
    tensors = list(batch.values()) if isinstance(batch, dict) else list(batch)
    shapes = [(str(tensor.dtype), tuple(tensor.shape)) for tensor in tensors if hasattr(tensor, "dtype")]
    if ("torch.uint8", (batch_size, 3, SIDE_PX, SIDE_PX)) not in shapes:
        raise SystemExit(f"no pictures in the batch: {shapes}")
    if not any(shape[:2] == (batch_size, PAIRS) for _, shape in shapes):
        raise SystemExit(f"no pairs in the batch: {shapes}")


def size(batch: Any) -> int:
    tensors = batch.values() if isinstance(batch, dict) else batch
    return len(next(iter(tensors)))


def memory(pid: int) -> dict[str, float]:
    """Megabytes of a process: resident, its own (unique), and of those the written ones (no mapped files)."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0])
    unique = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return {
        name: round(kilobytes / 1024, 1)
        for name, kilobytes in (("rss", sizes["Rss"]), ("uss", unique), ("dirty", sizes["Private_Dirty"]))
    }


def loose_files(work: Path) -> list[tuple[Path, Path]]:
    """Picture and pairs of each sample, in order."""
    pictures = sorted((work / "loose").glob("*.jpg"))
    return [(picture, picture.with_suffix(".npy")) for picture in pictures]
