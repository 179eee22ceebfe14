"""One trainer a run folder: a lock that the kernel releases when its holder dies, however it dies.

`RUN/.lock` is locked with flock; its text names the holder for people and is never asked whether the lock is held, so
a dead holder's text blocks nobody. The file is never removed: a removed lock file can be locked twice.

    with RunLock(run_dir):
        train()

flock itself and not filelock's wrapper: that falls back to a file that stays behind after a kill where a filesystem
has no locks, and in its older versions empties the file at every attempt, which would erase the holder's name.
"""

import errno
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from shards.errors import RunError
from shards.posix import O_NOFOLLOW, has_locks, lock, unlock

__all__ = ["Holder", "RunLock", "lock_is_held", "read_holder"]

LOCK_NAME = ".lock"
_HOLDER_LIMIT_BYTES = 4096
_POLL_SECONDS = 0.05
# `lock_is_held` takes a shared lock for an instant; a trainer that starts in that instant must not be refused.
_PATIENCE_SECONDS = 0.5
_CONTENTION = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}


@dataclass(frozen=True)
class Holder:
    """Who took a run's lock."""

    pid: int
    host: str
    since: str
    """UTC, ISO 8601."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class RunLock:
    """Holds a run folder while the `with` block lasts; creates the folder if need be.

    Args:
        run_dir: the run folder.
        wait_seconds: how long to wait for another holder to end, such as a dead launcher's orphan that still saves.

    Raises:
        RunError: on entering: another process holds the run (named), or the folder cannot be written or locked.
    """

    def __init__(self, run_dir: Path, *, wait_seconds: float = 0.0) -> None:
        self._run_dir = run_dir
        self._wait_seconds = wait_seconds
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        descriptor = _open(self._run_dir)
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        # A forked child would share the lock and keep it after the death of its parent.
        os.register_at_fork(after_in_child=self._close)
        holder = Holder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
        _write(descriptor, json.dumps(asdict(holder)).encode(), self._run_dir)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            _write(self._descriptor, b"", self._run_dir)
            # Closing alone would leave the lock with a child that is between fork and exec at this moment.
            unlock(self._descriptor)
            self._close()

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + max(self._wait_seconds, _PATIENCE_SECONDS)
        while not _try_lock(descriptor, self._run_dir):
            if time.monotonic() >= deadline:
                holder = read_holder(self._run_dir) or "one that has not yet written its name"
                waited = f" (waited {self._wait_seconds:.0f} s for it)" if self._wait_seconds else ""
                raise RunError(
                    f"{self._run_dir}: another trainer holds this run{waited}: {holder}."
                    f" Wait until it has ended, stop it (kill -TERM PID lets it save), or choose another `run` folder"
                )
            time.sleep(_POLL_SECONDS)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def lock_is_held(run_dir: Path) -> bool:
    """Whether a living process holds the run; never writes, so it works on a read-only mount.

    Raises:
        RunError: the lock file exists and cannot be asked, or this system has no locks.
    """
    if not has_locks():
        raise RunError(f"{run_dir}: this system has no file locks, so it cannot be told whether the run goes on")
    try:
        descriptor = os.open(run_dir / LOCK_NAME, os.O_RDONLY | O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RunError(f"{run_dir / LOCK_NAME}: cannot be read ({error.strerror})") from error
    try:
        return not _try_lock(descriptor, run_dir, shared=True)
    finally:
        os.close(descriptor)


def read_holder(run_dir: Path) -> Holder | None:
    """Who took the lock last and did not give it back; None if nobody or if the text is no holder's."""
    try:
        with (run_dir / LOCK_NAME).open("rb") as file:
            text = json.loads(file.read(_HOLDER_LIMIT_BYTES))
        return Holder(pid=int(text["pid"]), host=str(text["host"])[:255], since=str(text["since"])[:64])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _open(run_dir: Path) -> int:
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        return os.open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | O_NOFOLLOW, 0o644)
    except OSError as error:
        raise RunError(
            f"{run_dir}: cannot be used as a run folder ({error.strerror}); choose a writable `run`, and list a"
            f" read-only one under `checkpoint.search`"
        ) from error


def _try_lock(descriptor: int, run_dir: Path, *, shared: bool = False) -> bool:
    try:
        lock(descriptor, shared=shared)
    except OSError as error:
        if error.errno in _CONTENTION:
            return False
        raise RunError(
            f"{run_dir}: this filesystem cannot lock files ({error.strerror}), so two trainers could write to one run;"
            f" choose a `run` folder on a local disk"
        ) from error
    return True


def _write(descriptor: int, text: bytes, run_dir: Path) -> None:
    """The holder's name is for people: a full disk must not keep a run from starting or ending."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise RunError(f"{run_dir / LOCK_NAME}: cannot be written ({error.strerror})") from error
