"""What must be there before the first sample is read: the index, whole, and of local datasets every shard.

Missing and cut off files are found when the training starts, not hours later.

    path = local_index(folder, entry.index); unpacked = find_shards(folder, entry.shards)
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.data.cache import ShardCache
from pipeline.data.unpacked import unpacked_folder
from shards.errors import ShardError
from shards.manifest import IndexEntry, ShardEntry

__all__ = ["fetched_index", "find_shards", "local_index"]

_ATTEMPTS = 3  # at a copy of the index that others drop or that is damaged as soon as it comes
_LISTED = 3  # bad files named in one message


def local_index(folder: Path, index: IndexEntry) -> Path:
    """The index of a local dataset, which is the listed one.

    Raises:
        ShardError: It is missing, damaged or another one.
    """
    path = folder / index.name
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ShardError(
            f"{path}: cannot read the index of the dataset ({error.strerror}); copy or pack the dataset again"
        ) from error
    if digest != index.sha256:
        raise ShardError(
            f"{path} is damaged or belongs to another dataset: its sha256 is {digest[:12]}..., the manifest says "
            f"{index.sha256[:12]}...; copy or pack the dataset again"
        )
    return path


def fetched_index(cache: ShardCache, index: IndexEntry) -> Path:
    """A copy of the index that is the listed one now, not only when it came: all reads rely on it.

    Raises:
        ShardError: It cannot be fetched, or what was fetched anew is damaged again.
    """
    for _ in range(_ATTEMPTS):
        path = cache.fetch(index.name, index.bytes, index.sha256)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest == index.sha256:
                    return path
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # else another process has fetched it anew
                    cache.drop(index.name)
        except FileNotFoundError:
            continue  # another process drops it
        except OSError as error:
            raise ShardError(f"{path}: cannot read the copy of the index: {error.strerror}") from error
    raise ShardError(
        f"{cache.folder / index.name}: the index came whole but its copy is damaged or gone, also after it was fetched "
        "anew; data.cache_dir chooses a folder on another disk"
    )


def find_shards(folder: Path, shards: Sequence[ShardEntry]) -> dict[int, Path]:
    """Look for the shards of a local dataset; every one must be there, as a file or unpacked.

    Returns:
        The shards that lie there unpacked, by number, and where.

    Raises:
        ShardError: Some are missing or cut off; names the first.
    """
    bad = []
    unpacked = {}
    for number, shard in enumerate(shards):
        path = folder / shard.name
        try:
            size = path.stat().st_size if path.is_file() else None
            place = unpacked_folder(folder, shard.name) if size is None else None
        except OSError as error:
            bad.append(f"{shard.name} ({error.strerror})")
            continue
        if place is not None:
            unpacked[number] = place
        elif size != shard.bytes:
            there = "no such file or folder" if size is None else f"has {size} bytes"
            bad.append(f"{shard.name} ({there}, the manifest says {shard.bytes} bytes)")
    if bad:
        more = f" and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        raise ShardError(
            f"{folder}: {len(bad)} of {len(shards)} shards are missing or cut off: "
            f"{', '.join(bad[:_LISTED])}{more}; copy or pack the dataset again"
        )
    return unpacked
