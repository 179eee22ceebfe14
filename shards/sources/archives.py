"""A zip or a plain tar as a collection: each member is checked by name, kind and size before anything is unpacked.

Members are read where they lie, one at a time, into memory; nothing is ever written to a disk. A member with an
unsafe name (absolute, `..`, a drive, backslashes, control characters), a link, a device, an encrypted member, one that
unpacks to suspiciously much: each is passed over and named. The archive may lie at any URL, as long as its server
gives out parts of a file; a zip suits that better, as its table of contents is one piece.

Usage:

    files = ZipFiles("pictures.zip"); data = files.read(files.listing().names[0])
"""

import stat
import struct
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

from shards.errors import DecodeError, ShardError, SourceError
from shards.images import MAX_FILE_BYTES
from shards.names import printable
from shards.sources.census import Census
from shards.sources.files import Listing
from shards.sources.tar_members import TarMember, tar_members
from shards.storage import open_read, shown

__all__ = ["MAX_RATIO", "TarFiles", "ZipFiles"]

MAX_RATIO = 250
"""A zip member that unpacks to more than this many times its packed size is passed over; pictures barely shrink."""
_RATIO_MATTERS_BYTES = 1 << 20  # an empty mask of a few kB may well shrink a thousandfold
_ENCRYPTED = 0x1 | 0x20 | 0x40 | 0x2000  # by password, as a patch, strongly, with a masked header
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, struct.error)


class _Archive(ABC):
    """What zip and tar share: opened and listed once a process, reads one after the other."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.RLock()  # a worker of a cluster may run several threads

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._path,)  # neither the open file nor the list travels to another process

    def __del__(self) -> None:
        if "_file" in vars(self):  # a source lives as long as its process, so nobody else would close it
            self._file.close()

    def listing(self) -> Listing:
        """All members that may be read; see `Files.listing`."""
        return self._census.listing()

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The content of one member; see `Files.read`."""
        place = self._census.places.get(name)
        if place is None:
            raise DecodeError(f"{printable(name)}: no such member in the archive")
        if not 0 < self._size(place) <= max_bytes:
            what = f"{self._size(place)} bytes, more than {max_bytes}" if self._size(place) else "empty file"
            raise DecodeError(f"{printable(name)}: {what}")
        with self._lock:
            try:
                return self._content(place)
            except _DAMAGE as error:  # the member, not the disk or the server
                raise DecodeError(f"{printable(name)}: damaged in the archive: {error}") from None
            except Exception as error:  # drivers raise far more than OSError
                raise SourceError(f"{self._shown}: cannot read {printable(name)} from it: {error}") from error

    @cached_property
    def _census(self) -> Census[Any]:
        with self._lock:
            try:
                return self._scan()
            except ShardError as error:  # from opening it; names it
                raise SourceError(f"source.path: {error}") from error
            except SourceError as error:
                raise SourceError(f"source.path: {self._shown}: {error}") from error
            except Exception as error:  # broken archives raise anything from struct.error to UnicodeDecodeError
                raise SourceError(f"source.path: {self._shown}: cannot list this archive: {error}") from error

    @cached_property
    def _file(self) -> BinaryIO:
        file: BinaryIO = open_read(self._path)
        return file

    @property
    def _shown(self) -> str:
        return printable(shown(self._path))

    @abstractmethod
    def _scan(self) -> Census[Any]: ...

    @abstractmethod
    def _size(self, place: Any) -> int: ...

    @abstractmethod
    def _content(self, place: Any) -> bytes: ...


class ZipFiles(_Archive):
    """The members of a zip; those stored or deflated, which is what every zip program makes by default."""

    def _scan(self) -> Census[zipfile.ZipInfo]:
        census: Census[zipfile.ZipInfo] = Census()
        for info in self._zip.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            reason = None
            if kind not in (0, stat.S_IFREG):
                reason = "no_plain_file"
            elif info.flag_bits & _ENCRYPTED:
                reason = "encrypted"
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                reason = "unknown_compression"
            elif info.file_size > max(MAX_RATIO * info.compress_size, _RATIO_MATTERS_BYTES):
                reason = "compression_ratio"
            census.add(info.filename, info, reason)
        return census

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self._file)

    def _size(self, place: zipfile.ZipInfo) -> int:
        return place.file_size

    def _content(self, place: zipfile.ZipInfo) -> bytes:
        with self._zip.open(place) as member:  # it gives no more than file_size bytes, and checks their crc
            return member.read(place.file_size)


class TarFiles(_Archive):
    """The members of a plain tar, whose headers are walked once a process."""

    def _scan(self) -> Census["_Span"]:
        census: Census[_Span] = Census()
        member: TarMember
        for member in tar_members(self._file):
            census.add(member.name, _Span(member.offset, member.size), None if member.plain else "no_plain_file")
        return census

    def _size(self, place: "_Span") -> int:
        return place.size

    def _content(self, place: "_Span") -> bytes:
        self._file.seek(place.offset)
        data = self._file.read(place.size)
        if len(data) != place.size:
            raise EOFError("the archive is shorter than it was")
        return data


class _Span(NamedTuple):
    offset: int
    size: int
