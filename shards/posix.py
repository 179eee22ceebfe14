"""What Linux and macOS have and Windows has not: locks on files, reads at an offset, flags of `open`.

Where something else serves as well it takes its place; the rest is refused in one sentence, by `require_posix`, where a
command begins that needs it.

    require_posix("training")
    lock(descriptor); unlock(descriptor)
    data = read_at(descriptor, length, offset)
"""

import errno
import os
from types import ModuleType

from shards.errors import ConfigError

__all__ = ["O_CLOEXEC", "O_NOFOLLOW", "O_READ", "has_locks", "lock", "num_cores", "read_at", "require_posix", "unlock"]

try:
    import fcntl as _found
except ImportError:
    _fcntl: ModuleType | None = None
else:
    _fcntl = _found

O_CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)  # elsewhere files are never inherited
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
O_READ: int = os.O_RDONLY | O_CLOEXEC | getattr(os, "O_BINARY", 0)
"""To read bytes."""


def has_locks() -> bool:
    """Whether this system locks files for as long as a process lives."""
    return _fcntl is not None


def require_posix(what: str) -> None:
    """Refuse where file locks are missing.

    Args:
        what: what needs them, to begin a sentence with.

    Raises:
        ConfigError: This system has none.
    """
    if not has_locks():
        raise ConfigError(
            f"{what} needs the file locks and signals of Linux or macOS, which Windows does not have; there, use WSL 2"
        )


def lock(descriptor: int, *, shared: bool = False) -> None:
    """Lock an open file without waiting; the lock goes with its last descriptor, and so with the process.

    Raises:
        OSError: Somebody else holds it (BlockingIOError on a local disk), or the file system has no locks.
    """
    if _fcntl is None:
        raise OSError(errno.ENOTSUP, "this system has no file locks")
    _fcntl.flock(descriptor, (_fcntl.LOCK_SH if shared else _fcntl.LOCK_EX) | _fcntl.LOCK_NB)


def unlock(descriptor: int) -> None:
    """Give a lock back, also for processes that were forked meanwhile and share it."""
    if _fcntl is not None:
        _fcntl.flock(descriptor, _fcntl.LOCK_UN)


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """Up to `length` bytes from `offset` on; elsewhere than on POSIX not from several threads at a time.

    Raises:
        OSError: They cannot be read.
    """
    if hasattr(os, "pread"):
        return os.pread(descriptor, length, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, length)


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
