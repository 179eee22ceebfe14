"""Which cached shards make room for another: those that are needed last.

The order of the samples tells when each shard is needed next, so the best choice (Belady's) is known and not guessed. A
copy that any process has open is locked by it and stays.

    make_room(folder, need_bytes=256 << 20, budget_bytes=20 << 30, coming=["train-000007.tar", ...])
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from shards.posix import O_NOFOLLOW, O_READ, lock

__all__ = ["eviction_order", "hold", "make_room", "used_bytes"]


def eviction_order(ages_ns: Mapping[str, int], coming: Sequence[str]) -> list[str]:
    """Cached files, the first to go first: the ones that are not coming, oldest use first, then the last to come.

    Args:
        ages_ns: Cached files and when each was last opened.
        coming: Files in the order of their next use.
    """
    rank = {name: -place for place, name in reversed(list(enumerate(coming)))}
    not_coming = -len(coming)
    return sorted(ages_ns, key=lambda name: (rank.get(name, not_coming), ages_ns[name], name))


def make_room(folder: Path, need_bytes: int, budget_bytes: int, coming: Sequence[str], *, keep: int = 0) -> bool:
    """Remove copies until another file fits the budget; whether it does.

    Args:
        folder: Of the copies; indexes and hidden files are left alone.
        need_bytes: Of the file that is to come.
        budget_bytes: Of all files in the folder.
        coming: Files in the order of their next use.
        keep: So many of the first of these stay.
    """
    used = used_bytes(folder)
    if used + need_bytes <= budget_bytes:
        return True
    kept = set(coming[:keep])
    found: dict[str, os.stat_result] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not entry.name.endswith(".index") and entry.name not in kept:
                with contextlib.suppress(FileNotFoundError):
                    found[entry.name] = entry.stat(follow_symlinks=False)
    for name in eviction_order({name: state.st_mtime_ns for name, state in found.items()}, coming):
        if used + need_bytes <= budget_bytes:
            break
        if _remove_unused(folder / name):
            used -= found[name].st_size
    return used + need_bytes <= budget_bytes


def used_bytes(folder: Path) -> int:
    """Bytes of all files in the folder, those that are being fetched with their final size."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def hold(descriptor: int, path: Path) -> None:
    """Mark an open copy as in use, until it is closed or its process ends, however it ends."""
    with contextlib.suppress(OSError):  # a file system without locks; an open file can be read after its removal
        lock(descriptor, shared=True)
    with contextlib.suppress(OSError):
        os.utime(path)


def _remove_unused(path: Path) -> bool:
    try:
        descriptor = os.open(path, O_READ | O_NOFOLLOW)
    except OSError:
        return False
    try:
        lock(descriptor)
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
