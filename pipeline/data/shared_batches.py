"""Batches in memory that the loader's processes share: allocated once, filled in place, used where they lie.

A batch that torch hands over lies in new shared memory each time, and the pages of 14 MB cost more processor time than
half of the JPEGs in them. Here a worker writes into one of a few slots and returns its number. The main process uses
the tensors in the slot, which is given to a worker again only when none of them is left; to who keeps many batches, or
where they have to go to pinned memory for a GPU, it gives copies.

A slot is free, and may be written, when no worker has it and nothing refers to it any more. torch hands batches out in
order, gives the workers `under_way` batches at the start and one more whenever the main process takes one. So with
`under_way` + 1 slots, and one for each batch that may be in use in place, there is a free one whenever a batch is given
out. A new iterator needs new slots, as workers of the former one may still write. Without workers nothing is under way,
and plain memory serves.

    batches = SharedBatches({"image": ((3, 384, 384), torch.uint8)}, rows=8, under_way=4)
    batches.slot(3, 8)["image"][0] = ...        # a worker, which got slot 3 from `tasks`
    batch = batches.take(3, 8)                  # the main process
"""

import math
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from shards.errors import DataError

__all__ = ["Fields", "SharedBatches", "Task"]

Fields = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each field of one sample."""
_ALIGNMENT_BYTES = 64  # fields begin where a cache line does
_IN_PLACE = 3
"""Batches that may be in use where they lie: that of a step, the one before until its name is rebound, and the next."""


class Task(NamedTuple):
    """A batch to be made: which slot takes it, and the positions of its samples."""

    slot: int
    positions: list[int]


class SharedBatches:
    """A ring of slots, each room for one batch. Picklable while a process is started; the memory stays shared.

    Args:
        fields: Of one sample.
        rows: Most samples of a batch.
        under_way: Batches that workers prepare or keep ready while the main process takes one; 0 without workers.
        pinned: Whether batches go to pinned memory, for a run on a GPU.

    Raises:
        DataError: There is too little shared memory.
    """

    def __init__(self, fields: Fields, rows: int, under_way: int, *, pinned: bool = False) -> None:
        self._fields = dict(fields)
        self._rows = rows
        self._pinned = pinned
        self._in_place = 0 if pinned else _IN_PLACE
        slots = under_way + 1 + self._in_place
        self._free = list(range(slots))
        self._in_use: dict[int, list[weakref.ref[Any]]] = {}
        try:
            self._memory = torch.empty((slots, self._slot_bytes()), dtype=torch.uint8)
            if under_way:
                self._memory.share_memory_()
        except RuntimeError as error:
            raise DataError(
                f"{slots} batches of {rows} samples ({slots * self._slot_bytes() / 1e6:.0f} MB) do not fit into shared "
                "memory; lower data.num_workers or train.micro_batch_size, or give the container more (docker run "
                "--shm-size)"
            ) from error
        self._cut()

    def tasks(self, batches: Iterable[list[int]]) -> Iterator[Task]:
        """Give each batch, a list of positions, a slot that is free when its turn comes."""
        for positions in batches:
            self._look_for_free()
            yield Task(self._free.pop(0), positions)

    def slot(self, number: int, rows: int) -> dict[str, Tensor]:
        """The first `rows` rows of a slot, each field (rows, ...); they share its memory."""
        return {name: values[:rows] for name, values in self._slots[number].items()}

    def take(self, number: int, rows: int) -> dict[str, Tensor]:
        """The first `rows` rows of a slot that a worker has filled, each field (rows, ...).

        They lie in the slot, or are copies: in pinned memory where that was asked for, so that they can go to the
        device meanwhile, or else where as many batches as may be in use are so already.
        """
        self._look_for_free()
        # By numpy: torch would take several threads to copy, which wait busily for more.
        arrays = {name: values[:rows] for name, values in self._arrays[number].items()}
        if len(self._in_use) < self._in_place:
            # A tensor's memory, and so all that shares it, keeps the array that it was made of.
            self._in_use[number] = [weakref.ref(values) for values in arrays.values()]
            return {name: torch.from_numpy(values) for name, values in arrays.items()}
        self._free.append(number)
        if not self._pinned:
            return {name: torch.from_numpy(values.copy()) for name, values in arrays.items()}
        copied = {}
        for name, values in arrays.items():
            copied[name] = torch.empty(values.shape, dtype=self._fields[name][1], pin_memory=True)
            copied[name].numpy()[:] = values
        return copied

    def _look_for_free(self) -> None:
        for number, arrays in list(self._in_use.items()):
            if all(array() is None for array in arrays):
                del self._in_use[number]
                self._free.append(number)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_slots", "_arrays", "_in_use")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._in_use = {}
        self._cut()

    def _cut(self) -> None:
        """Cut the memory into slots and fields, once; views cost more than what many of them hold."""
        self._slots = [self._fields_of(memory) for memory in self._memory]
        self._arrays = [{name: values.numpy() for name, values in slot.items()} for slot in self._slots]

    def _field_bytes(self, name: str) -> int:
        shape, dtype = self._fields[name]
        return self._rows * math.prod(shape) * dtype.itemsize

    def _slot_bytes(self) -> int:
        return sum(map(_aligned, map(self._field_bytes, self._fields)))

    def _fields_of(self, memory: Tensor) -> dict[str, Tensor]:
        """Cut the bytes of a slot into its fields, each (rows, ...)."""
        found, start = {}, 0
        for name, (shape, dtype) in self._fields.items():
            length = self._field_bytes(name)
            found[name] = memory[start : start + length].view(dtype).view(self._rows, *shape)
            start += _aligned(length)
        return found


def _aligned(length: int) -> int:
    return -(-length // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
