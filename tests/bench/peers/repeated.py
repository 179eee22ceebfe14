"""A dataset that claims many samples: the shards of the benchmark, linked under new names again and again.

repeat_shards(Path("runs/bench-data/shards"), Path("runs/bench-data/shards-1000000"), 1_000_000)
"""

import hashlib
from pathlib import Path

import numpy as np

from shards.index import ShardIndex, encode_index
from shards.manifest import IndexEntry, Manifest, ShardEntry, SplitEntry, publish_manifest, read_manifest


def repeat_shards(source: Path, out: Path, samples: int) -> None:
    """Write a dataset of at least `samples` indexed samples that takes no more room than its index."""
    out.mkdir()
    split = read_manifest(str(source)).splits["train"]
    rows = ShardIndex.open(source / split.index.name).rows
    own_rows = [rows[rows["shard"] == number] for number in range(len(split.shards))]
    entries: list[ShardEntry] = []
    repeated = []
    left = samples
    while left > 0:
        number = len(entries) % len(split.shards)
        entry = split.shards[number].model_copy(update={"name": f"train-{len(entries):06d}.tar"})
        (out / entry.name).hardlink_to(source / split.shards[number].name)
        repeated.append(own_rows[number].copy())
        repeated[-1]["shard"] = len(entries)
        entries.append(entry)
        left -= entry.samples
    data = encode_index(np.concatenate(repeated))
    index = IndexEntry(name="train.index", bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (out / index.name).write_bytes(data)
    total = sum(entry.samples for entry in entries)
    train = SplitEntry(samples=total, shards=entries, index=index)
    publish_manifest(str(out), Manifest(splits={"train": train}, config={}, rejects={}))
