"""Reads every byte of a dataset and names what is damaged.

Checked are the size and sha256 of each file against the manifest, the digest of each sample against the index, and that
each sample decodes. A shard is read once from front to back, so that a dataset of any size on any storage will do.

    report = verify("s3://bucket/web-shards")
    for damage in report.damage: print(damage)
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import DecodeError, ShardError
from shards.format import decode_jpeg, read_sample
from shards.index import Row, iter_samples, members_digest, split_members
from shards.manifest import ShardEntry, SplitEntry, read_manifest
from shards.reading import HashedStream, read_index
from shards.storage import join, open_read, shown

__all__ = ["VerifyReport", "verify"]

Progress = Callable[[int, int], None]
"""Called with: bytes read, bytes in all."""


@dataclass
class VerifyReport:
    """What was checked and what was found.

    Args:
        files: Shards and indexes.
        samples: That decode and are what the index says.
        bytes: Of all files, as the manifest says.
        damage: A line each, beginning with the file's name.
    """

    files: int = 0
    samples: int = 0
    bytes: int = 0
    damage: list[str] = field(default_factory=list)


def verify(url: str, progress: Progress | None = None) -> VerifyReport:
    """Verify the dataset at `url`.

    Args:
        url: Folder or fsspec URL.
        progress: Called now and then.

    Raises:
        ShardError: There is no manifest that can be trusted, so there is nothing to compare with.
    """
    splits = read_manifest(url).splits.values()
    report = VerifyReport()
    total = sum(shard.bytes for split in splits for shard in split.shards)
    keys: set[str] = set()
    for split in splits:
        report.files += 1 + len(split.shards)
        report.bytes += split.index.bytes
        rows = _rows_by_shard(url, split, report)
        for number, shard in enumerate(split.shards):
            check = _ShardCheck(join(url, shard.name), shard, None if rows is None else rows[number])
            try:
                for key in check.samples():
                    report.samples += 1
                    if key in keys:
                        check.damage.append(f"sample {key} comes twice in the dataset")
                    keys.add(key)
                    if progress is not None:
                        progress(report.bytes + check.position, total)
            except ShardError as error:
                check.damage.append(str(error).removeprefix(f"{shown(join(url, shard.name))}: "))
            report.damage += [f"{shard.name}: {damage}" for damage in check.damage]
            report.bytes += shard.bytes
    return report


def _rows_by_shard(url: str, split: SplitEntry, report: VerifyReport) -> list[NDArray[Any]] | None:
    """The rows of each shard; None where the index is damaged, which is noted."""
    try:
        rows = read_index(url, split)
    except ShardError as error:
        report.damage.append(str(error))
        return None
    ends = np.cumsum([shard.samples for shard in split.shards], dtype=np.int64)
    return np.split(rows, ends[:-1])


class _ShardCheck:
    """Reads one shard; afterwards `damage` says what is wrong with it."""

    def __init__(self, url: str, entry: ShardEntry, rows: NDArray[Any] | None) -> None:
        self._url = url
        self._entry = entry
        self._rows = rows
        self.damage: list[str] = []
        self.position = 0

    def samples(self) -> Iterator[str]:
        """Keys of the samples that are good."""
        with closing(open_read(self._url)) as file:
            stream = HashedStream(file, self._url)
            found = self._by_walking(stream) if self._rows is None else self._by_rows(stream, self._rows)
            for key in found:
                self.position = stream.position
                yield key
            size, sha256 = stream.finish()
        if size != self._entry.bytes:
            self.damage.append(f"it has {size} bytes, the manifest says {self._entry.bytes}")
        if sha256 != self._entry.sha256:
            where = "" if self.damage else "; all its samples are good, so the damage lies between or behind them"
            self.damage.append(f"its sha256 is {sha256[:12]}..., the manifest says {self._entry.sha256[:12]}...{where}")

    def _by_rows(self, stream: HashedStream, rows: NDArray[Any]) -> Iterator[str]:
        for number, values in enumerate(rows.tolist()):
            row = Row(*values)
            stream.skip_to(row.offset)
            try:
                raw = stream.read(row.length)
                if len(raw) != row.length:
                    raise ShardError(f"the file ends at byte {stream.position}, inside or before it")
                key, members = split_members(raw)
                if members_digest(key, members) != row.digest:
                    raise ShardError(f"its bytes are not those that were packed (key {key})")
                _decode(key, members)
            except ShardError as error:
                self.damage.append(f"sample {number} of this shard, at byte {row.offset}: {error}")
            else:
                yield key

    def _by_walking(self, stream: HashedStream) -> Iterator[str]:
        """Without a trusted index: as far as the tar can be followed."""
        try:
            for sample in iter_samples(stream):
                try:
                    _decode(sample.key, sample.members)
                except ShardError as error:
                    self.damage.append(str(error))
                else:
                    yield sample.key
        except ShardError as error:
            self.damage.append(str(error))


def _decode(key: str, members: dict[str, Any]) -> None:
    sample = read_sample(key, members)
    try:
        decode_jpeg(sample.image)
    except DecodeError as error:
        raise ShardError(f"sample {key}: {error}") from error
