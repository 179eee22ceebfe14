"""Reads a tar as a stream, entry by entry: strict, bounded, and without a word left unsaid at a damaged header.

Plain files are read as the common writers make them: ustar, GNU (`tar` of Linux) and pax (Python's tarfile, the writer
of webdataset, `tar` of macOS), with long names in any of their ways. Folders are passed over. Links, devices, sparse
files and sizes that contradict each other are refused.

    entry = read_entry(file.read, "byte 0")       # None at the end mark
    content = file.read(padded(entry.size))[: entry.size]
"""

import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

from shards.errors import ShardError

__all__ = ["BLOCK", "HOW_TO_PACK", "Entry", "Readable", "padded", "plain_file", "read_entry"]

BLOCK = 512
"""Headers and contents fill whole blocks of so many bytes."""
HOW_TO_PACK = "pack it again with `tar --format=ustar --sort=name -cf NEW.tar -C FOLDER .`"
"""Advice for whoever made a tar that is not read."""
_MAX_EXTENSION_BYTES = 1 << 16  # an extended header of times, owners and a long path takes some hundred
_MAX_HEADERS = 4
_FILE, _FOLDER, _PAX, _PAX_GLOBAL, _LONG_NAME = b"0", b"5", b"x", b"g", b"L"
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_ZEROS = bytes(BLOCK)
_PLAIN = struct.Struct("100s24x12s12x8ss100x8s80x155s12x")  # name, size, checksum, type, magic, prefix
_MAGICS = (b"ustar\x0000", b"ustar  \0")
_NO_PREFIX = bytes(155)


class Readable(Protocol):
    """What a tar is read from: a file, or anything that gives its bytes in order."""

    def read(self, length: int, /) -> bytes:
        """The next bytes, fewer at the end."""


class Entry(NamedTuple):
    """What the headers of an entry say; its content follows.

    Args:
        name: As written in the tar, UTF-8.
        size: Bytes of the content; 0 for what is not a file.
        header_bytes: Bytes of all its headers, extended ones included.
        is_file: False for a folder and for a header that is about the whole tar.
    """

    name: str
    size: int
    header_bytes: int
    is_file: bool


def padded(size: int) -> int:
    """Bytes that a content of this size takes: whole blocks."""
    return (size + BLOCK - 1) // BLOCK * BLOCK


def plain_file(raw: bytes, at: int) -> tuple[str, int] | None:
    """Name and size of a file whose only header, at `at`, is one of the common kind and whole: the usual case, quickly.

    For all else it is None, and `read_entry` says what that is.
    """
    if len(raw) - at < BLOCK:
        return None
    name, size, stored_sum, kind, magic, prefix = _PLAIN.unpack_from(raw, at)
    try:
        size_bytes = _octal(size)
        if kind != _FILE or magic not in _MAGICS or prefix != _NO_PREFIX or _octal(stored_sum) != _sum(raw, at):
            return None
        return name.partition(b"\0")[0].decode("ascii"), size_bytes
    except ValueError:
        return None


def read_entry(read: Callable[[int], bytes], where: str) -> Entry | None:
    """Read the headers of the next entry; None at the end mark.

    Args:
        read: Gives the next so many bytes, fewer at the end.
        where: For messages: where the entry begins.

    Raises:
        ShardError: The tar is cut off, damaged or compressed, or the entry is neither a plain file nor a folder.
    """
    header_bytes = 0
    long_name = ""
    records: dict[str, str] = {}
    for _ in range(_MAX_HEADERS):
        block = read(BLOCK)
        if block == _ZEROS:
            if header_bytes or read(BLOCK) != _ZEROS:  # tars end with two blocks of zeros
                raise ShardError(f"the end mark at {where} is damaged; the tar is truncated")
            return None
        name, size, kind = _parse_header(block, where)
        if kind in (_FILE, _FOLDER):
            if "size" in records and records["size"] != str(size):
                raise ShardError(f"the headers at {where} give two sizes, {size} and {records['size'][:20]!r}")
            is_file = kind == _FILE
            name = records.get("path") or long_name or name
            return Entry(name, size if is_file else 0, header_bytes + BLOCK, is_file)
        content = _read_extension(read, size, where)
        alone = header_bytes == 0
        header_bytes += BLOCK + padded(size)
        if kind == _LONG_NAME:
            long_name = _text(content.rstrip(b"\0"), where)
            continue
        found = _pax_records(content, where)
        if kind == _PAX_GLOBAL and alone and not {"path", "size"} & found.keys():
            return Entry("", 0, header_bytes, is_file=False)
        if kind == _PAX_GLOBAL:
            raise ShardError(f"the header at {where}, which is for the whole tar, sets names or sizes; it is not read")
        records |= found
    raise ShardError(f"the member at {where} has too many extended headers")


def _parse_header(block: bytes, where: str) -> tuple[str, int, bytes]:
    """Name, size and type from a header block; a type that is not read is refused."""
    if len(block) != BLOCK:
        raise ShardError(f"it ends at {where}; the tar is truncated")
    if block.startswith(_COMPRESSED):
        raise ShardError(f"it is compressed at {where}; unpack it first (`gunzip`, `bunzip2`, `unxz` or `unzstd`)")
    try:
        stored_sum = _octal(block[148:156])
        size = _octal(block[124:136])
    except ValueError as error:
        raise ShardError(f"the tar header at {where} is damaged") from error
    if stored_sum != _sum(block, 0):
        raise ShardError(f"the tar header at {where} is damaged (its checksum does not match)")
    name = _text(block[:100].partition(b"\0")[0], where)
    if block[257:265] == b"ustar\x0000":
        prefix = _text(block[345:500].partition(b"\0")[0], where)
        name = f"{prefix}/{name}" if prefix else name
    elif block[257:265] != b"ustar  \0":
        raise ShardError(f"member {name!r} has a header that is neither ustar, GNU nor pax; {HOW_TO_PACK}")
    kind = _FILE if block[156:157] == b"\0" else block[156:157]
    if kind not in (_FILE, _FOLDER, _PAX, _PAX_GLOBAL, _LONG_NAME):
        raise ShardError(f"member {name!r} is of tar type {kind!r}; only plain files are read")
    return name, size, kind


def _read_extension(read: Callable[[int], bytes], size: int, where: str) -> bytes:
    if size > _MAX_EXTENSION_BYTES:
        raise ShardError(f"the extended header at {where} has {size} bytes; the most is {_MAX_EXTENSION_BYTES}")
    content = read(padded(size))
    if len(content) != padded(size):
        raise ShardError(f"it ends inside the extended header at {where}; the tar is truncated")
    return content[:size]


def _pax_records(content: bytes, where: str) -> dict[str, str]:
    """The lines `LENGTH KEY=VALUE` of an extended header; a length counts its whole line."""
    records: dict[str, str] = {}
    at = 0
    while at < len(content):
        digits = content[at : at + 8].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        line = content[at : at + length]
        key, equals, value = line[len(digits) + 1 : -1].partition(b"=")
        if len(line) != length or not line.endswith(b"\n") or not key or not equals:
            raise ShardError(f"the extended header at {where} is damaged")
        if key.startswith(b"GNU.sparse") or key == b"hdrcharset":
            raise ShardError(f"the member at {where} is a sparse file or has a name that is not UTF-8; {HOW_TO_PACK}")
        if key in (b"path", b"size"):  # times, owners and attributes are nothing to us
            records[key.decode("ascii")] = _text(value, where)
        at += length
    return records


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ShardError(f"the name of the member at {where} is not UTF-8") from error


def _sum(raw: bytes, at: int) -> int:
    """Checksum of the header at `at`: of its bytes, those of the checksum itself taken for spaces."""
    # Adler's first half is 1 and the sum, modulo 65521, which 256 bytes do not reach; a tenth of the time of `sum`.
    halves = zlib.adler32(raw[at : at + 256]) & 0xFFFF, zlib.adler32(raw[at + 256 : at + BLOCK]) & 0xFFFF
    return sum(halves) - 2 - sum(raw[at + 148 : at + 156]) + 8 * 0x20


def _octal(text: bytes) -> int:
    digits = text.strip(b" \0")
    if not digits.isdigit():  # `int` would take signs and underscores too
        raise ValueError("not an octal number")
    return int(digits, 8)
