"""mosaicml-streaming on MDS shards; its column type `jpeg` decodes with Pillow.

python -m tests.bench.peers.mosaic --work runs/bench-data --decode opencv
"""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset
from torch import Tensor

from tests.bench.peers import measure
from tests.bench.peers.decoders import DECODERS

SHARD_BYTES = 1 << 24
LABELS = f"ndarray:int16:{measure.PAIRS},5"


class Pictures(StreamingDataset):
    """Gives tensors; `decode` None: the picture is decoded by the library."""

    def __init__(self, args: Namespace) -> None:
        kind = "jpeg" if args.decode == "default" else "bytes"
        super().__init__(
            local=str(args.work / f"mds-{kind}"),
            shuffle=True,
            shuffle_seed=args.seed,
            batch_size=args.batch_size,
        )
        self._decode = DECODERS.get(args.decode)

    def __getitem__(self, at: Any) -> tuple[Tensor, Tensor]:
        sample = super().__getitem__(at)
        picture = sample["picture"]
        if self._decode is None:
            image = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        else:
            image = self._decode(picture)
        return image, torch.from_numpy(np.array(sample["pairs"]))


def open_batches(args: Namespace) -> Iterator[Any]:
    return iter(StreamingDataLoader(Pictures(args), batch_size=args.batch_size, num_workers=args.workers))


def build(work: Path) -> None:
    for kind in ("jpeg", "bytes"):
        columns = {"picture": kind, "pairs": LABELS}
        with MDSWriter(out=str(work / f"mds-{kind}"), columns=columns, size_limit=SHARD_BYTES) as writer:
            for path, pairs in measure.loose_files(work):
                writer.write({"picture": path.read_bytes(), "pairs": np.load(pairs)})


if __name__ == "__main__":
    measure.run(open_batches, build)
