"""The curves of a run that goes on from a checkpoint in another folder, a read-only input of Kaggle say.

    carry_logs(found.path, run_dir)

Metrics, the log of samples and TensorBoard's files are copied once, into a run folder that has none, so that its
curves begin where the run began. What cannot be copied is said, and the run goes on without.
"""

import logging
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["carry_logs"]

LOG_NAMES = ("samples.jsonl", "metrics.jsonl")
"""The second is the mark that all was copied, so it comes last."""
EVENT_FOLDER, EVENT_PREFIX = "tb", "events.out.tfevents."
FILE_LIMIT_BYTES = 1 << 30
TOTAL_LIMIT_BYTES = 4 << 30
MAX_EVENT_FILES = 1000
_log = logging.getLogger("depthrank")


def carry_logs(checkpoint: Path, run_dir: Path) -> None:
    """Copy the logs that belong to a checkpoint of the same run in another folder.

    Args:
        checkpoint: folder of the checkpoint that the run goes on from.
        run_dir: folder of the run; nothing is done where it holds the checkpoint or has metrics already.
    """
    parent = checkpoint.parent
    origin = parent.parent if parent.name == "checkpoints" else parent
    if origin.resolve() == run_dir.resolve() or (run_dir / LOG_NAMES[-1]).exists():
        return
    left = TOTAL_LIMIT_BYTES
    copied = 0
    for source in _logs_of(origin):
        try:
            size = _plain_size(source)
            if size > min(FILE_LIMIT_BYTES, left):
                raise OSError(f"{size} bytes are more than is carried over")
            _copy(source, run_dir / source.relative_to(origin), size)
        except FileNotFoundError:
            continue
        except OSError as error:
            _log.warning("%s: not carried over (%s); its curve begins here", source, error.strerror or error)
            continue
        left -= size
        copied += 1
    if copied:
        _log.info("%d log(s) of the earlier sessions carried over from %s", copied, origin)


def _logs_of(origin: Path) -> Iterator[Path]:
    folder = origin / EVENT_FOLDER
    try:
        is_own = stat.S_ISDIR(folder.lstat().st_mode)
        events = sorted(path for path in folder.iterdir() if path.name.startswith(EVENT_PREFIX)) if is_own else []
    except OSError:
        events = []
    if len(events) > MAX_EVENT_FILES:
        _log.warning("%s: of %d files the newest %d are carried over", folder, len(events), MAX_EVENT_FILES)
    yield from events[-MAX_EVENT_FILES:]
    yield from (origin / name for name in LOG_NAMES)


def _plain_size(path: Path) -> int:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a plain file")
    return found.st_size


def _copy(source: Path, target: Path, size: int) -> None:
    """Copy the first `size` bytes; the target is there whole or not at all, and writable whatever the source was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(target.parent).free < size:
        raise OSError("disk full")
    part = target.with_name(f".{target.name}.tmp")
    try:
        with source.open("rb") as reading, part.open("wb") as writing:
            while size > 0 and (data := reading.read(min(size, 1 << 20))):
                writing.write(data)
                size -= len(data)
            writing.flush()
            os.fsync(writing.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
