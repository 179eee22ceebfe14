"""Writes a dataset of shards: tars, an index a split, the manifest last.

Bytes are a pure function of the samples, their order and `shard_bytes`: fixed owner, mode and time in the tars, which
webdataset's own `TarWriter` makes. A finished dataset is never overwritten: packing the same again compares instead of
writing, and other content is refused. What a killed run left behind (there is no manifest yet) is replaced.

    with DatasetWriter("runs/shards", shard_bytes=1 << 28, config=config) as writer:
        for split, sample in samples: writer.add(split, sample)
        manifest = writer.finish({"flat": 3})
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import webdataset
from filelock import FileLock, Timeout

from shards.errors import ShardError
from shards.format import Sample, encode_sample
from shards.index import MAX_SAMPLE_BYTES, ROW, Row, encode_index, member_span, members_digest
from shards.manifest import (
    MANIFEST_NAME,
    IndexEntry,
    Manifest,
    ShardEntry,
    SplitEntry,
    SplitName,
    publish_manifest,
    read_manifest,
)
from shards.storage import exists, join, list_names, local_path, make_folder, publish_bytes, publish_file, remove, shown

__all__ = ["DatasetWriter"]

_OURS = re.compile(r"(train|val)(-\d{6}\.tar|\.index)|\.(train|val)(-\d{6}\.tar|\.index)\.part")
_TAR_END_BYTES = 10240  # the most that tarfile appends: two blocks of zeros, filled up to a record


class DatasetWriter:
    """Packs samples, in the order in which they are added, into the dataset at `out`.

    Args:
        out: Folder or fsspec URL.
        shard_bytes: A shard is closed before it grows beyond this, unless a single sample does.
        config: JSON object kept in the manifest: the settings that made the dataset.

    Raises:
        ShardError: `out` holds a complete dataset that other settings made, or cannot be written.
    """

    def __init__(self, out: str, *, shard_bytes: int, config: Mapping[str, Any]) -> None:
        self._out = out
        self._shard_bytes = shard_bytes
        self._config = json.loads(json.dumps(config, allow_nan=False))  # as it will be read back: tuples are lists
        self._splits: dict[SplitName, _Split] = {}
        self._keys: set[str] = set()
        self._existing: Manifest | None = None
        self._lock = _take_lock(out)
        try:
            self._begin()
        except ShardError:
            self._lock.release()
            raise
        # Local shards grow beside their final place, so that publishing is a rename; remote ones in a temporary folder.
        beside = None if self._existing else local_path(out)
        self._scratch = tempfile.TemporaryDirectory(prefix="depthrank-pack-") if beside is None else None
        self._folder = beside or Path(self._scratch.name if self._scratch else "")

    def add(self, split: SplitName, sample: Sample) -> None:
        """Append a sample to a split.

        Raises:
            ShardError: The sample breaks the format, its key came before, or the storage refuses.
        """
        if sample.key in self._keys:
            raise ShardError(f"sample {sample.key} comes twice; keys must be unique in a dataset")
        members = encode_sample(sample)
        self._keys.add(sample.key)
        length = sum(member_span(len(content)) for content in members.values())
        if length > MAX_SAMPLE_BYTES:
            raise ShardError(f"sample {sample.key}: {length} bytes, the most is {MAX_SAMPLE_BYTES}")
        state = self._splits.setdefault(split, _Split(split))
        if state.shard is not None and state.shard.length + length + _TAR_END_BYTES > self._shard_bytes:
            self._close_shard(state)
        if state.shard is None:
            state.shard = _OpenShard(self._folder / f".{state.next_name()}.part")
        state.rows.append(Row(len(state.entries), members_digest(sample.key, members), state.shard.length, length))
        state.shard.append(sample.key, members, length)

    def finish(self, rejects: Mapping[str, int]) -> Manifest:
        """Close the shards and write the indexes and the manifest.

        Args:
            rejects: Pictures that were left out, reason to number.

        Raises:
            ShardError: No sample was added, or `out` holds a finished dataset of other content.
        """
        if not self._keys:
            raise ShardError(f"{shown(self._out)}: no sample was added, so there is no dataset to write")
        splits: dict[SplitName, SplitEntry] = {}
        for state in self._splits.values():
            self._close_shard(state)
            data = encode_index(np.array(state.rows, dtype=ROW))
            index = IndexEntry(name=f"{state.name}.index", bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
            if self._existing is None:
                publish_bytes(join(self._out, index.name), data)
            splits[state.name] = SplitEntry(samples=len(state.rows), shards=state.entries, index=index)
        manifest = Manifest(splits=splits, config=self._config, rejects=dict(rejects))
        if self._existing is None:
            publish_manifest(self._out, manifest)
        elif self._existing != manifest:
            raise self._other_content("the list of its shards and rejects")
        self.close()
        return manifest

    def _begin(self) -> None:
        """Find what `out` holds: a finished dataset to compare with, or leftovers to remove."""
        out = self._out
        if exists(join(out, MANIFEST_NAME)):
            self._existing = read_manifest(out)
            if self._existing.config != self._config:
                changed = sorted(_differing(self._existing.config, self._config))
                raise ShardError(
                    f"{shown(out)} holds a finished dataset made with other settings ({', '.join(changed)}); "
                    "choose another `out`, or delete that folder first"
                )
        else:
            make_folder(out)
            for name in list_names(out):
                if _OURS.fullmatch(name):
                    remove(join(out, name))

    def close(self) -> None:
        """Drop what is unfinished; the published shards of an unfinished dataset are replaced by the next run."""
        for state in self._splits.values():
            if state.shard is not None:
                state.shard.discard()
                state.shard = None
        if self._scratch is not None:
            self._scratch.cleanup()
        self._lock.release()

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _close_shard(self, state: "_Split") -> None:
        shard, state.shard = state.shard, None
        if shard is None:
            return
        name = state.next_name()
        sha256, size = shard.close()
        entry = ShardEntry(name=name, bytes=size, samples=shard.samples, sha256=sha256)
        if self._existing is None:
            publish_file(shard.path, join(self._out, name))
        else:
            shard.path.unlink()
            before = self._existing.splits[state.name].shards if state.name in self._existing.splits else []
            if len(state.entries) >= len(before) or before[len(state.entries)] != entry:
                raise self._other_content(name)
        state.entries.append(entry)

    def _other_content(self, what: str) -> ShardError:
        return ShardError(
            f"{shown(self._out)} holds a finished dataset of the same settings but other content ({what} differs: the "
            "pictures or the program changed); it was left as it is. Choose another `out`, or delete that folder first"
        )


class _Split:
    """What is known of a split while it is written."""

    def __init__(self, name: SplitName) -> None:
        self.name: SplitName = name
        self.shard: _OpenShard | None = None
        self.entries: list[ShardEntry] = []
        self.rows: list[Row] = []

    def next_name(self) -> str:
        return f"{self.name}-{len(self.entries):06d}.tar"


class _OpenShard:
    """A tar that grows in a local file and is hashed on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.length = 0
        self.samples = 0
        try:
            self._file = _HashingFile(path.open("wb"))
        except OSError as error:
            raise ShardError(f"{path}: cannot write it: {error.strerror}") from error
        self._tar = webdataset.TarWriter(
            self._file, encoder=False, mtime=0, user="depthrank", group="depthrank", mode=0o644
        )

    def append(self, key: str, members: Mapping[str, bytes], length: int) -> None:
        try:
            self._tar.write({"__key__": key, **members})
        except OSError as error:
            self.discard()
            raise ShardError(f"{self.path}: cannot write it: {error.strerror}") from error
        self.length += length
        self.samples += 1

    def close(self) -> tuple[str, int]:
        """Finish and sync the tar; its sha256 and size."""
        try:
            self._tar.close()
            self._file.sync()
        except OSError as error:
            self.discard()
            raise ShardError(f"{self.path}: cannot write it: {error.strerror}") from error
        self._file.raw.close()
        return self._file.digest.hexdigest(), self._file.size

    def discard(self) -> None:
        self._file.raw.close()
        self.path.unlink(missing_ok=True)


class _HashingFile:
    """The part of a file that tarfile writes to; keeps size and sha256."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        if self.raw.closed:  # a discarded tar still flushes its last block when it is collected
            return len(data)
        self.digest.update(data)
        self.size += len(data)
        return self.raw.write(data)

    def sync(self) -> None:
        self.raw.flush()
        os.fsync(self.raw.fileno())


def _take_lock(out: str) -> FileLock:
    """Keep a second packing process of this machine away from `out`; the kernel frees it when this one ends."""
    folder = local_path(out)
    place = str(folder.resolve()) if folder is not None else out
    lock = FileLock(
        Path(tempfile.gettempdir()) / f"depthrank-pack-{hashlib.sha256(place.encode()).hexdigest()[:16]}.lock"
    )
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ShardError(f"{shown(out)}: another process packs into it; wait for it or choose another `out`") from None
    return lock


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Dotted names of the settings in which two configs differ."""
    found = set()
    for key in old.keys() | new.keys():
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= _differing(a, b, f"{prefix}{key}.")
        elif a != b:
            found.add(f"{prefix}{key}")
    return found
