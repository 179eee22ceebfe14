"""The pictures of the stream by position, a batch at a time: what the loader's processes do.

A position alone decides which sample it is and what it looks like. One that cannot be read is an error, or another one
stands in for it (`data.on_bad_shard`).

    pictures = Pictures(stores, mixture, config, seed, batches)
    loaded = pictures.__getitems__(Task(slot=0, positions=[17, 18]))      # torch calls it
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pipeline.data.config import DataConfig
from pipeline.data.mixture import Mixture
from pipeline.data.shared_batches import Fields, SharedBatches, Task
from pipeline.data.store import ShardStore
from pipeline.data.training_sample import fill_picture, needs_maps, picture_fields
from shards.errors import DataError, DecodeError, ShardError
from shards.storage import shown

__all__ = ["Loaded", "Pictures", "batch_fields"]

_STAND_INS = 16  # tried for one unreadable sample; if all fail, the dataset is beyond skipping


class Loaded(NamedTuple):
    """A batch that a slot holds now, and what is no tensor of it."""

    slot: int
    keys: list[str]
    replaced: int
    """Samples that stand in for unreadable ones."""
    unreadable: list[str]
    """Why those could not be read, one line each."""
    fetched_bytes: int
    """What this process has fetched from remote stores since its last batch."""


def batch_fields(config: DataConfig, size_hw: tuple[int, int], dense: bool) -> Fields:
    """Shape and type of what a batch holds of each sample: its picture, and which sample it is."""
    numbers: Fields = dict.fromkeys(("dataset", "sample", "positions"), ((), torch.int64))
    return {**picture_fields(config, size_hw, dense), **numbers}


class Pictures(Dataset[Any]):
    """Map-style dataset over positions of the stream; lives in the workers.

    Args:
        stores: Of each dataset.
        mixture: Which sample is at a position.
        config: Pairs, augmentation, and what to do about unreadable samples.
        seed: Of all random draws.
        batches: Where batches are made; their fields are those of `batch_fields`.
        dense: Whether they hold inverse depth and confidence.
    """

    def __init__(
        self,
        stores: Sequence[ShardStore],
        mixture: Mixture,
        config: DataConfig,
        seed: int,
        batches: SharedBatches,
        dense: bool,
    ) -> None:
        self._stores = stores
        self._mixture = mixture
        self._config = config
        self._seed = seed
        self._batches = batches
        self._maps = needs_maps(config, dense)
        self._told_bytes = 0

    def __getitems__(self, task: Task) -> Loaded | DataError:
        """Make a batch; an error of the data comes as a value, as torch would wrap it into a worker's traceback."""
        rows = {name: values.numpy() for name, values in self._batches.slot(task.slot, len(task.positions)).items()}
        numbers = {name: rows.pop(name) for name in ("dataset", "sample", "positions")}
        try:
            prepared = [
                self._prepare(position, {name: values[row] for name, values in rows.items()})
                for row, position in enumerate(task.positions)
            ]
        except DataError as error:
            return error.with_traceback(None)
        numbers["dataset"][:] = [one.dataset for one in prepared]
        numbers["sample"][:] = [one.sample for one in prepared]
        numbers["positions"][:] = task.positions
        return Loaded(
            slot=task.slot,
            keys=[one.key for one in prepared],
            replaced=sum(bool(one.unreadable) for one in prepared),
            unreadable=[reason for one in prepared for reason in one.unreadable],
            fetched_bytes=self._newly_fetched(),
        )

    def _newly_fetched(self) -> int:
        before, self._told_bytes = self._told_bytes, sum(store.fetched.bytes for store in self._stores)
        return self._told_bytes - before

    def _prepare(self, position: int, out: Mapping[str, NDArray[Any]]) -> "_Prepared":
        """Fill in the sample of a position; with `on_bad_shard: skip` the first readable of it and its stand-ins."""
        dataset, epoch, sample = self._mixture.locate(position)
        store = self._stores[dataset]
        key: tuple[int | str, ...] = (self._seed, store.fingerprint, epoch, sample)
        unreadable: list[str] = []
        served = sample
        while True:
            try:
                return _Prepared(dataset, served, self._fill(out, store, served, key), unreadable)
            except _UnreadableError as error:
                if self._config.on_bad_shard == "error" or len(unreadable) == _STAND_INS:
                    raise
                unreadable.append(str(error))
            except DataError:
                raise
            except Exception as error:
                error.add_note(f"while preparing sample {served} of {shown(store.url)}, position {position}")
                raise
            attempt = len(unreadable)
            served = self._mixture.orders[dataset].stand_in(epoch, sample, attempt)
            key = (self._seed, store.fingerprint, epoch, sample, "stand-in", attempt)

    def _fill(self, out: Mapping[str, NDArray[Any]], store: ShardStore, sample: int, key: tuple[int | str, ...]) -> str:
        """Fill in a picture; returns its sample's key."""
        try:
            stored = store.read(sample, maps=self._maps)
        except ShardError as error:
            raise _UnreadableError(str(error)) from error
        try:
            fill_picture(out, stored, self._config, key)
        except DataError as error:
            kind = _UnreadableError if isinstance(error.__cause__, DecodeError) else type(error)
            raise kind(f"{shown(store.url)}: {error}") from error
        return stored.key


class _UnreadableError(ShardError):
    """The bytes of a sample are at fault, not settings that ask for what it was never given."""


class _Prepared(NamedTuple):
    """One sample of a batch, and why others could not be served at its position."""

    dataset: int
    sample: int
    key: str
    unreadable: list[str]
