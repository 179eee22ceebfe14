"""The files of a raw collection, wherever it lies: a folder, a zip or tar, a folder at any fsspec URL.

Usage:

    files = open_files("pictures")            # or "pictures.zip", "s3://bucket/pictures", "s3://bucket/pictures.tar"
    for name in files.listing().names: data = files.read(name)
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from shards.errors import SourceError
from shards.images import MAX_FILE_BYTES, read_bytes_bounded
from shards.names import printable
from shards.similar import similar_path
from shards.storage import local_path, shown

__all__ = ["Files", "Listing", "LocalFolder", "collection_name", "open_files"]

_UNPACK_FIRST = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".gz", ".7z", ".rar")


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
            DecodeError: It is missing, empty, larger than `max_bytes` or damaged.
            SourceError: The place where it lies stopped answering; nothing is known about the file.
        """
        ...


def open_files(path: str) -> Files:
    """The files of the collection at `path`: by its name an archive, else a folder.

    Raises:
        SourceError: An archive of a kind in which no member can be read alone.
    """
    from shards.sources.archives import TarFiles, ZipFiles  # here, as they in turn are made of what stands above
    from shards.sources.remote import RemoteFolder

    local = local_path(path)
    if local is not None and local.is_dir():
        return LocalFolder(path)
    ending = shown(path).lower()
    if ending.endswith(".zip"):
        return ZipFiles(path)
    if ending.endswith(".tar"):
        return TarFiles(path)
    if ending.endswith(_UNPACK_FIRST):
        raise SourceError(
            f"source.path: {printable(shown(path))}: a member of such an archive cannot be read without unpacking all "
            "before it; unpack it (of a .tar.gz, `gunzip` leaves a plain .tar, which will do), or pack it as .zip"
        )
    return LocalFolder(path) if local is not None else RemoteFolder(path)


def collection_name(path: str) -> str:
    """The last part of a path or URL, fit to be written down: without user, password and query."""
    local = local_path(path)
    name = local.name if local is not None else PurePosixPath(shown(path).partition("://")[2]).name
    return printable(name)


class LocalFolder:
    """A folder of this machine, searched recursively; what is hidden or links out of it is passed over."""

    def __init__(self, path: str) -> None:
        self._root = local_path(path) or Path(path)

    def listing(self) -> Listing:
        """All plain files below the folder; see `Files.listing`."""
        return self._listing

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The content of one file; see `Files.read`."""
        return read_bytes_bounded(self._root / name, max_bytes, name=printable(name))

    @cached_property
    def _listing(self) -> Listing:
        if not self._root.is_dir():
            what = (
                "is no folder; an archive ends in .zip or .tar"
                if self._root.exists()
                else f"does not exist{similar_path(self._root)}"
            )
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
    found = {"hidden": hidden, "link_leaves_folder": outside, "unreadable_folder": unreadable}
    return files, {reason: sorted(names) for reason, names in found.items()}
