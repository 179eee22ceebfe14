"""webdataset and torch's DataLoader on the very shards of ours; its `torchrgb8` decodes with Pillow.

Resume is done as its users do it: the batches of the interrupted run are loaded again and thrown away.

    python -m tests.bench.peers.webdataset_tars --work runs/bench-data --decode opencv
"""

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import webdataset
from torch.utils.data import DataLoader

from tests.bench.peers import measure
from tests.bench.peers.decoders import DECODERS

SHUFFLED = 200  # samples in its buffer


def open_batches(args: Namespace) -> Iterator[Any]:
    tars = sorted(str(path) for path in (args.work / args.dataset).glob("train-*.tar"))
    decoder = "torchrgb8"
    if args.decode != "default":
        decoder = webdataset.handle_extension("jpg", DECODERS[args.decode])
    dataset = (
        webdataset.WebDataset(tars, shardshuffle=False, seed=args.seed)
        .shuffle(SHUFFLED)
        .decode(decoder)
        .to_tuple("jpg", "pairs.npy")
    )
    batches = iter(DataLoader(dataset, args.batch_size, num_workers=args.workers))
    for _ in range(args.skip):
        next(batches)
    return batches


if __name__ == "__main__":
    measure.run(open_batches)
