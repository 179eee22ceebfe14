"""The members of a tar, from its headers alone; nothing of their content is read.

The standard library's reader stops without a word at a damaged header and takes as much memory as an extended header
claims. Here both end in an error.

Usage:

    for member in tar_members(file): file.seek(member.offset); data = file.read(member.size)
"""

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from shards.errors import SourceError

__all__ = ["TarMember", "tar_members"]

_BLOCK = 512
_MAX_EXTENDED_BYTES = 1 << 16
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)


class TarMember(NamedTuple):
    """A file of a tar, or a link or device, which is not `plain`."""

    name: str
    offset: int
    size: int
    plain: bool


def tar_members(file: BinaryIO) -> Iterator[TarMember]:
    """Walk the headers of an uncompressed tar (ustar, GNU or pax); folders are left out.

    Raises:
        SourceError: It is compressed, truncated or damaged.
    """
    end = file.seek(0, 2)
    file.seek(0)
    if file.read(6).startswith(_COMPRESSED):
        raise SourceError("this tar is compressed; unpack it first (`gunzip`, `bunzip2`, `unxz` or `unzstd`)")
    at = 0
    long_name: str | None = None
    extended: dict[str, str] = {}
    while at < end:
        block = _read(file, at, _BLOCK)
        if not block.strip(b"\0"):
            if not _only_zeros_follow(file, at):
                raise SourceError(
                    f"there is an end mark at byte {at} of the tar, and more after it: damage, or two tars in one file"
                )
            return
        header = _parse(block, at)
        at += _BLOCK
        size = header.size
        if size < 0:
            raise SourceError(f"the member at byte {at} of the tar has no valid size")
        if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE, *_EXTENDED):
            if size > _MAX_EXTENDED_BYTES:
                raise SourceError(f"the extended header at byte {at - _BLOCK} of the tar says it has {size} bytes")
            content = _read(file, at, size)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                long_name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif header.type in _EXTENDED:
                extended = _pax_records(content)
            at += _whole_blocks(size)
            continue
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise SourceError(f"the member at byte {at} of the tar is sparse; pack it without -S")
        if "size" in extended:
            size = _number(extended["size"], at)
        has_content = header.type not in (
            tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE
        )  # fmt: skip
        length = size if has_content else 0
        if at + length > end:
            raise SourceError(f"the tar ends inside a member at byte {at}; it is truncated")
        if header.type != tarfile.DIRTYPE:
            name = extended.get("path") or long_name or header.name
            sparse = any(key.startswith("GNU.sparse") for key in extended)
            yield TarMember(name, at, length, header.type in _PLAIN and not sparse)
        at += _whole_blocks(length)
        long_name, extended = None, {}
    # No end mark: some programs leave it out, and a cut that falls between two members looks the same.


def _only_zeros_follow(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return not any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(1 << 20), b""))


def _parse(block: bytes, at: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise SourceError(f"the tar header at byte {at} is damaged ({error}); what follows cannot be read") from error


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    data = file.read(size)
    if len(data) != size:
        raise SourceError(f"the tar ends at byte {at + len(data)}, inside a header; it is truncated")
    return data


def _pax_records(content: bytes) -> dict[str, str]:
    """`LENGTH KEY=VALUE` lines; the length counts the whole line."""
    records: dict[str, str] = {}
    at = 0
    while at < len(content.rstrip(b"\0")):
        digits, space, _ = content[at : at + 20].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = content[at + len(digits) + 1 : at + length]
        if length <= len(digits) + 1 or at + length > len(content) or not record.endswith(b"\n"):
            raise SourceError("an extended header of the tar is damaged")
        key, _, value = record[:-1].partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += length
    return records


def _number(text: str, at: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise SourceError(f"the member at byte {at} of the tar has no valid size")
    return int(text)


def _whole_blocks(size: int) -> int:
    return (size + _BLOCK - 1) // _BLOCK * _BLOCK
