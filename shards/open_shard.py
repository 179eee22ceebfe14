"""A tar that grows in a local file, sample by sample, and can be taken up again where a killed process left it.

The bytes are those of webdataset's own `TarWriter` with a fixed owner, mode and time: samples end to end, then zeros.
Each sample is made in memory and appended in one write, so that a cut at any sample's end is a good beginning.

Usage:

    shard = OpenShard(path); shard.append(key, members); sha256, size = shard.close()
    shard = OpenShard(path, length=81920, samples=3)        # the rest of the file is cut off
"""

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path

import webdataset

from shards.errors import ShardError
from shards.index import member_span

__all__ = ["MAX_MEMBER_NAME_BYTES", "TAR_END_BYTES", "OpenShard", "members_span", "tar_end"]

TAR_END_BYTES = 10240
"""The most that ends a tar: two blocks of zeros, filled up to a record of this size."""
MAX_MEMBER_NAME_BYTES = 100
"""A longer one would need an extended header, which `members_span` does not count."""
_CHUNK_BYTES = 1 << 20


def members_span(members: Mapping[str, bytes]) -> int:
    """Bytes that a sample takes in a tar, headers included."""
    return sum(member_span(len(content)) for content in members.values())


def tar_end(length: int) -> bytes:
    """The zeros after `length` bytes of members."""
    return bytes(-(length + 1024) % TAR_END_BYTES + 1024)


class OpenShard:
    """A shard that is being written.

    Args:
        path: Its file.
        length: Bytes of members that are there already and stay.
        samples: How many samples these are.

    Raises:
        ShardError: The file cannot be opened or is shorter.
    """

    def __init__(self, path: Path, *, length: int = 0, samples: int = 0) -> None:
        self.path = path
        self.length = length
        self.samples = samples
        self._digest = hashlib.sha256()
        try:
            self._file = path.open("r+b" if length else "wb")
        except OSError as error:
            raise ShardError(f"{path}: cannot write it: {error.strerror}") from error
        try:
            while (left := length - self._file.tell()) > 0:
                chunk = self._file.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    raise ShardError(f"{path}: shorter than {length} bytes")
                self._digest.update(chunk)
            self._file.truncate(length)
        except (OSError, ShardError) as error:
            self._file.close()
            raise ShardError(f"{path}: cannot continue it: {error}") from error

    @property
    def sha256(self) -> str:
        """Of all that was written so far."""
        return self._digest.hexdigest()

    def append(self, key: str, members: Mapping[str, bytes]) -> None:
        """Write one sample and hand it to the operating system.

        Raises:
            ShardError: The file cannot be written; what is there is no longer whole.
        """
        self._put(_tar_bytes(key, members))
        self.samples += 1

    def close(self) -> tuple[str, int]:
        """End and sync the tar; its sha256 and size.

        Raises:
            ShardError: The file cannot be written.
        """
        self._put(tar_end(self.length))
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ShardError(f"{self.path}: cannot write it: {error.strerror}") from error
        self._file.close()
        return self.sha256, self.length

    def leave(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def discard(self) -> None:
        """Close and remove the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise ShardError(f"{self.path}: cannot write it: {error.strerror}") from error
        self._digest.update(data)
        self.length += len(data)


def _tar_bytes(key: str, members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    tar = webdataset.TarWriter(buffer, encoder=False, mtime=0, user="depthrank", group="depthrank", mode=0o644)
    tar.write({"__key__": key, **members})
    tar.close()
    return buffer.getvalue()[: members_span(members)]
