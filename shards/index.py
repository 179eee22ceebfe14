r"""Where each sample lies: the index file, and how it is read and rebuilt from the tars.

The members of a sample are adjacent in its shard, so one range read gives all of it. The index is a header and fixed
little-endian rows, memory-mapped: opening it costs nothing whatever its size. It can be rebuilt from the tars.

    header (32 bytes)   b"DRINDEX\0", version u32, bytes of a row u32, rows u64, zeros
    row    (24 bytes)   shard u32, digest u32, offset u64, length u64

`shard` counts the shards of the split in the manifest's order; `offset` and `length` are the byte range of the tar
that holds the sample's headers and contents; `digest` is a crc32 over names and contents (`members_digest`), which
also serves where a host has unpacked the tars into folders.

    index = ShardIndex.open(Path("train.index")); row = index.row(17)
    key, members = split_members(read_at(fd, row.length, row.offset))
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.errors import ShardError
from shards.names import is_sample_key, sample_key
from shards.tar import BLOCK, HOW_TO_PACK, Readable, padded, plain_file, read_entry

__all__ = [
    "MAX_SAMPLE_BYTES",
    "ROW",
    "Row",
    "ShardIndex",
    "TarSample",
    "decode_index",
    "encode_index",
    "iter_samples",
    "member_span",
    "members_digest",
    "scan_tar",
    "split_members",
    "split_name",
]

ROW = np.dtype([("shard", "<u4"), ("digest", "<u4"), ("offset", "<u8"), ("length", "<u8")])
MAX_SAMPLE_BYTES = 1 << 28
"""Most bytes of a sample in its tar, headers included."""
_MAX_MEMBERS = 64
_SAME_EXTENSION = {"jpeg": "jpg"}
_HEADER = struct.Struct("<8sIIQ8x")
_MAGIC = b"DRINDEX\0"
_VERSION = 1


class Row(NamedTuple):
    """Where one sample lies: shard number, digest of its members, byte range in the tar."""

    shard: int
    digest: int
    offset: int
    length: int


@dataclass(frozen=True)
class ShardIndex:
    """The memory-mapped index of a split.

    Args:
        rows: Structured array (N,) of dtype `ROW`.
    """

    rows: NDArray[Any]

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, sample: int) -> Row:
        """Where sample number `sample` lies."""
        return Row(*self.rows[sample].item())

    @classmethod
    def open(cls, path: Path) -> "ShardIndex":
        """Map an index file.

        Raises:
            ShardError: It is missing, not an index, of another version, or its size is not what its header says.
        """
        try:
            with path.open("rb") as file:
                header = file.read(_HEADER.size)
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise ShardError(f"{path}: cannot read the index: {error.strerror}") from error
        count = _count_rows(header, size, str(path))
        if count == 0:
            return cls(np.zeros(0, ROW))
        return cls(np.memmap(path, dtype=ROW, mode="r", offset=_HEADER.size, shape=(count,)))


def decode_index(data: bytes, where: str) -> NDArray[Any]:
    """Rows of an index file that was read as a whole, a structured array (N,) of dtype `ROW`.

    Raises:
        ShardError: As `ShardIndex.open`; begins with `where`.
    """
    _count_rows(data[: _HEADER.size], len(data), where)
    return np.frombuffer(data, dtype=ROW, offset=_HEADER.size)


def _count_rows(header: bytes, size: int, where: str) -> int:
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise ShardError(f"{where}: this is not an index of shards")
    _, version, row_bytes, count = _HEADER.unpack(header)
    if version != _VERSION or row_bytes != ROW.itemsize:
        raise ShardError(f"{where}: index version {version}; this program reads version {_VERSION}")
    if size != _HEADER.size + count * ROW.itemsize:
        raise ShardError(f"{where}: {size} bytes, but {count} rows need {_HEADER.size + count * ROW.itemsize}")
    return int(count)


def encode_index(rows: NDArray[Any]) -> bytes:
    """Bytes of the index file of these rows, a structured array (N,) of dtype `ROW`."""
    return _HEADER.pack(_MAGIC, _VERSION, ROW.itemsize, len(rows)) + rows.astype(ROW, copy=False).tobytes()


def member_span(content_bytes: int) -> int:
    """Bytes that a member of this many bytes takes in a tar: a header block and whole content blocks."""
    return BLOCK + padded(content_bytes)


def members_digest(key: str, members: Mapping[str, bytes]) -> int:
    """Crc32 over the members' names and contents, in the order of their names."""
    crc = 0
    for extension in sorted(members):
        content = members[extension]
        crc = zlib.crc32(f"{key}.{extension}\0{len(content)}\0".encode(), crc)
        crc = zlib.crc32(content, crc)
    return crc


def split_members(raw: bytes) -> tuple[str, dict[str, bytes]]:
    """Split the byte range of one sample into its key and its members, extension to content.

    Raises:
        ShardError: The range does not hold exactly the members of one sample.
    """
    key = ""
    members: dict[str, bytes] = {}
    at = 0
    while at < len(raw):
        name, size, header_bytes = _next_member(raw, at)
        found, extension = split_name(name)
        if members and found != key:
            raise ShardError(f"its byte range holds members of two samples, {key} and {found}")
        if extension in members or len(members) == _MAX_MEMBERS:
            raise ShardError(f"member {name} comes twice" if extension in members else "it has too many members")
        at += header_bytes
        if at + padded(size) > len(raw):
            raise ShardError(f"member {name} says it has {size} bytes, which reaches beyond the sample")
        key = found
        members[extension] = raw[at : at + size]
        at += padded(size)
    if not members:
        raise ShardError("its byte range is empty")
    return key, members


def _next_member(raw: bytes, at: int) -> tuple[str, int, int]:
    """Name, size and bytes of the headers of the file that begins at `at`."""
    plain = plain_file(raw, at)
    if plain is not None:
        return (*plain, BLOCK)
    file = io.BytesIO(raw)
    file.seek(at)
    entry = read_entry(file.read, f"byte {at} of the sample")
    if entry is None or not entry.is_file:
        raise ShardError("its byte range holds a folder or an end mark; only plain files are read")
    return entry.name, entry.size, entry.header_bytes


def scan_tar(path: Path, shard: int = 0) -> NDArray[Any]:
    """Walk a tar and build its index rows; memory stays bounded by one sample.

    Args:
        path: A WebDataset tar: ustar, GNU or pax; the members of a sample adjacent.
        shard: Number that the rows carry.

    Returns:
        Structured array (N,) of dtype `ROW`.

    Raises:
        ShardError: The tar is truncated or damaged, holds anything but plain files and folders (links, devices, sparse
            members), absolute names or `..`, or a sample that is larger than `MAX_SAMPLE_BYTES` or comes twice.
    """
    try:
        with path.open("rb") as file:
            rows = [
                Row(shard, members_digest(found.key, found.members), found.offset, found.length)
                for found in iter_samples(file)
            ]
    except ShardError as error:
        raise ShardError(f"{path}: {error}") from error
    except OSError as error:
        raise ShardError(f"{path}: cannot read it: {error.strerror}") from error
    return np.array(rows, dtype=ROW)


class TarSample(NamedTuple):
    """One sample of a tar: its key, its members (extension to content) and the byte range that holds them."""

    key: str
    members: dict[str, bytes]
    offset: int
    length: int


def iter_samples(file: Readable, limit_bytes: int = MAX_SAMPLE_BYTES) -> Iterator[TarSample]:
    """Read a tar from its beginning, sample by sample; the rules are those of `scan_tar`.

    Args:
        file: Open for reading; it is never sought, so that a stream serves as well.
        limit_bytes: Most bytes of a sample, headers included.

    Raises:
        ShardError: As `scan_tar`, without the file's name.
    """
    seen: set[str] = set()
    key = ""
    members: dict[str, bytes] = {}
    start = end = at = 0
    while True:
        entry = read_entry(file.read, f"byte {at}")
        found, extension = split_name(entry.name) if entry is not None and entry.is_file else ("", "")
        if found != key:  # a folder between two samples ends the first one, too
            if members:
                yield TarSample(key, members, start, end - start)
            if found in seen:
                raise ShardError(f"sample {found} comes twice, or its members are not adjacent; {HOW_TO_PACK}")
            if found:
                seen.add(found)
            key, members, start = found, {}, at
        if entry is None:
            return
        at += entry.header_bytes
        if not entry.is_file:
            continue
        end = at + padded(entry.size)
        if end - start > limit_bytes or len(members) == _MAX_MEMBERS:
            raise ShardError(f"sample {key} has more than {limit_bytes} bytes or {_MAX_MEMBERS} members")
        if extension in members:
            raise ShardError(f"member {entry.name} comes twice")
        content = file.read(end - at)
        if len(content) != end - at:
            raise ShardError(f"it ends inside member {entry.name}; the tar is truncated")
        members[extension] = content[: entry.size]
        at = end


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a member name, as webdataset splits it: the key ends at the first dot of the file's name.

    A key that is not of our plain characters (capitals, a folder) is named by `sample_key`, the same wherever it is
    read. Names are never used as paths.

    Raises:
        ShardError: It is not of the form KEY.EXTENSION.
    """
    while name.startswith("./"):
        name = name[2:]
    folder, slash, file_name = name.rpartition("/")
    key, dot, extension = file_name.partition(".")
    plain = key and dot and extension and ".." not in name and "//" not in name and name.isprintable()
    if not plain or name.startswith("/") or "\\" in name:
        hint = f" (macOS adds such files; {HOW_TO_PACK})" if file_name.startswith("._") else ""
        raise ShardError(f"member name {name[:200]!r} is not of the form KEY.EXTENSION{hint}")
    whole = folder + slash + key
    extension = extension.lower()  # as webdataset does
    return (whole if is_sample_key(whole) else sample_key(whole)), _SAME_EXTENSION.get(extension, extension)
