"""Random access to the samples of one split, each verified when it is read.

Local shards are read in place, one `pread` a sample; remote ones are fetched whole into a cache on first need. Private
memory is O(shards): the index is memory-mapped.

    store = ShardStore("runs/shards", "train"); sample = store.read(17)
"""

import bisect
import hashlib
import os
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path
from typing import Any

from pipeline.data.cache import ShardCache, default_cache_folder
from shards.errors import ShardError
from shards.format import Sample, read_sample
from shards.index import MAX_SAMPLE_BYTES, ShardIndex, members_digest, split_members
from shards.manifest import ShardEntry, SplitEntry, SplitName, read_manifest
from shards.storage import join, local_path, shown

__all__ = ["ShardStore"]

_MAX_OPEN_SHARDS = 64
_LISTED = 3  # bad files named in one message


class ShardStore:
    """The samples of a split by their row number in the index. Picklable; each process opens its own files.

    Args:
        url: Folder or fsspec URL of a dataset.
        split: `train` or `val`.
        cache_dir: Folder for fetched shards; None takes the system's cache folder.
        limit: Serve the first so many samples only.

    Raises:
        ShardError: The dataset is missing or incomplete, has no such split, or its index belongs to another one.
    """

    def __init__(self, url: str, split: SplitName, cache_dir: str | None = None, limit: int | None = None) -> None:
        manifest = read_manifest(url)
        if split not in manifest.splits:
            raise ShardError(
                f"{shown(url)} has no split {split!r}, only {', '.join(map(repr, manifest.splits)) or 'an empty list'}"
            )
        entry: SplitEntry = manifest.splits[split]
        self.url = url
        self.split = split
        self.fingerprint = manifest.fingerprint
        self.shard_sizes: list[int] = []
        """Samples of each shard that is served, in index order; the last one may be cut by `limit`."""
        self._folder = local_path(url)
        self._cache = ShardCache(url, Path(cache_dir or default_cache_folder()).expanduser() / self.fingerprint[:16])
        left = entry.samples if limit is None else min(limit, entry.samples)
        for shard in entry.shards:
            if left == 0:
                break
            self.shard_sizes.append(min(shard.samples, left))
            left -= self.shard_sizes[-1]
        self._ends = list(accumulate(self.shard_sizes))
        self._shards = entry.shards[: len(self.shard_sizes)]
        if not self._shards:
            raise ShardError(f"{shown(url)}: its split {split!r} has no samples")
        self._index_path = self._verified_index(entry)
        self._index = ShardIndex.open(self._index_path)
        self._files: OrderedDict[int, int] = OrderedDict()
        if len(self._index) != entry.samples:
            raise ShardError(f"{self._index_path}: {len(self._index)} rows for {entry.samples} samples; pack again")
        if self._folder is not None:
            self._check_files(self._folder)

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, sample: int) -> Sample:
        """Read sample number `sample`, 0 <= sample < len.

        Raises:
            ShardError: Its bytes are missing, damaged or hostile; names shard and sample and says what to do.
        """
        if not 0 <= sample < len(self):
            raise IndexError(f"sample {sample} is not in 0..{len(self) - 1}")
        number = bisect.bisect_right(self._ends, sample)
        shard = self._shards[number]
        row = self._index.row(sample)
        if row.shard != number or row.length > MAX_SAMPLE_BYTES or row.offset + row.length > shard.bytes:
            raise ShardError(
                f"{self._index_path}: row {sample} points outside of {shard.name}; the index is damaged, pack or copy "
                "the dataset again"
            )
        key = "unreadable name"
        try:
            raw = os.pread(self._descriptor(number), row.length, row.offset)
            if len(raw) != row.length:
                raise ShardError("the file ends before it")
            key, members = split_members(raw)
            if members_digest(key, members) != row.digest:
                raise ShardError("its bytes are not those that were packed")
            return read_sample(key, members)
        except OSError as error:
            raise self._damaged(shard, sample, key, error.strerror or str(error)) from error
        except ShardError as error:
            raise self._damaged(shard, sample, key, str(error)) from error

    def close(self) -> None:
        """Close the shards that are open; a later read opens them again."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        if "_files" in self.__dict__:  # construction may have failed before
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_index", "_files")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._files = OrderedDict()
        self._index = ShardIndex.open(self._index_path)

    def _descriptor(self, number: int) -> int:
        """File descriptor of a shard; the ones used last stay open."""
        descriptor = self._files.pop(number, None)
        if descriptor is None:
            if len(self._files) == _MAX_OPEN_SHARDS:
                os.close(self._files.popitem(last=False)[1])
            descriptor = os.open(self._local_shard(self._shards[number]), os.O_RDONLY | os.O_CLOEXEC)
        self._files[number] = descriptor
        return descriptor

    def _local_shard(self, shard: ShardEntry) -> Path:
        if self._folder is not None:
            return self._folder / shard.name
        return self._cache.fetch(shard.name, shard.bytes, shard.sha256)

    def _verified_index(self, entry: SplitEntry) -> Path:
        index = entry.index
        if self._folder is None:
            return self._cache.fetch(index.name, index.bytes, index.sha256)
        path = self._folder / index.name
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ShardError(
                f"{path}: cannot read the index of the dataset ({error.strerror}); copy or pack the dataset again"
            ) from error
        if digest != index.sha256:
            raise ShardError(
                f"{path} is damaged or belongs to another dataset: its sha256 is {digest[:12]}..., the manifest says "
                f"{index.sha256[:12]}...; copy or pack the dataset again"
            )
        return path

    def _check_files(self, folder: Path) -> None:
        """Missing and cut off shards are found before the training starts, not hours later."""
        bad = []
        for shard in self._shards:
            try:
                size = (folder / shard.name).stat().st_size
            except OSError as error:
                bad.append(f"{shard.name} ({error.strerror})")
                continue
            if size != shard.bytes:
                bad.append(f"{shard.name} (has {size} bytes, the manifest says {shard.bytes})")
        if bad:
            more = f" and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
            raise ShardError(
                f"{folder}: {len(bad)} of {len(self._shards)} shards are missing or cut off: "
                f"{', '.join(bad[:_LISTED])}{more}; copy or pack the dataset again"
            )

    def _damaged(self, shard: ShardEntry, sample: int, key: str, reason: str) -> ShardError:
        if self._folder is not None:
            where = str(self._folder / shard.name)
            todo = f"`sha256sum` should give {shard.sha256[:12]}...; copy or pack the dataset again"
        else:
            where = str(self._cache.folder / shard.name)
            todo = f"delete this copy of {shown(join(self.url, shard.name))} and start again"
        return ShardError(f"{where}: sample {sample} ({key}): {reason}; {todo}")
