"""The files of a raw collection, wherever it lies.

files = open_files("pictures")
for name in files.listing().names: data = files.read(name)
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from shards.errors import SourceError
from shards.images import MAX_FILE_BYTES, read_bytes_bounded
from shards.names import printable

__all__ = ["Files", "Listing", "LocalFolder", "open_files"]


@dataclass(frozen=True)
class Listing:
    """What a collection holds.

    Args:
        names: Files, relative to the collection with `/`, sorted.
        passed_over: Reason -> names of what was not entered or taken.
    """

    names: tuple[str, ...]
    passed_over: dict[str, list[str]]


class Files(Protocol):
    """The files of a collection; picklable, and cheap to make: nothing is opened before it is asked for."""

    def listing(self) -> Listing:
        """All files.

        Raises:
            SourceError: The collection is missing or cannot be listed.
        """
        ...

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The content of one file of the listing.

        Raises:
            DecodeError: It is missing, empty, larger than `max_bytes` or unreadable.
        """
        ...


def open_files(path: str) -> Files:
    """The files of the collection at `path`."""
    return LocalFolder(path)


class LocalFolder:
    """A folder of this machine, searched recursively; what is hidden or links out of it is passed over."""

    def __init__(self, path: str) -> None:
        self._root = Path(path).expanduser()

    def listing(self) -> Listing:
        """All plain files below the folder; see `Files.listing`."""
        return self._listing

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The content of one file; see `Files.read`."""
        return read_bytes_bounded(self._root / name, max_bytes)

    @cached_property
    def _listing(self) -> Listing:
        if not self._root.is_dir():
            what = "is no folder" if self._root.exists() else "does not exist"
            raise SourceError(f"source.path: {printable(str(self._root))} {what}")
        files, passed_over = _walk(self._root)
        return Listing(tuple(sorted(files)), passed_over)


def _walk(root: Path) -> tuple[set[str], dict[str, list[str]]]:
    """All plain files below `root`, by relative name, and what was not entered or taken."""
    real_root = root.resolve()
    files: set[str] = set()
    outside: list[str] = []
    hidden: list[str] = []
    unreadable: list[str] = []

    def note_unreadable(error: OSError) -> None:
        unreadable.append(os.path.relpath(error.filename, root))

    for folder, subfolders, names in os.walk(root, onerror=note_unreadable):
        for name in subfolders + names:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if name.startswith("."):  # among them macOS' ._NAME.jpg, which are no pictures
                hidden.append(relative)
            elif path.is_symlink() and not path.resolve().is_relative_to(real_root):
                outside.append(relative)
            elif path.is_file():
                files.add(relative)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
    return files, {"hidden": hidden, "link_leaves_folder": outside, "unreadable_folder": unreadable}
