"""The ceiling with our shared memory: pictures that lie in memory, decoded into the slots of `SharedBatches`.

python -m tests.bench.peers.ceiling_slots --work runs/bench-data
"""

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.data.shared_batches import SharedBatches, Task
from tests.bench.peers import measure

AHEAD = 2


class Slots(Dataset[Any]):
    def __init__(self, args: Namespace, batches: SharedBatches) -> None:
        files = measure.loose_files(args.work)
        self._pictures = [np.fromfile(picture, np.uint8) for picture, _ in files]
        self._pairs = np.stack([np.load(pairs) for _, pairs in files])
        self._batches = batches

    def __getitems__(self, task: Task) -> Task:
        rows = self._batches.slot(task.slot, len(task.positions))
        for image, position in zip(rows["image"].numpy(), task.positions, strict=True):
            cv2.split(cv2.imdecode(self._pictures[position], cv2.IMREAD_COLOR_RGB), list(image))
        rows["pairs"].numpy()[:] = self._pairs[task.positions]
        return task


def open_batches(args: Namespace) -> Iterator[Any]:
    fields = {
        "image": ((3, measure.SIDE_PX, measure.SIDE_PX), torch.uint8),
        "pairs": ((measure.PAIRS, 5), torch.int16),
    }
    batches = SharedBatches(fields, args.batch_size, under_way=AHEAD * args.workers)
    slots = Slots(args, batches)
    size = args.batch_size
    positions = ([*range(batch * size, (batch + 1) * size)] for batch in range(args.batches))
    cv2.setNumThreads(1)
    loader = DataLoader(
        slots,
        batch_sampler=batches.tasks(positions),
        collate_fn=as_it_is,
        num_workers=args.workers,
        prefetch_factor=AHEAD,
    )
    for task in loader:
        yield batches.take(task.slot, len(task.positions))


def as_it_is(task: Task) -> Task:
    return task


if __name__ == "__main__":
    measure.run(open_batches)
