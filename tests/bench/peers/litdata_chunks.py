"""litdata on its own chunks; where torchvision is installed, its `jpeg` items are decoded with that.

python -m tests.bench.peers.litdata_chunks --work runs/bench-data --decode opencv
"""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize
from PIL import Image
from torch import Tensor

from tests.bench.peers import measure
from tests.bench.peers.decoders import DECODERS

CHUNK_BYTES = 1 << 24


class Pictures(StreamingDataset):
    """Gives tensors; `decode` None: the picture is decoded by the library."""

    def __init__(self, args: Namespace) -> None:
        kind = "jpeg" if args.decode == "default" else "bytes"
        super().__init__(str(args.work / f"litdata-{kind}"), shuffle=True, seed=args.seed)
        self._decode = DECODERS.get(args.decode)

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]:
        sample = super().__getitem__(index)
        picture = sample["picture"]
        return picture if self._decode is None else self._decode(picture), torch.from_numpy(sample["pairs"])


def open_batches(args: Namespace) -> Iterator[Any]:
    return iter(StreamingDataLoader(Pictures(args), batch_size=args.batch_size, num_workers=args.workers))


def as_jpeg(files: tuple[Path, Path]) -> dict[str, Any]:
    # A picture that is opened and not touched keeps its bytes.
    return {"picture": Image.open(files[0]), "pairs": np.load(files[1])}


def as_bytes(files: tuple[Path, Path]) -> dict[str, Any]:
    return {"picture": files[0].read_bytes(), "pairs": np.load(files[1])}


def build(work: Path) -> None:
    for name, function in (("jpeg", as_jpeg), ("bytes", as_bytes)):
        optimize(
            function,
            measure.loose_files(work),
            str(work / f"litdata-{name}"),
            chunk_bytes=CHUNK_BYTES,
            num_workers=1,
            verbose=False,
        )


if __name__ == "__main__":
    measure.run(open_batches, build)
