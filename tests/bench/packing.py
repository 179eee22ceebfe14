"""Throughput of packing wild pictures beside the work that it cannot do without, and what a second process gives.

Parts: time inside decoding, aligning, matching (with its smoothing) and encoding while one process packs, each counted
once, as a share of the whole. The rest is judging, deciding the eyes, drawing pairs, comparing for near-duplicates, and
the job itself.
Processes: speed-up of two packing processes beside that of two processes which only spin, measured before and after.
"""

import importlib
import multiprocessing
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from shards.config import PackConfig, ShardsConfig
from shards.pack import pack
from shards.sources.config import FolderSourceConfig

from .rows import Row

NUM_PAIRS = 24
SPIN = 12_000_000
PARTS = {
    "decode": ("shards.sources.folder.read_picture", "shards.duplicates.read_picture"),
    "align": ("shards.match.estimate_alignment",),
    "match": ("shards.stereo.match", "shards.match.fit_planes"),
    "encode": (
        "shards.stereo.encode_jpeg",
        "shards.stereo.encode_disparity",
        "shards.stereo.resize_nearest",
        "shards.writer.encode_sample",
        "shards.writer.OpenShard.append",
    ),
}


def run() -> dict[str, Any]:
    """Measure; nothing where the real pictures are not at hand."""
    pictures = Path(os.environ.get("DEPTHRANK_DATA", "../shared/data")) / "webstereo" / "crossview"
    if not pictures.is_dir():
        print("no real pictures at hand; set DEPTHRANK_DATA")
        return {}
    with tempfile.TemporaryDirectory() as folder:
        source = some_pairs(pictures, Path(folder) / "pictures")
        spent: Counter[str] = Counter()
        with ExitStack() as stack:
            for part, names in PARTS.items():
                for name in names:
                    stack.enter_context(timed(name, part, spent))
            whole_s = packing_seconds(source, Path(folder) / "timed", 1)
        shares = {part: spent[part] / whole_s for part in PARTS}
        ratio = sum(shares.values())
        print("  ".join(f"{part} {share:.1%}" for part, share in shares.items()) + f"  of {whole_s:.1f} s")
        print(f"throughput beside the sum of its parts {ratio:.2f}")

        before = spin_speed_up()
        one_s = packing_seconds(source, Path(folder) / "one", 1)
        two_s = packing_seconds(source, Path(folder) / "two", 2)
        machine = (before + spin_speed_up()) / 2
    packing = one_s / two_s
    print(f"two processes: packing {packing:.2f} x, spinning {machine:.2f} x, ratio {packing / machine:.2f}")
    return {
        "pairs": NUM_PAIRS,
        "shares": {part: round(share, 3) for part, share in shares.items()},
        "ratio_to_parts": round(ratio, 3),
        "two_processes": round(packing, 3),
        "two_spinning": round(machine, 3),
        "ratio_to_spinning": round(packing / machine, 3),
    }


def rows(record: dict[str, Any]) -> list[Row]:
    if not record:
        return []
    floor = record["shares"]["decode"] + record["shares"]["encode"]
    return [
        Row("packing: two processes", record["two_processes"], "x", "spinning", record["two_spinning"], "higher"),
        Row("packing: a pair", 1.0, "of all", "decode and encode", floor, "lower"),
    ]


def some_pairs(pictures: Path, folder: Path) -> FolderSourceConfig:
    """Evenly chosen pairs of a folder, copied."""
    folder.mkdir()
    names = sorted(path.name.removesuffix("_L.jpg") for path in pictures.glob("*_L.jpg"))
    for number in range(NUM_PAIRS):
        for side in "LR":
            shutil.copy(pictures / f"{names[number * len(names) // NUM_PAIRS]}_{side}.jpg", folder)
    return FolderSourceConfig(kind="folder", path=str(folder))


def packing_seconds(source: FolderSourceConfig, out: Path, workers: int) -> float:
    config = PackConfig(out=str(out), source=source, shards=ShardsConfig(workers=workers))
    start = time.perf_counter()
    pack(config)
    return time.perf_counter() - start


@contextmanager
def timed(name: str, part: str, spent: Counter[str]) -> Iterator[None]:
    """Add the time inside a function of a module, or a method of a class, to a part; parts inside it count alone."""
    owner: Any
    path, _, function_name = name.rpartition(".")
    try:
        owner = importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, class_name = path.rpartition(".")
        owner = getattr(importlib.import_module(module), class_name)
    function: Callable[..., Any] = getattr(owner, function_name)

    def measured(*arguments: Any, **options: Any) -> Any:
        already = sum(spent.values())
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent[part] += time.perf_counter() - start - (sum(spent.values()) - already)

    setattr(owner, function_name, measured)
    try:
        yield
    finally:
        setattr(owner, function_name, function)


def spin_speed_up() -> float:
    """How much faster two processes spin than one does twice the work."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(spin, [1000, 1000])  # both are there
        start = time.perf_counter()
        pool.apply(spin, (2 * SPIN,))
        one_s = time.perf_counter() - start
        start = time.perf_counter()
        pool.map(spin, [SPIN, SPIN], chunksize=1)
        return one_s / (time.perf_counter() - start)


def spin(rounds: int) -> int:
    total = 0
    for number in range(rounds):
        total += number & 3
    return total
