"""A dataset read from its first sample to its last, at any URL and without a cache: for the tools, not for training.

manifest = read_manifest(url)
for stored in stored_samples(url, "train", manifest.splits["train"]):
    sample = read_sample(stored.key, stored.members)
"""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.errors import ShardError
from shards.index import MAX_SAMPLE_BYTES, Row, decode_index, members_digest, split_members
from shards.manifest import SplitEntry, SplitName
from shards.storage import join, open_read, read_at, read_bytes, shown

__all__ = ["HashedStream", "StoredSample", "read_index", "stored_samples"]

_MAX_INDEX_BYTES = 1 << 32
_CHUNK_BYTES = 1 << 20


class StoredSample(NamedTuple):
    """A sample as it lies in its shard, its digest verified.

    Args:
        split: Of the dataset.
        number: Row in the index of the split.
        key: Name of the sample.
        members: Extension to content.
    """

    split: SplitName
    number: int
    key: str
    members: dict[str, bytes]


def read_index(url: str, entry: SplitEntry) -> NDArray[Any]:
    """Read the index of a split and check it against the manifest.

    Returns:
        Rows, a structured array (N,) of dtype `ROW`, in the order of the shards.

    Raises:
        ShardError: It is missing, damaged, or its rows do not lie inside the shards; begins with the file's name.
    """
    name = entry.index.name
    if entry.index.bytes > _MAX_INDEX_BYTES:
        raise ShardError(f"{name}: the manifest says it has {entry.index.bytes} bytes, the most is {_MAX_INDEX_BYTES}")
    try:
        data = read_bytes(join(url, name), entry.index.bytes)
    except ShardError as error:
        raise ShardError(f"{name}: {error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.index.sha256:
        raise ShardError(f"{name}: its sha256 is {digest[:12]}..., the manifest says {entry.index.sha256[:12]}...")
    rows = decode_index(data, name)
    reason = _contradiction(rows, entry)
    if reason is not None:
        raise ShardError(f"{name}: {reason}")
    return rows


def stored_samples(
    url: str, split: SplitName, entry: SplitEntry, *, numbers: NDArray[np.int64] | None = None
) -> Iterator[StoredSample]:
    """The samples of a split in their order.

    Args:
        url: Folder or fsspec URL of the dataset.
        split: Name of the split.
        entry: Its entry in the manifest.
        numbers: Ascending rows to read; None reads all.

    Raises:
        ShardError: The index or a sample is missing or damaged; says which, and how to learn more.
    """
    rows = read_index(url, entry)
    wanted = np.arange(len(rows)) if numbers is None else numbers
    for shard, file_entry in enumerate(entry.shards):
        chosen = wanted[rows["shard"][wanted] == shard]
        if not len(chosen):
            continue
        where = join(url, file_entry.name)
        with closing(open_read(where)) as file:
            for number in chosen.tolist():
                row = Row(*rows[number].item())
                try:
                    key, members = split_members(read_at(file, where, row.offset, row.length))
                    if members_digest(key, members) != row.digest:
                        raise ShardError("its bytes are not those that were packed")
                except ShardError as error:
                    raise ShardError(
                        f"{shown(where)}: sample {number} of {split}: {error}; "
                        "`python -m launch.inspect DATASET --verify` lists all damage"
                    ) from error
                yield StoredSample(split, number, key, members)


class HashedStream:
    """Reads a file once from its beginning to its end, and hashes what goes by.

    Args:
        file: From `open_read`.
        url: Of the file, for messages.
    """

    def __init__(self, file: Any, url: str) -> None:
        self._file = file
        self._url = url
        self._digest = hashlib.sha256()
        self.position = 0
        """Bytes read."""

    def read(self, length: int) -> bytes:
        """The next bytes, fewer where the file ends."""
        data = read_at(self._file, self._url, self.position, length)
        self._digest.update(data)
        self.position += len(data)
        return data

    def skip_to(self, offset: int) -> None:
        """Read on to this offset, or to the end."""
        while self.position < offset and self.read(min(_CHUNK_BYTES, offset - self.position)):
            pass

    def finish(self) -> tuple[int, str]:
        """Read what is left; size and sha256 of the file."""
        while self.read(_CHUNK_BYTES):
            pass
        return self.position, self._digest.hexdigest()


def _contradiction(rows: NDArray[Any], entry: SplitEntry) -> str | None:
    """What in the rows cannot be true of the shards of the manifest."""
    if len(rows) != entry.samples:
        return f"{len(rows)} rows for {entry.samples} samples"
    shards = rows["shard"].astype(np.int64)
    if (np.diff(shards) < 0).any() or (shards >= len(entry.shards)).any():
        return "its rows are not in the order of the shards"
    if np.bincount(shards, minlength=len(entry.shards)).tolist() != [shard.samples for shard in entry.shards]:
        return "its shards have other numbers of samples than the manifest says"
    size = np.array([shard.bytes for shard in entry.shards], dtype=np.uint64)[shards] if len(rows) else rows["length"]
    length, offset = rows["length"], rows["offset"]
    inside = (length > 0) & (length <= MAX_SAMPLE_BYTES) & (offset <= size)
    inside &= offset + np.where(inside, length, 0) <= size
    same_shard = np.diff(shards) == 0
    apart = (offset[1:] >= offset[:-1] + length[:-1]) | ~same_shard
    if not inside.all() or not apart.all():
        return "its rows overlap or reach beyond their shards"
    return None
