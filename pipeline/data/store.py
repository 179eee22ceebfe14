"""Random access to the samples of one split, each verified when it is read.

Local shards are read in place, one `pread` a sample, or from the folder into which a host has unpacked them; remote
ones are fetched whole into a cache, ahead of need where the order is told. Private memory is O(shards): the index is
memory-mapped.

    store = ShardStore("s3://bucket/shards", "train"); store.prefetch(order.coming_shards(0)); sample = store.read(17)
"""

import bisect
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from pipeline.data.cache import ShardCache, default_budget_bytes, default_cache_folder
from pipeline.data.eviction import hold
from pipeline.data.fetch import FetchCounts
from pipeline.data.prefetch import Prefetcher
from pipeline.data.presence import fetched_index, find_shards, local_index
from pipeline.data.shard_table import ShardTable
from pipeline.data.unpacked import UnpackedShard
from shards.errors import ShardError
from shards.format import Sample, read_sample
from shards.index import MAX_SAMPLE_BYTES, Row, ShardIndex, members_digest, split_members
from shards.manifest import ShardEntry, SplitEntry, SplitName, read_manifest
from shards.posix import O_READ, read_at
from shards.storage import join, local_path, shown

__all__ = ["ShardStore"]

_MAX_OPEN_SHARDS = 64
_MAX_OPEN_COPIES = 8  # an open copy cannot make room for another shard
_MAX_LISTED = 100_000  # samples of unpacked shards whose file names are kept in memory, about 1 kB each
_EVICTED = 3  # times that a copy may go between its coming and its opening
_logger = logging.getLogger("depthrank")


class ShardStore:
    """The samples of a split by their row number in the index. Picklable; each process opens its own files.

    Args:
        url: Folder or fsspec URL of a dataset.
        split: `train` or `val`.
        cache_dir: Folder for fetched shards; None takes the system's cache folder.
        limit: Serve the first so many samples only.
        cache_bytes: What fetched shards may take; None takes half of what the disk has free.
        cache_share: The part of it that is for this dataset, where a mixture shares it.
        retry_seconds: How long faults of the network that may pass are tried again.

    Raises:
        ShardError: The dataset is missing or incomplete, has no such split, or its index belongs to another one.
    """

    def __init__(
        self,
        url: str,
        split: SplitName,
        cache_dir: str | None = None,
        limit: int | None = None,
        *,
        cache_bytes: int | None = None,
        cache_share: float = 1.0,
        retry_seconds: float = 600,
    ) -> None:
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
        self._cache: ShardCache | None = None
        if self._folder is None:
            copies = Path(cache_dir or default_cache_folder()).expanduser() / self.fingerprint[:16]
            budget = cache_share * (default_budget_bytes(copies) if cache_bytes is None else cache_bytes)
            self._cache = ShardCache(url, copies, budget_bytes=int(budget), retry_seconds=retry_seconds)
            _logger.info("%s: fetched shards go to %s, up to %.1f GB (data.cache_gb)", shown(url), copies, budget / 1e9)
        left = entry.samples if limit is None else min(limit, entry.samples)
        for shard in entry.shards:
            if left == 0:
                break
            self.shard_sizes.append(min(shard.samples, left))
            left -= self.shard_sizes[-1]
        self._ends = list(accumulate(self.shard_sizes))
        self._shards = ShardTable(entry.shards[: len(self.shard_sizes)])
        if not self._shards:
            raise ShardError(f"{shown(url)}: its split {split!r} has no samples")
        if self._cache is not None:
            self._index_path = fetched_index(self._cache, entry.index)
        else:
            assert self._folder is not None
            self._index_path = local_index(self._folder, entry.index)
        self._index = ShardIndex.open(self._index_path)
        self._start()
        if len(self._index) != entry.samples:
            raise ShardError(f"{self._index_path}: {len(self._index)} rows for {entry.samples} samples; pack again")
        self._unpacked = {} if self._folder is None else find_shards(self._folder, self._shards)

    def _start(self) -> None:
        self._files: OrderedDict[int, int] = OrderedDict()
        self._listed: OrderedDict[Path, UnpackedShard] = OrderedDict()
        self._refetched: set[int] = set()
        self._prefetcher: Prefetcher | None = None

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, sample: int, *, maps: bool = True) -> Sample:
        """Read sample number `sample`, 0 <= sample < len; without `maps`, disparity and confidence are left out.

        Raises:
            ShardError: Its bytes are missing, damaged or hostile; names shard and sample and says what to do.
        """
        if not 0 <= sample < len(self):
            raise IndexError(f"sample {sample} is not in 0..{len(self) - 1}")
        number = bisect.bisect_right(self._ends, sample)
        row = self._index.row(sample)
        end = row.offset + row.length
        if row.shard != number or row.length > MAX_SAMPLE_BYTES or end > self._shards.size_bytes(number):
            raise ShardError(
                f"{self._index_path}: row {sample} points outside of {self._shards[number].name}; the index is "
                "damaged, pack or copy the dataset again"
            )
        try:
            return self._verified(number, sample, row, maps)
        except _DamagedError as error:
            if self._cache is None or number in self._refetched:
                raise self._damaged(number, sample, error) from error
        # The copy was good when it came: the disk has lost something. Once a process and shard; the index may be wrong.
        self._refetched.add(number)
        self._close_file(number)
        self._cache.drop(self._shards[number].name)
        try:
            return self._verified(number, sample, row, maps)
        except _DamagedError as error:
            raise self._damaged(number, sample, error) from error

    def prefetch(self, shards: Iterator[int]) -> None:
        """Fetch these shards ahead of need; nothing happens where they are local. Returns at once.

        Never needed for correctness. Call it in one process a rank with each step, so that shards whose last use is
        past can make room: the last call counts.

        Args:
            shards: Shard numbers in the order of their first use from now on, endless.
        """
        if self._cache is None:
            return
        if self._prefetcher is None:
            self._prefetcher = Prefetcher(self._cache, self._shards)
        self._prefetcher.follow(shards)

    @property
    def fetched(self) -> FetchCounts:
        """What this process has fetched; the loader's processes count for themselves."""
        return FetchCounts() if self._cache is None else self._cache.counts

    def close(self) -> None:
        """Close the shards that are open and end the fetching ahead; a later read opens them again."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None
        self._listed.clear()
        self._close_files()

    def __del__(self) -> None:
        if "_files" in self.__dict__:  # construction may have failed before
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        mine = ("_index", "_files", "_listed", "_refetched", "_prefetcher")
        return {name: value for name, value in self.__dict__.items() if name not in mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()
        self._index = ShardIndex.open(self._index_path)

    def _verified(self, number: int, sample: int, row: Row, maps: bool) -> Sample:
        """Read a sample and check it.

        Raises:
            _DamagedError: Its bytes are missing or wrong.
            ShardError: Its shard cannot be fetched.
        """
        folder = self._unpacked.get(number)
        key = "unreadable name" if folder is None else ""
        descriptor = None if folder is not None else self._descriptor(number)
        try:
            if folder is not None:
                first = 0 if folder == self._folder else self._ends[number] - self.shard_sizes[number]
                key, members = self._listing(folder).read(sample - first, row)
            else:
                assert descriptor is not None
                raw = read_at(descriptor, row.length, row.offset)
                if len(raw) != row.length:
                    raise ShardError("the file ends before it")
                key, members = split_members(raw)
                if members_digest(key, members) != row.digest:
                    raise ShardError("its bytes are not those that were packed")
            return read_sample(key, members, maps=maps)
        except OSError as error:
            raise _DamagedError(key, error.strerror or str(error)) from error
        except ShardError as error:
            raise _DamagedError(key, str(error)) from error

    def _descriptor(self, number: int) -> int:
        """File descriptor of a shard; the ones used last stay open."""
        descriptor = self._files.pop(number, None)
        if descriptor is None:
            # Not fewer copies for a small budget: the shards of a window would be fetched again and again.
            if len(self._files) == (_MAX_OPEN_SHARDS if self._cache is None else _MAX_OPEN_COPIES):
                os.close(self._files.popitem(last=False)[1])
            descriptor = self._open_shard(self._shards[number])
        self._files[number] = descriptor
        return descriptor

    def _close_files(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def _open_shard(self, shard: ShardEntry) -> int:
        if self._cache is None:
            assert self._folder is not None
            try:
                return os.open(self._folder / shard.name, O_READ)
            except OSError as error:
                raise _DamagedError("", error.strerror or str(error)) from error
        for _ in range(_EVICTED):
            path = self._cache.fetch(shard.name, shard.bytes, shard.sha256, release=self._close_files)
            try:
                descriptor = os.open(path, O_READ)
            except FileNotFoundError:
                continue  # it made room for another shard in this moment
            except OSError as error:
                raise ShardError(f"{path}: cannot open it: {error.strerror}") from error
            hold(descriptor, path)
            return descriptor
        raise ShardError(
            f"{self._cache.folder}: {shard.name} makes room for other shards as soon as it comes; raise data.cache_gb"
        )

    def _close_file(self, number: int) -> None:
        descriptor = self._files.pop(number, None)
        if descriptor is not None:
            os.close(descriptor)

    def _listing(self, folder: Path) -> UnpackedShard:
        listing = self._listed.pop(folder, None)
        if listing is None:
            listing = UnpackedShard(folder)
            while self._listed and sum(map(len, self._listed.values())) + len(listing) > _MAX_LISTED:
                self._listed.popitem(last=False)
        self._listed[folder] = listing
        return listing

    def _damaged(self, number: int, sample: int, error: "_DamagedError") -> ShardError:
        shard, place = self._shards[number], self._unpacked.get(number)
        if self._cache is not None:
            where = str(self._cache.folder / shard.name)
            todo = f"{shown(join(self.url, shard.name))} was fetched anew and is no better; pack or upload it again"
        elif place is not None:
            where = f"{place} (unpacked {shard.name})"
            todo = "copy or unpack it again"
        else:
            where = str(Path(self.url if self._folder is None else self._folder) / shard.name)
            todo = f"`sha256sum` should give {shard.sha256[:12]}...; copy or pack the dataset again"
        key = f" ({error.key})" if error.key else ""
        return ShardError(f"{where}: sample {sample}{key}: {error.reason}; {todo}")


class _DamagedError(Exception):
    """The bytes of a sample are missing or wrong."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key
        self.reason = reason
