r"""Where each sample lies: the index file, and the small tar parser that reads and rebuilds it.

The members of a sample are adjacent in its shard, so one range read gives all of it. The index is a header and fixed
little-endian rows, memory-mapped: opening it costs nothing whatever its size. It can be rebuilt from the tars.

    header (32 bytes)   b"DRINDEX\0", version u32, bytes of a row u32, rows u64, zeros
    row    (24 bytes)   shard u32, digest u32, offset u64, length u64

`shard` counts the shards of the split in the manifest's order; `offset` and `length` are the byte range of the tar
that holds the sample's headers and contents; `digest` is a crc32 over names and contents (`members_digest`), which
also serves where a host has unpacked the tars into folders.

    index = ShardIndex.open(Path("train.index")); row = index.row(17)
    key, members = split_members(os.pread(fd, row.length, row.offset))
"""

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.errors import ShardError

__all__ = [
    "MAX_SAMPLE_BYTES",
    "ROW",
    "Row",
    "ShardIndex",
    "encode_index",
    "member_span",
    "members_digest",
    "scan_tar",
    "split_members",
]

ROW = np.dtype([("shard", "<u4"), ("digest", "<u4"), ("offset", "<u8"), ("length", "<u8")])
MAX_SAMPLE_BYTES = 1 << 28
"""Most bytes of a sample in its tar, headers included."""
_MAX_MEMBERS = 64
_BLOCK = 512
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
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise ShardError(f"{path}: this is not an index of shards")
        _, version, row_bytes, count = _HEADER.unpack(header)
        if version != _VERSION or row_bytes != ROW.itemsize:
            raise ShardError(f"{path}: index version {version}; this program reads version {_VERSION}")
        if size != _HEADER.size + count * ROW.itemsize:
            raise ShardError(f"{path}: {size} bytes, but {count} rows need {_HEADER.size + count * ROW.itemsize}")
        if count == 0:
            return cls(np.zeros(0, ROW))
        return cls(np.memmap(path, dtype=ROW, mode="r", offset=_HEADER.size, shape=(count,)))


def encode_index(rows: NDArray[Any]) -> bytes:
    """Bytes of the index file of these rows, a structured array (N,) of dtype `ROW`."""
    return _HEADER.pack(_MAGIC, _VERSION, ROW.itemsize, len(rows)) + rows.astype(ROW, copy=False).tobytes()


def member_span(content_bytes: int) -> int:
    """Bytes that a member of this many bytes takes in a tar: a header block and whole content blocks."""
    return _BLOCK + (content_bytes + _BLOCK - 1) // _BLOCK * _BLOCK


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
        name, size = _parse_header(raw[at : at + _BLOCK], f"byte {at} of the sample")
        found, extension = _split_name(name)
        if members and found != key:
            raise ShardError(f"its byte range holds members of two samples, {key} and {found}")
        if extension in members or len(members) == _MAX_MEMBERS:
            raise ShardError(f"member {name} comes twice" if extension in members else "it has too many members")
        if at + member_span(size) > len(raw):
            raise ShardError(f"member {name} says it has {size} bytes, which reaches beyond the sample")
        key = found
        members[extension] = raw[at + _BLOCK : at + _BLOCK + size]
        at += member_span(size)
    if not members:
        raise ShardError("its byte range is empty")
    return key, members


def scan_tar(path: Path, shard: int = 0) -> NDArray[Any]:
    """Walk a tar and build its index rows; memory stays bounded by one sample.

    Args:
        path: A plain WebDataset tar (ustar; the members of a sample adjacent).
        shard: Number that the rows carry.

    Returns:
        Structured array (N,) of dtype `ROW`.

    Raises:
        ShardError: The tar is truncated or damaged, holds anything but plain files (links, devices, sparse members,
            folders), absolute or nested names, or a sample that is larger than `MAX_SAMPLE_BYTES` or comes twice.
    """
    try:
        with path.open("rb") as file:
            rows = list(_sample_rows(file, shard))
    except ShardError as error:
        raise ShardError(f"{path}: {error}") from error
    except OSError as error:
        raise ShardError(f"{path}: cannot read it: {error.strerror}") from error
    return np.array(rows, dtype=ROW)


def _sample_rows(file: BinaryIO, shard: int) -> Iterator[Row]:
    seen: set[str] = set()
    key = ""
    members: dict[str, bytes] = {}
    start = at = 0
    while True:
        block = file.read(_BLOCK)
        ends = block == bytes(_BLOCK)  # tars end with two blocks of zeros
        if ends and file.read(_BLOCK) != bytes(_BLOCK):
            raise ShardError(f"the end mark at byte {at} is damaged; the tar is truncated")
        name, size = ("", 0) if ends else _parse_header(block, f"byte {at}")
        found, extension = ("", "") if ends else _split_name(name)
        if found != key:
            if members:
                yield Row(shard, members_digest(key, members), start, at - start)
            if found in seen:
                raise ShardError(f"sample {found} comes twice, or its members are not adjacent")
            seen.add(found)
            key, members, start = found, {}, at
        if ends:
            return
        span = member_span(size)
        if at + span - start > MAX_SAMPLE_BYTES or len(members) == _MAX_MEMBERS:
            raise ShardError(f"sample {key} has more than {MAX_SAMPLE_BYTES} bytes or {_MAX_MEMBERS} members")
        if extension in members:
            raise ShardError(f"member {name} comes twice")
        content = file.read(span - _BLOCK)
        if len(content) != span - _BLOCK:
            raise ShardError(f"it ends inside member {name}; the tar is truncated")
        members[extension] = content[:size]
        at += span


def _parse_header(block: bytes, where: str) -> tuple[str, int]:
    """Name and size from a ustar header of a plain file; anything else is refused."""
    if len(block) != _BLOCK:
        raise ShardError(f"it ends at {where}; the tar is truncated")
    try:
        stored_sum = _octal(block[148:156])
        size = _octal(block[124:136])
        name = block[:100].rstrip(b"\0").decode("ascii")
    except ValueError as error:
        raise ShardError(f"the tar header at {where} is damaged") from error
    if stored_sum != sum(block) - sum(block[148:156]) + 8 * 0x20:
        raise ShardError(f"the tar header at {where} is damaged (its checksum does not match)")
    if block[156:157] not in (b"0", b"\0"):
        raise ShardError(f"member {name!r} is of tar type {block[156:157]!r}; only plain files are read")
    if block[257:262] != b"ustar" or (block[263:265] == b"00" and block[345:500].strip(b"\0")):
        raise ShardError(f"member {name!r} is not a plain ustar member with a short name")
    return name, size


def _octal(text: bytes) -> int:
    digits = text.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise ValueError("not an octal number")
    return int(digits, 8)


def _split_name(name: str) -> tuple[str, str]:
    """Key and extension of a member name; the key ends at the first dot, as in webdataset."""
    key, dot, extension = name.partition(".")
    plain = key and dot and extension and ".." not in name and name.isprintable()
    if not plain or "/" in name or "\\" in name:
        raise ShardError(f"member name {name!r} is not of the form KEY.EXTENSION")
    return key, extension
