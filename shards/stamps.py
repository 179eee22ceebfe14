"""Whether the files of an item changed between two starts of a job, told from their sizes and times.

Usage:

    stamp(item, "pictures")      # "183722-1731000000000000000 183840-1731000000000000000"
"""

from pathlib import Path

from shards.sources import Item
from shards.storage import local_path

__all__ = ["stamp"]


def stamp(item: Item, path: str) -> str | None:
    """Size and time of change of each file that the item names; of the archive itself where it lies in one.

    None for a collection behind a URL, where asking for each file would take as long as reading it.
    """
    root = local_path(path)
    if root is None:
        return None
    if root.is_file():
        return _one(root)
    return " ".join(_one(root / name) for name in (item.name, item.partner, *item.labels) if name is not None)


def _one(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:  # not every source names its items after files
        return "-"
    return f"{status.st_size}-{status.st_mtime_ns}"
