"""The diary of a packing job, so that a killed one continues: a JSON line for each item that is done.

A line is written after the bytes that it tells of. The first line names the settings and the program; a diary of other
ones is of no use. What a killed process left at the end, half a line at worst, is cut off.

Usage:

    journal = Journal(path, settings=digest_a, program=program_digest())
    steps = journal.read()                   # of an interrupted job; [] where there was none
    journal.begin(len(steps)); journal.append(step); journal.remove()
"""

import hashlib
import json
import os
import sys
import zlib
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import PIL

from shards.errors import ShardError
from shards.manifest import SplitName
from shards.storage import local_path

__all__ = ["Journal", "Preview", "Step", "Write", "program_digest", "state_folder"]


@dataclass(frozen=True)
class Write:
    """Where a sample was written.

    Args:
        key: Of the sample.
        split: Of the dataset.
        shard: Number of the shard in its split.
        offset: First byte of the sample in the shard.
        length: Bytes of the sample, headers included.
        digest: Crc32 of its members (`shards.index.members_digest`).
        sha256: Of the shard up to and with this sample.
    """

    key: str
    split: SplitName
    shard: int
    offset: int
    length: int
    digest: int
    sha256: str


@dataclass(frozen=True)
class Preview:
    """Where the preview of an item lies in the file that collects them, and its crc32."""

    offset: int
    length: int
    digest: int


@dataclass(frozen=True)
class Step:
    """What one item led to.

    Args:
        name: Of the item.
        stamp: State of its files, `shards.stamps`.
        reason: Why it was left out; None where it was accepted.
        figures: Behind the verdict.
        eyes: Which eye came first, where that was decided.
        preview: None where there is none.
        write: The sample that was written in this step: the item's own, or that of an earlier one that had waited.
    """

    name: str
    stamp: str | None
    reason: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    eyes: str | None = None
    preview: Preview | None = None
    write: Write | None = None


class Journal:
    """The diary of one job; nothing is opened before `begin`.

    Args:
        path: Its file.
        settings: Digest of the settings that define the dataset.
        program: Digest of the program that makes the labels.
    """

    def __init__(self, path: Path, *, settings: str, program: str) -> None:
        self.path = path
        self._head = {"journal": 1, "settings": settings, "program": program}
        self._ends: list[int] = []
        self._file: BinaryIO | None = None
        self.differs: str | None = None
        """After `read`: why what was found is of no use, in words; None where it is, or nothing was found."""

    def read(self) -> list[Step]:
        """The steps of an interrupted job of the same settings and program."""
        self._ends, self.differs = [], None
        if not self.path.is_file():
            return []
        steps: list[Step] = []
        with self.path.open("rb") as file:
            head = _parse(file.readline())
            if head != self._head:
                self.differs = _difference(head, self._head)
                return []
            self._ends.append(file.tell())
            for line in file:
                step = _step(_parse(line))
                if step is None:
                    break
                steps.append(step)
                self._ends.append(self._ends[-1] + len(line))
        return steps

    def begin(self, num_steps: int) -> None:
        """Keep that many of the steps that `read` found, and open the diary for more.

        Raises:
            ShardError: It cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._ends:
                self._file = self.path.open("r+b")
                self._file.truncate(self._ends[num_steps])
                self._file.seek(0, os.SEEK_END)
            else:
                self._file = self.path.open("wb")
                self._put(self._head)
        except OSError as error:
            raise self._refused(error) from error

    def append(self, step: Step) -> None:
        """Write one step down.

        Raises:
            ShardError: It cannot be written.
        """
        try:
            record = asdict(step)
            self._put({"crc32": zlib.crc32(_encode(record)), "step": record})
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Close the file; it stays for the next start."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """The job is done: remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _put(self, record: dict[str, Any]) -> None:
        if self._file is None:
            raise RuntimeError("begin() opens the journal")
        self._file.write(_encode(record) + b"\n")
        self._file.flush()

    def _refused(self, error: OSError) -> ShardError:
        return ShardError(f"{self.path}: cannot write the journal of the job: {error.strerror or error}")


def state_folder(out: str) -> Path:
    """Where an unfinished job on `out` keeps what must survive a kill: there itself, or in the user's state folder."""
    local = local_path(out)
    if local is not None:
        return local
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "depthrank" / f"pack-{hashlib.sha256(out.encode('utf-8')).hexdigest()[:16]}"


@cache
def program_digest() -> str:
    """Digest of what makes the labels: the code of `shards`, and the libraries and Python that it runs on."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    python = ".".join(map(str, sys.version_info[:2]))
    others = " ".join(version(name) for name in ("webdataset", "torch", "torchvision"))  # torch: RAFT
    digest.update(f"{cv2.__version__} {np.__version__} {PIL.__version__} {python} {others}".encode())
    return digest.hexdigest()


def _encode(record: Any) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("ascii")


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _step(record: Any) -> Step | None:
    """A step as it was written; None where the line is damaged."""
    try:
        if zlib.crc32(_encode(record["step"])) != record["crc32"]:
            return None
        step = Step(**record["step"])
        preview = None if step.preview is None else Preview(**record["step"]["preview"])
        write = None if step.write is None else Write(**record["step"]["write"])
    except (TypeError, KeyError):
        return None
    return Step(step.name, step.stamp, step.reason, step.figures, step.eyes, preview, write)


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    if not isinstance(found, dict) or found.get("journal") != wanted["journal"]:
        return "cannot be continued: its journal is damaged or of another version"
    return "was begun with other settings" if found.get("settings") != wanted["settings"] else "another program began"
