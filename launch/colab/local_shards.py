"""A dataset of shards on the machine's own disk: Drive is slow to read from, and slower the more files are asked for.

    url = local_shards("/content/drive/MyDrive/web-shards", Path("/content/shards"))
    url = packed_shards("configs/demo.yaml", Path("/content/shards"))

What lies at a URL stays there: training fetches it into its own cache, ahead of need.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from shards.errors import RunError, ShardError
from shards.manifest import MANIFEST_NAME, IndexEntry, ShardEntry, read_manifest
from shards.storage import local_path

__all__ = ["local_shards", "packed_shards"]

_CHUNK_BYTES = 8 << 20


def local_shards(origin: str, folder: Path, say: Callable[[str], None] = print) -> str:
    """Copy a dataset from a mounted folder, each file verified; what is there already is not copied again.

    Args:
        origin: Folder or URL of a dataset.
        folder: Where the copies go, in a folder named after the dataset.
        say: Told what is done.

    Returns:
        Where training reads it.

    Raises:
        ShardError: It is missing, damaged, or too large for the disk.
    """
    source = local_path(origin)
    if source is None:
        return origin
    manifest = read_manifest(origin)
    target = folder / f"{source.name}-{manifest.fingerprint[:12]}"
    target.mkdir(parents=True, exist_ok=True)
    entries: list[ShardEntry | IndexEntry] = []
    for split in manifest.splits.values():
        entries += [*split.shards, split.index]
    wanted = [entry for entry in entries if not _has(target / entry.name, entry.bytes)]
    needed, free = sum(entry.bytes for entry in wanted), shutil.disk_usage(target).free
    if needed > free:
        raise ShardError(f"{origin}: {needed / 1e9:.1f} GB are to be copied, {target} has {free / 1e9:.1f} GB left")
    for entry in wanted:
        _copy(source / entry.name, target / entry.name, entry.bytes, entry.sha256)
    (target / MANIFEST_NAME).write_bytes((source / MANIFEST_NAME).read_bytes())
    say(f"{target}: {len(wanted)} file(s) of {origin} copied, {needed / 1e6:.1f} MB; {len(entries)} in all")
    return str(target)


def packed_shards(recipe: str, folder: Path) -> str:
    """Pack the pictures that a recipe names into a folder on this machine, unless that is done.

    Returns:
        Where training reads the dataset.

    Raises:
        RunError: Packing failed.
    """
    target = folder / "packed"
    if not (target / MANIFEST_NAME).is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "launch.shards", "--config", recipe, f"out={target}"]
        if subprocess.run(command, check=False).returncode:
            raise RunError(f"{recipe} could not be packed; what it said is above")
    return str(target)


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _copy(source: Path, target: Path, size: int, sha256: str) -> None:
    part = target.with_name(f".{target.name}.part")
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reading, part.open("wb") as writing:
            while data := reading.read(_CHUNK_BYTES):
                digest.update(data)
                writing.write(data)
        if digest.hexdigest() != sha256:
            raise ShardError(
                f"{source}: is not what the manifest lists ({size} bytes); copy the dataset to Drive again"
            )
        part.replace(target)
    except OSError as error:
        raise ShardError(f"{source}: cannot be copied: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
