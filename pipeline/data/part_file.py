"""A file that is being fetched into a cache, `.NAME.part`: who has it in hand, and the room it takes.

The process that fetches it holds a lock on it, which goes when the part is renamed, or with the process, however that
ends; so there are no lock files, and a part that nobody holds is known for what it is.

    descriptor = claim(folder / name, size, wait=True)      # None: the file has come
    reserve(descriptor, size)
"""

import contextlib
import os
import time
from pathlib import Path

from shards.posix import O_CLOEXEC, O_NOFOLLOW, lock

__all__ = ["bytes_to_come", "claim", "has_size", "names_in_hand", "part_path", "reserve"]

_PART = ".part"
_LOOK_SECONDS = 0.02


def claim(path: Path, size: int, *, wait: bool) -> int | None:
    """Create and lock the part of a file; None where the file has come or, without `wait`, is in another's hands."""
    part = part_path(path)
    while not has_size(path, size):
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o644)
        busy = False
        try:
            # Never waited for: the renamed part is the copy, which its readers keep locked for as long as they like.
            lock(descriptor)
            if _is_named(descriptor, part):  # else its holder has renamed or removed it: look again
                if not has_size(path, size):
                    return descriptor
                part.unlink()
        except BlockingIOError:
            busy = True
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if busy and not wait:
            return None
        if busy:
            time.sleep(_LOOK_SECONDS)
    return None


def reserve(descriptor: int, size: int) -> None:
    """Take the room at once: others see it, and a full disk is told before the download."""
    os.ftruncate(descriptor, 0)
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    os.ftruncate(descriptor, size)


def names_in_hand(folder: Path) -> set[str]:
    """Files that the processes of this machine are fetching now; parts that nobody holds are removed."""
    names: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            parts = [Path(entry.path) for entry in entries if _is_part(entry.name)]
    except FileNotFoundError:
        return names
    for part in parts:
        try:
            descriptor = os.open(part, os.O_RDWR | O_NOFOLLOW | O_CLOEXEC)
        except OSError:
            continue  # renamed meanwhile
        try:
            lock(descriptor)
            if _is_named(descriptor, part):
                part.unlink()
        except OSError:
            names.add(part.name[1:].removesuffix(_PART))
        finally:
            os.close(descriptor)
    return names


def bytes_to_come(path: Path, size: int) -> int:
    """Bytes for which a file that is being fetched has not yet taken room."""
    for found in (path, part_path(path)):
        with contextlib.suppress(FileNotFoundError):
            return max(0, size - found.stat().st_size)
    return size


def part_path(path: Path) -> Path:
    """Where a file lies while it is being fetched."""
    return path.with_name(f".{path.name}{_PART}")


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(_PART)


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one of this name."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    own = os.fstat(descriptor)
    return (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)


def has_size(path: Path, size: int) -> bool:
    """Whether a file is there and has so many bytes."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False
