"""Writes a dataset of shards: tars, an index a split, the manifest last.

Bytes are a pure function of the samples, their order and `shard_bytes`. A finished dataset is never overwritten:
packing the same again compares instead of writing, and other content is refused. What a killed job left behind (there
is no manifest yet) is continued by `carry_on`, else replaced.

    with DatasetWriter("runs/shards", shard_bytes=1 << 28, config=config) as writer:
        for split, sample in samples: writer.add(split, sample)
        manifest = writer.finish({"flat": 3})
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from shards.carry import Verified, verify
from shards.errors import ShardError
from shards.finished import finished_dataset
from shards.format import Sample, encode_sample, read_sample
from shards.index import MAX_SAMPLE_BYTES, ROW, Row, encode_index, members_digest, split_members
from shards.journal import Write
from shards.manifest import (
    IndexEntry,
    Manifest,
    ShardEntry,
    SplitEntry,
    SplitName,
    publish_manifest,
)
from shards.names import is_sample_key
from shards.open_shard import MAX_MEMBER_NAME_BYTES, TAR_END_BYTES, OpenShard, members_span
from shards.storage import (
    join,
    list_names,
    local_path,
    make_folder,
    open_read,
    publish_bytes,
    publish_file,
    remove,
    shown,
)

__all__ = ["DatasetWriter"]

_OURS = re.compile(r"(train|val)(-\d{6}\.tar|\.index)|\.(train|val)(-\d{6}\.tar|\.index)\.part")


class DatasetWriter:
    """Packs samples, in the order in which they are added, into the dataset at `out`.

    Args:
        out: Folder or fsspec URL.
        shard_bytes: A shard is closed before it grows beyond this, unless a single sample does.
        config: JSON object kept in the manifest: the settings that made the dataset.
        keep_in: Folder in which unfinished shards outlive this process, for `carry_on`; None: they go with it.

    Raises:
        ShardError: `out` holds a complete dataset that other settings made, or cannot be written.
    """

    def __init__(self, out: str, *, shard_bytes: int, config: Mapping[str, Any], keep_in: Path | None = None) -> None:
        self._out = out
        self._shard_bytes = shard_bytes
        self._config = json.loads(json.dumps(config, allow_nan=False))  # as it will be read back: tuples are lists
        self._splits: dict[SplitName, _Split] = {}
        self._keys: set[str] = set()
        self._existing: Manifest | None = None
        self._begun = False
        self._lock = _take_lock(out)
        try:
            self._existing = finished_dataset(out, self._config)
        except ShardError:
            self._lock.release()
            raise
        # Local shards grow beside their final place, so that publishing is a rename; remote ones in a temporary folder.
        kept = None if self._existing else keep_in or local_path(out)
        self._leaves_parts = keep_in is not None and not self._existing
        self._scratch = tempfile.TemporaryDirectory(prefix="depthrank-pack-") if kept is None else None
        self._folder = kept or Path(self._scratch.name if self._scratch else "")

    @property
    def compares(self) -> bool:
        """Whether `out` holds a finished dataset, which this one is compared with."""
        return self._existing is not None

    def carry_on(self, writes: Sequence[Write]) -> int:
        """Take over what a killed job of the same settings wrote, before the first `add`.

        Args:
            writes: What its `add` returned, in that order.

        Returns:
            How many of the leading ones are there, byte for byte; they count as added. All else is removed.

        Raises:
            ShardError: The storage fails.
        """
        self._begun = True
        if not self._existing:
            make_folder(self._out)
            self._folder.mkdir(parents=True, exist_ok=True)
        found = verify(
            writes,
            closed_url=lambda split, shard: join(self._out, _shard_name(split, shard)),
            part=lambda split, shard: self._folder / _part_name(split, shard),
        )
        carried = writes[: found.good]
        for split in dict.fromkeys(write.split for write in carried):
            self._splits[split] = self._restore([write for write in carried if write.split == split], found)
        self._keys.update(write.key for write in carried)
        if not self._existing:
            self._remove_others()
        return len(carried)

    def add(self, split: SplitName, sample: Sample) -> Write:
        """Append a sample to a split; its bytes have left this process when it returns.

        Raises:
            ShardError: The sample breaks the format, its key came before, or the storage refuses.
        """
        return self.add_members(split, sample.key, encode_sample(sample))

    def add_members(self, split: SplitName, key: str, members: Mapping[str, bytes]) -> Write:
        """Append a sample that is encoded already, as it is: `add` without a look inside.

        Args:
            split: Where it goes.
            key: Its name in this dataset.
            members: Extension to content.

        Raises:
            ShardError: Its key came before, it is too large or has names that no tar of ours holds, or the storage
                refuses.
        """
        if not self._begun:
            self.carry_on(())
        if key in self._keys:
            raise ShardError(f"sample {key} comes twice; keys must be unique in a dataset")
        length = members_span(members)
        if length > MAX_SAMPLE_BYTES:
            raise ShardError(f"sample {key}: {length} bytes, the most is {MAX_SAMPLE_BYTES}")
        for extension in members:
            name = f"{key}.{extension}"
            if not is_sample_key(key) or not name.isascii() or len(name) > MAX_MEMBER_NAME_BYTES:
                raise ShardError(f"sample {key}: the name {name[:200]!r} does not fit into a plain tar")
        self._keys.add(key)
        state = self._splits.setdefault(split, _Split(split))
        if state.shard is not None and state.shard.length + length + TAR_END_BYTES > self._shard_bytes:
            self._close_shard(state)
        if state.shard is None:
            state.shard = OpenShard(self._folder / _part_name(split, len(state.entries)))
        shard = state.shard
        row = Row(len(state.entries), members_digest(key, members), shard.length, length)
        shard.append(key, members)
        state.rows.append(row)
        return Write(key, split, row.shard, row.offset, row.length, row.digest, shard.sha256)

    def read(self, write: Write) -> Sample:
        """Read back a sample that was added or carried over.

        Raises:
            ShardError: It cannot be read.
        """
        part = self._folder / _part_name(write.split, write.shard)
        url = str(part) if part.exists() else join(self._out, _shard_name(write.split, write.shard))
        with open_read(url) as file:
            file.seek(write.offset)
            return read_sample(*split_members(file.read(write.length)))

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
        return manifest

    def close(self) -> None:
        """Let go of `out`; unfinished shards stay for the next start where `keep_in` was given, else they go."""
        for state in self._splits.values():
            if state.shard is not None and self._leaves_parts:
                state.shard.leave()
            elif state.shard is not None:
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

    def _restore(self, writes: Sequence[Write], found: Verified) -> "_Split":
        """The state after these writes of one split. Its last shard grows again, even if it had been finished."""
        state = _Split(writes[0].split)
        state.rows = [Row(write.shard, write.digest, write.offset, write.length) for write in writes]
        last = writes[-1]
        for shard in range(last.shard):
            size, sha256 = found.closed[state.name, shard]
            samples = sum(write.shard == shard for write in writes)
            state.entries.append(
                ShardEntry(name=_shard_name(state.name, shard), bytes=size, samples=samples, sha256=sha256)
            )
        part = self._folder / _part_name(state.name, last.shard)
        closed = join(self._out, _shard_name(state.name, last.shard))
        if not part.exists():
            local = local_path(closed)
            if local is not None and local.parent.resolve() == self._folder.resolve():
                local.replace(part)
            else:
                with open_read(closed) as source, part.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        samples = sum(write.shard == last.shard for write in writes)
        state.shard = OpenShard(part, length=last.offset + last.length, samples=samples)
        return state

    def _remove_others(self) -> None:
        """Remove what an unfinished job left and this one does not continue."""
        keep = {entry.name for state in self._splits.values() for entry in state.entries}
        for name in list_names(self._out):
            if _OURS.fullmatch(name) and not name.startswith(".") and name not in keep:
                remove(join(self._out, name))
        keep = {state.shard.path.name for state in self._splits.values() if state.shard is not None}
        for folder in {self._folder, local_path(self._out) or self._folder}:
            for name in list_names(str(folder)):
                if _OURS.fullmatch(name) and name.startswith(".") and name not in keep:
                    (folder / name).unlink()

    def _close_shard(self, state: "_Split") -> None:
        shard, state.shard = state.shard, None
        if shard is None:
            return
        name = _shard_name(state.name, len(state.entries))
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
        self.shard: OpenShard | None = None
        self.entries: list[ShardEntry] = []
        self.rows: list[Row] = []


def _shard_name(split: SplitName, shard: int) -> str:
    return f"{split}-{shard:06d}.tar"


def _part_name(split: SplitName, shard: int) -> str:
    return f".{_shard_name(split, shard)}.part"


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
    except OSError as error:
        raise ShardError(f"{lock.lock_file}: cannot lock it ({error.strerror}); remove it or set TMPDIR") from error
    return lock
