"""A file that only grows, record by record; a record is in it whole or not at all.

file = AppendFile(path); file.append(record)
"""

import os
from pathlib import Path

__all__ = ["AppendFile"]


class AppendFile:
    """Appends records without a buffer, and takes back the part of one that a full disk cut short."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending; it and its folder are made when needed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

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
