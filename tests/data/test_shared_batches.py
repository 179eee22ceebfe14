"""Slots of shared memory: what a batch holds stays as it was, whoever writes into its slot later."""

import pickle
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.data.config import DataConfig
from pipeline.data.loader import Batch, TrainStream
from pipeline.data.shared_batches import SharedBatches, Task
from pipeline.data.workers import worker_context
from shards.errors import DataError

from .small_dataset import write_dataset

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

FIELDS = {"image": ((3, 5, 7), torch.uint8), "depth": ((5, 7), torch.float32), "none": ((0,), torch.float32)}
FIELDS |= {"number": ((), torch.int64), "valid": ((3,), torch.bool)}


def test_fields_lie_apart_aligned_and_with_their_types() -> None:
    batches = SharedBatches(FIELDS, rows=4, under_way=0)
    slot = batches.slot(0, 4)
    assert {name: (tuple(values.shape), values.dtype) for name, values in slot.items()} == {
        name: ((4, *shape), dtype) for name, (shape, dtype) in FIELDS.items()
    }
    for number, values in enumerate(slot.values()):
        values.fill_(number % 2)
        assert values.data_ptr() % 8 == 0
    assert all(bool((values == number % 2).all()) for number, values in enumerate(slot.values()))


def test_a_batch_is_used_in_its_slot_and_only_the_rows_asked_for() -> None:
    batches = SharedBatches(FIELDS, rows=4, under_way=2)
    slot = batches.slot(1, 4)
    slot["number"][:] = torch.arange(4)
    taken = batches.take(1, 3)
    assert taken["number"].tolist() == [0, 1, 2]
    assert taken["image"].shape == (3, 3, 5, 7)
    assert all(values.data_ptr() == slot[name].data_ptr() for name, values in taken.items())


def test_batches_that_are_kept_stay_as_they_were() -> None:
    batches = SharedBatches(FIELDS, rows=4, under_way=2)
    kept = []
    for task in islice(batches.tasks([n] for n in range(40)), 40):
        batches.slot(task.slot, 4)["number"].fill_(task.positions[0])
        kept.append(batches.take(task.slot, 4)["number"])
    assert [values.tolist() for values in kept] == [[n] * 4 for n in range(40)]


def test_at_the_start_there_is_a_slot_for_each_batch_that_can_be_under_way() -> None:
    batches = SharedBatches(FIELDS, rows=2, under_way=2)
    tasks = list(islice(batches.tasks([n] for n in range(9)), 3))
    assert [task.positions for task in tasks] == [[0], [1], [2]]
    assert len({task.slot for task in tasks}) == 3


@pytest.mark.parametrize(
    "part", [lambda values: values, lambda values: values[1, :1], lambda values: values.numpy()[0]]
)
def test_a_slot_is_given_again_as_soon_as_nothing_of_its_batch_is_left_and_not_before(part: Any) -> None:
    batches = SharedBatches(FIELDS, rows=2, under_way=1)
    tasks = batches.tasks([n] for n in range(100))
    used = next(tasks).slot
    kept = part(batches.take(used, 2)["image"])
    for _ in range(10):
        task = next(tasks)
        assert task.slot != used
        batches.take(task.slot, 2)
    del kept
    again = []
    for _ in range(4):
        task = next(tasks)
        again.append(task.slot)
        batches.take(task.slot, 2)
    assert used in again


def test_too_little_shared_memory_is_told() -> None:
    with pytest.raises(DataError, match=r"lower data\.num_workers or train\.micro_batch_size"):
        SharedBatches({"image": ((1 << 20, 1 << 20), torch.uint8)}, rows=1, under_way=1)


class Numbers(Dataset[Any]):
    """Writes a position into all of its row, slowly from the first byte to the last, at a worker's own pace."""

    def __init__(self, batches: SharedBatches) -> None:
        self._batches = batches

    def __getitems__(self, task: Task) -> Task:
        slot = self._batches.slot(task.slot, len(task.positions))["image"]
        time.sleep(0.002 * (task.positions[0] % 3))
        for row, position in enumerate(task.positions):
            slot[row] = position % 251
        return task


def as_it_is(task: Task) -> Task:
    return task


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_write_into_the_same_memory_and_never_into_what_is_being_read(workers: int) -> None:
    ahead = 2
    fields = {"image": ((3, 64, 64), torch.uint8)}
    batches = SharedBatches(fields, rows=5, under_way=ahead * workers)
    sizes = [1 + number % 5 for number in range(60)]
    firsts = [sum(sizes[:number]) for number in range(60)]
    positions = [[*range(first, first + size)] for first, size in zip(firsts, sizes, strict=True)]
    loader = DataLoader(
        Numbers(batches),
        batch_sampler=batches.tasks(positions),
        collate_fn=as_it_is,
        num_workers=workers,
        prefetch_factor=ahead,
        multiprocessing_context=worker_context(),
    )
    read = []
    for number, task in enumerate(loader):
        if number % 4 == 0:
            time.sleep(0.03)  # long enough for all that may be written to be written
        seen = batches.slot(task.slot, len(task.positions))["image"]
        assert (seen[:, 0, 0, 0] == torch.tensor(task.positions) % 251).all()
        read += [(task.positions, batches.take(task.slot, len(task.positions))["image"])]
    assert [where for where, _ in read] == positions
    for where, images in read:
        assert (images == (torch.tensor(where) % 251).view(-1, 1, 1, 1)).all()


def test_plain_slots_can_be_pickled() -> None:
    batches = SharedBatches(FIELDS, rows=2, under_way=0)
    batches.slot(0, 2)["number"][:] = 7
    assert pickle.loads(pickle.dumps(batches)).slot(0, 2)["number"].tolist() == [7, 7]


@pytest.fixture
def streams(tmp_path: Path) -> Iterator[Any]:
    write_dataset(tmp_path / "data", 23)
    opened: list[TrainStream] = []

    def make(**data: Any) -> TrainStream:
        settings = DataConfig(train=str(tmp_path / "data"), num_pairs=30, window=8, **data)
        opened.append(
            TrainStream(settings, size_hw=(32, 64), seed=3, batch_size=8, micro_batch_size=3, rank=0, world_size=1)
        )
        return opened[-1]

    yield make
    for stream in opened:
        stream.close()


def same(found: Batch, wanted: Batch) -> bool:
    return found.keys() == wanted.keys() and all(
        torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        for name, value in wanted.items()
    )


def test_batches_stay_as_they_were_for_a_slow_consumer_and_after_new_steps(streams: Any) -> None:
    wanted = [batch for step in islice(streams(num_workers=0).steps(0), 10) for batch in step]
    stream = streams(num_workers=2)
    kept: list[Batch] = []
    for _ in range(2):  # the second time with new slots, while workers of the first may still write
        steps = stream.steps(0)
        for step in islice(steps, 10):
            time.sleep(0.01)
            kept += step
    stream.close()
    assert len(kept) == 2 * len(wanted) == 60
    assert all(same(found, batch) for found, batch in zip(kept, wanted * 2, strict=True))
