"""Reads a shard that a host has unpacked: the members as files in a folder, where the tar used to be.

Some upload services unpack archives without being asked. The index knows where in the tar a sample lay and the digest
of its members, not its name; so a sample is found among the files by what it must be: the place it would have in the
order of the names first, then every sample of the right size, then of any size, and the digest decides. For that each
file is read once at most, and the digests are kept.

    shard = UnpackedShard(Path("train-000000")); key, members = shard.read(place=17, row=index.row(17))
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from shards.errors import ShardError
from shards.index import MAX_SAMPLE_BYTES, Row, member_span, members_digest, split_name
from shards.posix import O_NOFOLLOW, O_READ, read_at

__all__ = ["UnpackedShard", "unpacked_folder"]


class _Files(NamedTuple):
    """The members of one sample: extension to file and size, and their bytes in a tar with plain headers."""

    members: dict[str, tuple[str, int]]
    span: int


def unpacked_folder(folder: Path, shard_name: str) -> Path | None:
    """Where the members of a shard lie that is no file any more: a folder of its name, or side by side in `folder`."""
    for name in (shard_name.removesuffix(".tar"), shard_name):
        if (folder / name).is_dir():
            return folder / name
    has_members = any(path.suffix.lower() in (".jpg", ".jpeg") for path in folder.iterdir())
    return folder if has_members and not (folder / shard_name).exists() else None


class UnpackedShard:
    """The samples in a folder and the folders below it. Memory is O(samples) of this folder.

    Args:
        folder: Where the members lie; links are not followed.

    Raises:
        ShardError: It cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found: dict[str, dict[str, tuple[str, int]]] = {}
        try:
            for parent, _, names in os.walk(folder, onerror=_raise):
                for name in names:
                    path = Path(parent, name)
                    state = path.stat(follow_symlinks=False)
                    try:
                        key, extension = split_name(str(path.relative_to(folder)))
                    except ShardError:
                        continue  # not of a sample: index, manifest, a host's own files
                    if stat.S_ISREG(state.st_mode):
                        found.setdefault(key, {})[extension] = str(path), state.st_size
        except OSError as error:
            raise ShardError(f"{folder}: cannot read it: {error.strerror}") from error
        self._samples = {
            key: _Files(members, sum(member_span(size) for _, size in members.values()))
            for key, members in sorted(found.items())
        }
        self._keys = list(self._samples)
        self._found: dict[tuple[int, int], str] = {}
        self._by_digest: dict[int, list[str]] = {}
        self._unread: dict[int, list[str]] = {}
        for key, files in self._samples.items():
            self._unread.setdefault(files.span, []).append(key)

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, place: int, row: Row) -> tuple[str, dict[str, bytes]]:
        """Key and members of the sample of this row.

        Args:
            place: Its number in the shard.
            row: Of the index.

        Raises:
            ShardError: No files here are this sample, or some of its files are damaged.
        """
        known = self._found.get((row.shard, row.offset))
        for key in [known] if known is not None else self._candidates(place, row):
            members = self._members(key)
            if members is not None and members_digest(key, members) == row.digest:
                self._found[row.shard, row.offset] = key
                return key, members
        raise ShardError("none of the unpacked files are what was packed, so some of its files are missing or damaged")

    def _candidates(self, place: int, row: Row) -> Iterator[str]:
        """Samples that it may be, the likeliest first; headers make a sample in its tar longer, never shorter."""
        if place < len(self._keys) and self._samples[self._keys[place]].span <= row.length:
            yield self._keys[place]
        self._read_digests([row.length])
        same = self._by_digest.get(row.digest, [])
        yield from (key for key in same if self._samples[key].span == row.length)
        self._read_digests([span for span in self._unread if span < row.length])
        same = self._by_digest.get(row.digest, [])
        yield from (key for key in same if self._samples[key].span < row.length)

    def _read_digests(self, spans: Iterable[int]) -> None:
        """Read all samples of these spans that have not been read for their digest."""
        for span in spans:
            for key in self._unread.pop(span, []):
                with contextlib.suppress(OSError):  # then it is not found, whichever it is
                    members = self._members(key)
                    if members is not None:
                        self._by_digest.setdefault(members_digest(key, members), []).append(key)

    def _members(self, key: str) -> dict[str, bytes] | None:
        files = self._samples[key]
        if files.span > MAX_SAMPLE_BYTES:
            return None
        members = {}
        for extension, (path, size) in files.members.items():
            descriptor = os.open(path, O_READ | O_NOFOLLOW)
            try:
                members[extension] = read_at(descriptor, size, 0)
            finally:
                os.close(descriptor)
        return members


def _raise(error: OSError) -> None:
    raise error
