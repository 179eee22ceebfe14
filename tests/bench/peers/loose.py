"""Loose files and a shuffled map-style dataset; the default decoder is Pillow, as in most such code.

python -m tests.bench.peers.loose --work runs/bench-data --decode opencv
"""

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.bench.peers import measure
from tests.bench.peers.decoders import DECODERS


class Loose(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, args: Namespace) -> None:
        self._files = measure.loose_files(args.work)
        self._decode = DECODERS["pil" if args.decode == "default" else args.decode]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture, pairs = self._files[index]
        return self._decode(picture.read_bytes()), torch.from_numpy(np.load(pairs))


def open_batches(args: Namespace) -> Iterator[Any]:
    return iter(DataLoader(Loose(args), args.batch_size, shuffle=True, num_workers=args.workers))


if __name__ == "__main__":
    measure.run(open_batches)
