"""A node-local copy of remote shards, shared by all processes and runs of the machine.

A file appears under its final name only when it is whole and its sha256 is the manifest's, so whoever finds it may
trust it. Until then it is `.NAME.part`, locked by the process that fetches it; the others look again until it is done.
There are no lock files: the lock goes when the part is renamed, or with its process, however that ends; a part that
nobody holds is overwritten by the next process that wants the file and removed by the next that looks for one.

flock itself and not filelock's wrapper, as for the lock of a run.

    cache = ShardCache("s3://bucket/shards", folder, budget_bytes=20 << 30, retry_seconds=600)
    path = cache.fetch(name, size, sha256)
"""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.eviction import make_room, used_bytes
from pipeline.data.fetch import FetchCounts, Pace, fetch_file
from pipeline.data.part_file import bytes_to_come, claim, has_size, names_in_hand, part_path, reserve
from shards.errors import ShardError
from shards.posix import require_posix, unlock
from shards.storage import join, shown

__all__ = ["ShardCache", "default_budget_bytes", "default_cache_folder"]

_FREE_SHARE = 0.5
_BROKEN_SECONDS = 60.0
_FULL = {errno.ENOSPC, errno.EDQUOT}
_ROOM_ATTEMPTS = 3  # on a full disk: others may take the room that was made


def default_cache_folder() -> Path:
    """Where fetched shards go unless `data.cache_dir` says otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "depthrank"


def default_budget_bytes(folder: Path) -> int:
    """Half of what a folder's disk has free, its own files counted as free."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    return int(_FREE_SHARE * (shutil.disk_usage(there).free + used_bytes(folder)))


class ShardCache:
    """Whole files of the dataset at `url`, fetched into `folder` on first need. Picklable.

    Args:
        url: fsspec URL of a dataset.
        folder: Local folder that holds files of this dataset only; made when the first file comes.
        budget_bytes: What its files may take; more only where one that is needed now would not fit.
        retry_seconds: How long faults that may pass are tried again.

    Raises:
        ConfigError: This system has no file locks.
    """

    def __init__(self, url: str, folder: Path, *, budget_bytes: int, retry_seconds: float = 600) -> None:
        require_posix(f"{shown(url)}: a cache of shards")
        self.url = url
        self.folder = folder
        self.budget_bytes = budget_bytes
        self._retry_seconds = retry_seconds
        self._start()

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("url", "folder", "budget_bytes", "_retry_seconds")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def _start(self) -> None:
        self.counts = FetchCounts()
        self._pace = Pace()
        self._broken: dict[str, tuple[float, str]] = {}

    def has(self, name: str, size: int) -> bool:
        """Whether there is a whole copy of a file of this size."""
        return has_size(self.folder / name, size)

    def fetch(self, name: str, size: int, sha256: str, *, release: Callable[[], None] | None = None) -> Path:
        """Path of the local copy of a file; fetched and verified unless it is there. Waits for whoever fetches it.

        Args:
            name: Plain file name.
            size: Its bytes.
            sha256: Its digest in hexadecimal.
            release: Closes copies that the caller has open; called where the disk is full and no other copy can go.

        Raises:
            ShardError: It cannot be fetched, is not what the manifest says, or there is no room for it. For a minute
                the same error comes at once, then one attempt is made a minute.
        """
        if not self.has(name, size):
            self._fetch(name, size, sha256, wait=True, release=release)
        return self.folder / name

    def fetch_ahead(
        self, name: str, size: int, sha256: str, coming: Sequence[str], stop: threading.Event | None = None
    ) -> bool:
        """Fetch a file that will be needed, unless another process has it in hand; for a background thread.

        Args:
            name: As `fetch`.
            size: As `fetch`.
            sha256: As `fetch`.
            coming: Files in the order of their next use; on a full disk this one takes the place of later ones only.
            stop: Once it is set, faults are not tried again.

        Returns:
            False where the disk is full of what cannot go: another attempt soon will do no better.

        Raises:
            ShardError: As `fetch`.
        """
        return self._fetch(name, size, sha256, wait=False, coming=coming, stop=stop)

    def drop(self, name: str) -> None:
        """Remove a copy that has turned out to be damaged, so that `fetch` verifies a new one.

        A reader that has it open is not disturbed.
        """
        (self.folder / name).unlink(missing_ok=True)

    def in_hand(self) -> set[str]:
        """Files that the processes of this machine are fetching now; parts that nobody holds are removed."""
        return names_in_hand(self.folder)

    def bytes_to_come(self, name: str, size: int) -> int:
        """Bytes for which a file that is being fetched has not yet taken room."""
        return bytes_to_come(self.folder / name, size)

    def _fetch(
        self,
        name: str,
        size: int,
        sha256: str,
        *,
        wait: bool,
        coming: Sequence[str] = (),
        release: Callable[[], None] | None = None,
        stop: threading.Event | None = None,
    ) -> bool:
        """Fetch a file unless it is there; without `wait` not if it is in hand, and False where the disk is full."""
        path = self.folder / name
        now = time.monotonic()
        since, message = self._broken.get(name, (0.0, ""))
        if message and now < since + _BROKEN_SECONDS:
            raise ShardError(message)
        until = now if message else now + self._retry_seconds
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = claim(path, size, wait=wait)
            if descriptor is None:
                return True
            try:
                if wait:
                    make_room(self.folder, size, self.budget_bytes, coming)
                self._fill(descriptor, path, size, sha256, until, coming, release, stop)
            finally:
                unlock(descriptor)  # a process that was forked meanwhile shares the lock
                os.close(descriptor)
        except OSError as error:
            if not wait and error.errno in _FULL:
                return False
            need = f" ({size / 1e6:.1f} MB are needed)" if error.errno in _FULL else ""
            raise ShardError(
                f"{path}: cannot keep a copy of {shown(join(self.url, name))} there: {error.strerror or error}{need}; "
                "make room, or choose another folder with data.cache_dir"
            ) from error
        except ShardError as error:
            if stop is None or not stop.is_set():  # else it was not tried to the end
                self._broken[name] = time.monotonic(), str(error)
            raise
        self._broken.pop(name, None)
        return True

    def _fill(
        self,
        descriptor: int,
        path: Path,
        size: int,
        sha256: str,
        until: float,
        coming: Sequence[str],
        release: Callable[[], None] | None,
        stop: threading.Event | None,
    ) -> None:
        """Fetch into a part that is ours, and rename it; on failure it is removed."""
        part = part_path(path)
        where = join(self.url, path.name)
        try:
            self._reserve(descriptor, path.name, size, coming, release)
            fetch_file(where, size, sha256, descriptor, until=until, pace=self._pace, counts=self.counts, stop=stop)
            # Not synced: each sample is verified when it is read, so what a power cut leaves is found and fetched anew.
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _reserve(
        self,
        descriptor: int,
        name: str,
        size: int,
        coming: Sequence[str],
        release: Callable[[], None] | None,
    ) -> None:
        """Take the room; where others have filled the disk, copies of the same size in all go for it, and no more.

        Raises:
            OSError: The disk stays full, or the room cannot be taken.
        """
        sooner = coming.index(name) if name in coming else 0
        for attempt in range(1, _ROOM_ATTEMPTS + 1):
            try:
                reserve(descriptor, size)
                return
            except OSError as error:
                os.ftruncate(descriptor, 0)
                if error.errno not in _FULL or attempt == _ROOM_ATTEMPTS:
                    raise
            budget = used_bytes(self.folder)
            if not make_room(self.folder, size, budget, coming, keep=sooner) and release is not None:
                release()
                make_room(self.folder, size, budget, coming, keep=sooner)
