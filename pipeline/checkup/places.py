"""Disk, shared memory, limits of the system: is there room for a run, and does the disk keep what it is told?

for finding in places(Path("runs")):
    print(finding)
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.checkup.finding import Finding

__all__ = [
    "current_limits",
    "disk_findings",
    "limit_findings",
    "memory_findings",
    "room_finding",
    "shared_memory_bytes",
    "shared_memory_finding",
]

CHECKPOINT_GB = 0.5
"""The ResNet-50 network with AdamW's moments: 491 MB (docs/preemption.md)."""
LOW_GB = 5.0
TOO_LOW_GB = 4 * CHECKPOINT_GB
"""Two checkpoints that are kept, the best, and the one that is being written."""
DOCKERS_SHM_BYTES = 64 * 2**20
ENOUGH_FILES = 1024
SLOW_MB_PER_S = 20.0
SLOW_SYNC_MS = 200.0
_BYTES = 32 * 2**20
_SYNCS = 5


def disk_findings(folder: Path) -> Iterator[Finding]:
    """Room, writing, syncing, renaming and locking in a folder, which is not made where it is missing."""
    place = _existing(folder)
    yield room_finding(place, shutil.disk_usage(place).free / 1e9)
    try:
        with tempfile.TemporaryDirectory(prefix=".depthrank-doctor-", dir=place) as below:
            yield _write_finding(Path(below))
            yield _lock_finding(Path(below))
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding.wrong("writing", f"{place}: {reason.lower()}", "choose another folder: run=ELSEWHERE/NAME")


def room_finding(place: Path, free_gb: float) -> Finding:
    """Whether the free space suffices for the checkpoints of a run."""
    text = f"{free_gb:.1f} GB free in {place}"
    mend = f"make room; a run of the ResNet-50 network keeps {CHECKPOINT_GB} GB a checkpoint"
    if free_gb < TOO_LOW_GB:
        return Finding.wrong("disk", text, mend)
    return Finding.note("disk", text, mend) if free_gb < LOW_GB else Finding.ok("disk", text)


def shared_memory_finding(total_bytes: int | None) -> Finding:
    """Whether loader workers can hand over their batches."""
    if total_bytes is None:
        return Finding.note("/dev/shm", "there is none; loader workers need it", "data.num_workers=0")
    text = f"{total_bytes / 2**20:.0f} MiB"
    if total_bytes <= DOCKERS_SHM_BYTES:
        mend = "start the container with --shm-size 2g, or use data.num_workers=0"
        return Finding.note("/dev/shm", f"{text}, which large batches with several workers exceed", mend)
    return Finding.ok("/dev/shm", text)


def shared_memory_bytes() -> int | None:
    """Size of /dev/shm, None where there is none."""
    try:
        return shutil.disk_usage("/dev/shm").total
    except OSError:
        return None


def limit_findings(open_files: int, file_bytes: int) -> Iterator[Finding]:
    """Limits of the shell (`ulimit`) that a run would meet.

    Args:
        open_files: soft limit of open files.
        file_bytes: soft limit of the size of a file; negative for none.
    """
    if 0 <= open_files < ENOUGH_FILES:
        text = f"{open_files} open files at most; loader workers hold several shards open each"
        yield Finding.wrong("ulimit -n", text, "ulimit -n 4096")
    else:
        yield Finding.ok("ulimit -n", f"{'any number of' if open_files < 0 else open_files} open files")
    if 0 <= file_bytes < CHECKPOINT_GB * 1e9:
        text = f"files of {file_bytes / 1e6:.0f} MB at most; a checkpoint is larger"
        yield Finding.wrong("ulimit -f", text, "ulimit -f unlimited")


def current_limits() -> tuple[int, int]:
    """Soft limits of this process: open files, and bytes of a file (negative: none)."""
    import resource  # not on every system

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_FSIZE)[0]


def memory_findings() -> Iterator[Finding]:
    """Cores and memory that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _container_limit()
    if limit is not None and limit < total:
        text = f"{limit / 2**30:.1f} GiB (limit of this container; the machine has {total / 2**30:.1f})"
        total = limit
    else:
        text = f"{total / 2**30:.1f} GiB"
    if total < 4 * 2**30:
        yield Finding.note("memory", text, "small for a ResNet-50: smaller train.micro_batch_size and train.size")
    else:
        yield Finding.ok("memory", text)
    yield Finding.ok("cores", str(cores))


def _container_limit() -> int | None:
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(name).read_text())
        except (OSError, ValueError):
            continue
    return None


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _write_finding(below: Path) -> Finding:
    """How fast the disk takes a file for good, and a line of a log."""
    data = os.urandom(1 << 20)
    start = time.perf_counter()
    with (below / "part").open("wb") as file:
        for _ in range(_BYTES // len(data)):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    (below / "part").rename(below / "whole")
    rate = _BYTES / 1e6 / (time.perf_counter() - start)
    start = time.perf_counter()
    with (below / "log").open("ab") as file:
        for _ in range(_SYNCS):
            file.write(b"a line\n")
            file.flush()
            os.fsync(file.fileno())
    sync_ms = 1000 * (time.perf_counter() - start) / _SYNCS
    seconds = CHECKPOINT_GB * 1000 / rate
    text = f"{rate:.0f} MB/s onto the disk ({seconds:.0f} s for a ResNet-50 checkpoint), {sync_ms:.1f} ms a sync"
    if rate < SLOW_MB_PER_S or sync_ms > SLOW_SYNC_MS:
        return Finding.note("writing", text, "slow: put runs on a local disk and mirror them (checkpoint.mirror)")
    return Finding.ok("writing", text)


def _lock_finding(below: Path) -> Finding:
    """Whether the file system can lock, by which two trainers of one run are kept apart."""
    import fcntl

    try:
        with (below / "lock").open("w") as first, (below / "lock").open("w") as second:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Finding.ok("locks", "the file system keeps them")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Finding.wrong("locks", f"the file system has none ({reason})", "put runs on another file system")
    return Finding.wrong("locks", "the file system grants one twice", "put runs on another file system")
