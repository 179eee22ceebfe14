"""The ceiling: torch's DataLoader decoding JPEG bytes that lie in memory. Order and labels cost nothing.

python -m tests.bench.peers.ceiling --work runs/bench-data --decode opencv
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


class InMemory(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, args: Namespace) -> None:
        files = measure.loose_files(args.work)
        self._pictures = [picture.read_bytes() for picture, _ in files]
        self._pairs = [torch.from_numpy(np.load(pairs)) for _, pairs in files]
        self._decode = DECODERS[args.decode]

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._decode(self._pictures[index]), self._pairs[index]


def open_batches(args: Namespace) -> Iterator[Any]:
    return iter(DataLoader(InMemory(args), args.batch_size, num_workers=args.workers))


if __name__ == "__main__":
    measure.run(open_batches)
