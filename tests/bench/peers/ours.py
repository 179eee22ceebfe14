"""DepthRank's training stream. `--augment` crops and mirrors at random; else the pictures stay as they are.

python -m tests.bench.peers.ours --work runs/bench-data
"""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.config import AugmentConfig, DataConfig
from pipeline.data.loader import TrainStream
from shards.format import Sample
from shards.writer import DatasetWriter
from tests.bench.peers import measure

SHARDS = 10  # as many as the other formats have, roughly


def open_batches(args: Namespace) -> Iterator[Any]:
    data = DataConfig(
        train=str(args.work / args.dataset),
        num_workers=args.workers,
        pairs="stored",
        num_pairs=measure.PAIRS,
        augment=AugmentConfig() if args.augment else AugmentConfig(crop_scale_min=1, flip_probability=0),
    )
    stream = TrainStream(
        data,
        size_hw=(measure.SIDE_PX, measure.SIDE_PX),
        seed=args.seed,
        batch_size=args.batch_size,
        micro_batch_size=None,
        rank=0,
        world_size=1,
        dense=False,
    )
    for (batch,) in stream.steps(args.skip):
        yield batch


def build(work: Path) -> None:
    files = measure.loose_files(work)
    shard_bytes = sum(path.stat().st_size + 2048 for pair in files for path in pair) // SHARDS + (1 << 17)
    with DatasetWriter(str(work / "shards"), shard_bytes=shard_bytes, config={}) as writer:
        for picture, pairs in files:
            meta = {"source": "bench", "name": picture.name, "size_hw": [measure.SIDE_PX, measure.SIDE_PX]}
            writer.add("train", Sample(picture.stem, picture.read_bytes(), meta, pairs=np.load(pairs)))
        writer.finish({})


if __name__ == "__main__":
    measure.run(open_batches, build)
