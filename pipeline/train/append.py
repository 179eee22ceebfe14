"""A file that only grows, record by record; a record is in it whole or not at all.

    file = AppendFile(path); file.append(record)
    for line in read_lines(path): ...

What comes back may be anything all the same: a power cut leaves a torn end or one of zeros, and people edit files. So
lines are read one at a time, in bounded memory, and the damaged ones are told from the whole.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["AppendFile", "Line", "read_lines"]

_LINE_LIMIT_BYTES = 1 << 22
# A FIFO that somebody put there would otherwise be waited for, for ever.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


class AppendFile:
    """Appends records without a buffer, and takes back the part of one that a full disk cut short."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending; it and its folder are made when needed.

        Raises:
            OSError: It cannot be opened, or is no plain file.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor: int | None = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append(self, record: bytes) -> None:
        """Add one record.

        Raises:
            OSError: It could not be written; the file is as it was before.
        """
        if self._descriptor is None:
            raise OSError("the file is closed")
        size = os.fstat(self._descriptor).st_size
        left = memoryview(record)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Close the file; closing it again does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Line(NamedTuple):
    """A line of a file."""

    end: int
    """Bytes of the file up to the end of this line."""
    text: bytes
    """With its line feed; empty where it is longer than any record."""

    @property
    def is_whole(self) -> bool:
        """Whether it has an end; only the last line of a file may have none."""
        return self.text.endswith(b"\n")


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file, torn and overlong ones marked; none where there is no file. Memory is bounded.

    Raises:
        OSError: It cannot be read, or is no plain file.
    """
    try:
        descriptor = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "rb") as file:
        end = 0
        while part := file.readline(_LINE_LIMIT_BYTES):
            end += len(part)
            text = part
            while not part.endswith(b"\n") and (part := file.readline(_LINE_LIMIT_BYTES)):
                end += len(part)
                text = b""
            yield Line(end, text)


def _open(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | _NO_WAIT, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is no plain file")
    return descriptor
