"""Reads a shard that a host has unpacked: the members as files in a folder, where the tar used to be.

Some upload services unpack archives without being asked. The index knows where in the tar a sample lay and the digest
of its members, not its name; so a sample is found among the files by what it must be: the place it would have in the
order of the names first, then every sample of the right size, then of any size, and the digest decides. What was found
once is remembered.

    shard = UnpackedShard(Path("train-000000")); key, members = shard.read(place=17, row=index.row(17))
"""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from shards.errors import ShardError
from shards.index import MAX_SAMPLE_BYTES, Row, member_span, members_digest, split_name

__all__ = ["UnpackedShard", "unpacked_folder"]


class _Files(NamedTuple):
    """The members of one sample: extension to file and size, and their bytes in a tar with plain headers."""

    members: dict[str, tuple[Path, int]]
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
        found: dict[str, dict[str, tuple[Path, int]]] = {}
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
                        found.setdefault(key, {})[extension] = path, state.st_size
        except OSError as error:
            raise ShardError(f"{folder}: cannot read it: {error.strerror}") from error
        self._samples = {
            key: _Files(members, sum(member_span(size) for _, size in members.values()))
            for key, members in sorted(found.items())
        }
        self._keys = list(self._samples)
        self._found: dict[tuple[int, int], str] = {}

    def read(self, place: int, row: Row) -> tuple[str, dict[str, bytes]]:
        """Key and members of the sample of this row.

        Args:
            place: Its number in the shard.
            row: Of the index.

        Raises:
            ShardError: No files here are this sample, or some of its files are damaged.
        """
        known = self._found.get((row.shard, row.offset))
        for key in [known] if known is not None else self._candidates(place, row.length):
            members = self._members(key)
            if members is not None and members_digest(key, members) == row.digest:
                self._found[row.shard, row.offset] = key
                return key, members
        raise ShardError("none of the unpacked files are what was packed, so some of its files are missing or damaged")

    def _candidates(self, place: int, length: int) -> list[str]:
        """Samples that it may be, the likeliest first; headers make a sample in its tar longer, never shorter."""
        taken = set(self._found.values())
        fit = [key for key, files in self._samples.items() if files.span <= length and key not in taken]
        there = self._keys[place] if place < len(self._keys) else ""
        return sorted(fit, key=lambda key: (self._samples[key].span != length, key != there))

    def _members(self, key: str) -> dict[str, bytes] | None:
        files = self._samples[key]
        if files.span > MAX_SAMPLE_BYTES:
            return None
        members = {}
        for extension, (path, size) in files.members.items():
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                members[extension] = os.pread(descriptor, size, 0)
            finally:
                os.close(descriptor)
        return members


def _raise(error: OSError) -> None:
    raise error
