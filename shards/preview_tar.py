"""Previews of all items for the review page, accepted or not: `previews.tar` beside the shards.

While a job runs the pictures are collected in one plain file, in any order and safe from a kill; at its end they are
written as a WebDataset tar in the order of the items: `KEY.json` (name, split, reason, eyes, figures) and `KEY.jpg`
(absent where nothing was decoded).

Usage:

    spool = PreviewSpool(path); spool.begin([]); step = Step(..., preview=spool.append(jpeg))
    write_preview_tar(tar_path, steps, {key: "train"}, spool)
"""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import webdataset

from shards.errors import ShardError
from shards.journal import Preview, Step
from shards.manifest import SplitName
from shards.names import printable, sample_key

__all__ = ["PreviewSpool", "write_preview_tar"]


class PreviewSpool:
    """The file that collects preview pictures while a job runs.

    Args:
        path: Its place; nothing is opened before `begin`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def num_good(self, steps: Sequence[Step]) -> int:
        """How many of the leading steps have their preview in the file, or never had one."""
        if not self.path.is_file():
            return next((number for number, step in enumerate(steps) if step.preview is not None), len(steps))
        with self.path.open("rb") as file:
            for number, step in enumerate(steps):
                if step.preview is not None and _read(file, step.preview) is None:
                    return number
        return len(steps)

    def begin(self, steps: Sequence[Step]) -> None:
        """Keep the previews of these steps and open the file for more.

        Raises:
            ShardError: It cannot be written.
        """
        end = max((step.preview.offset + step.preview.length for step in steps if step.preview is not None), default=0)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("r+b" if end else "w+b")
            self._file.truncate(end)
            self._file.seek(end)
        except OSError as error:
            raise self._refused(error) from error

    def append(self, picture: bytes) -> Preview:
        """Add one picture; its bytes have left this process when this returns.

        Raises:
            ShardError: It cannot be written.
        """
        if self._file is None:
            raise RuntimeError("begin() opens the file")
        offset = self._file.tell()
        try:
            self._file.write(picture)
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error
        return Preview(offset, len(picture), zlib.crc32(picture))

    def read(self, preview: Preview) -> bytes:
        """One picture.

        Raises:
            ShardError: It is no longer there.
        """
        with self.path.open("rb") as file:
            picture = _read(file, preview)
        if picture is None:
            raise ShardError(f"{self.path}: changed while it was in use; start again to continue")
        return picture

    def close(self) -> None:
        """Close the file; it stays for the next start."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """The job is done: remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _refused(self, error: OSError) -> ShardError:
        return ShardError(f"{self.path}: cannot write it: {error.strerror or error}")


def write_preview_tar(path: Path, steps: Sequence[Step], splits: Mapping[str, SplitName], spool: PreviewSpool) -> None:
    """Write the previews of all steps, in their order, into a finished and synced tar.

    Args:
        path: Of the tar.
        steps: One an item.
        splits: Key of each accepted sample to its split.
        spool: Where the pictures are.

    Raises:
        ShardError: It cannot be written.
    """
    try:
        with path.open("wb") as file:
            tar = webdataset.TarWriter(file, encoder=False, mtime=0, user="depthrank", group="depthrank", mode=0o644)
            for step in steps:
                key = sample_key(step.name)
                tar.write({"__key__": key, **_members(step, splits.get(key), spool)})
            tar.close()
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ShardError(f"{path}: cannot write it: {error.strerror or error}") from error


def _members(step: Step, split: SplitName | None, spool: PreviewSpool) -> dict[str, bytes]:
    record = {
        "name": printable(step.name),
        "split": split,
        "reason": step.reason,
        "eyes": step.eyes,
        "figures": step.figures,
    }
    members = {"json": json.dumps(record, sort_keys=True).encode("ascii")}
    if step.preview is not None:
        members["jpg"] = spool.read(step.preview)
    return members


def _read(file: BinaryIO, preview: Preview) -> bytes | None:
    file.seek(preview.offset)
    picture = file.read(preview.length)
    return picture if len(picture) == preview.length and zlib.crc32(picture) == preview.digest else None
