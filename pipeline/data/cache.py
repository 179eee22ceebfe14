"""A node-local copy of remote shards, shared by all processes and runs of the machine.

A file appears under its final name only when it is whole and its sha256 is the manifest's, so whoever finds it may
trust it. A lock that the kernel releases lets one process fetch while the others wait; what a killed one left behind is
overwritten by the next.

    path = ShardCache("s3://bucket/shards", default_cache_folder() / fingerprint[:16]).fetch(name, size, sha256)
"""

import hashlib
import os
from pathlib import Path

from filelock import FileLock

from shards.errors import ShardError
from shards.storage import fsync_folder, join, open_read, shown

__all__ = ["ShardCache", "default_cache_folder"]

_PIECE_BYTES = 8 << 20


def default_cache_folder() -> Path:
    """Where fetched shards go unless `data.cache_dir` says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "depthrank"


class ShardCache:
    """Whole files of the dataset at `url`, fetched into `folder` on first need. Picklable.

    Args:
        url: fsspec URL of a dataset.
        folder: Local folder that holds files of this dataset only; made when the first file comes.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def fetch(self, name: str, size: int, sha256: str) -> Path:
        """Path of the local copy of a file; fetched and verified unless it is there.

        Args:
            name: Plain file name.
            size: Its bytes.
            sha256: Its digest in hexadecimal.

        Raises:
            ShardError: It cannot be fetched, is not what the manifest says, or there is no room for it.
        """
        path = self.folder / name
        try:
            if _has_size(path, size):
                return path
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f".{name}.lock"):
                if not _has_size(path, size):
                    self._fetch(path, size, sha256)
        except OSError as error:
            raise ShardError(
                f"{path}: cannot keep a copy of {shown(join(self.url, name))} there: {error.strerror or error}; "
                "data.cache_dir chooses another folder"
            ) from error
        return path

    def _fetch(self, path: Path, size: int, sha256: str) -> None:
        where = join(self.url, path.name)
        part = path.with_name(f".{path.name}.part")
        digest = hashlib.sha256()
        received = 0
        try:
            with open_read(where) as source, part.open("wb") as target:
                while received <= size and (piece := source.read(_PIECE_BYTES)):
                    received += len(piece)
                    digest.update(piece)
                    target.write(piece)
                target.flush()
                os.fsync(target.fileno())
            if received != size or digest.hexdigest() != sha256:
                got = f"{received} bytes" if received <= size else f"more than {size} bytes"
                raise ShardError(
                    f"{shown(where)} is not the file that its manifest lists: got {got}, sha256 "
                    f"{digest.hexdigest()[:12]}..., expected {size} bytes, {sha256[:12]}...; pack or upload it again"
                )
            part.replace(path)
            fsync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
