"""Makes foreign WebDataset tars a dataset: an index a split and a manifest beside them, the tars untouched.

The tars need the members of our format (`jpg`, `json`, and `disparity.png` or `pairs.npy`), each sample's side by side.
Tars named `val...` become the split `val`, all others `train`.

    report = reindex("s3://bucket/foreign")
"""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from shards.errors import DecodeError, ShardError
from shards.format import decode_jpeg, read_sample
from shards.index import ROW, Row, TarSample, encode_index, iter_samples, members_digest
from shards.manifest import (
    MANIFEST_NAME,
    PLAIN_NAME,
    IndexEntry,
    Manifest,
    ShardEntry,
    SplitEntry,
    SplitName,
    publish_manifest,
)
from shards.names import printable
from shards.reading import HashedStream
from shards.review_entries import PREVIEWS_NAME
from shards.storage import exists, join, list_names, open_read, publish_bytes, read_bytes, shown

__all__ = ["ReindexReport", "reindex", "split_of_tar"]

Progress = Callable[[str, int], None]
"""Called with: name of the tar, samples found in all."""
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_INDEX_START = b"DRINDEX\0"


@dataclass
class ReindexReport:
    """What was indexed.

    Args:
        manifest: Of the new dataset.
        left_out: Samples that are in the tars but not in the index: `TAR: KEY: why`, a line each.
    """

    manifest: Manifest
    left_out: list[str]


@dataclass
class _SplitParts:
    entries: list[ShardEntry] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def reindex(url: str, progress: Progress | None = None) -> ReindexReport:
    """Index the tars at `url` and write the manifest.

    A sample that no reader would take is left out of the index and counted in the manifest; a tar that is damaged or
    cannot be followed stops the work.

    Args:
        url: Folder or fsspec URL that can be written.
        progress: Called after each sample.

    Raises:
        ShardError: There is a manifest already, no tar, or one that cannot be used; a key comes twice; or nothing in
            the tars is a sample.
    """
    names = _tar_names(url)
    parts: dict[SplitName, _SplitParts] = {}
    keys: dict[str, str] = {}
    left_out: list[str] = []
    reasons: Counter[str] = Counter()
    for name in names:
        split = split_of_tar(name)
        into = parts.get(split, _SplitParts())
        rows = []
        with closing(open_read(join(url, name))) as file:
            stream = HashedStream(file, join(url, name))
            try:
                for sample in iter_samples(stream):
                    fault = _fault(sample)
                    if fault is not None:
                        reasons["unreadable"] += 1
                        left_out.append(f"{name}: {fault}")
                        continue
                    if sample.key in keys:
                        raise ShardError(
                            f"sample {sample.key} is in {keys[sample.key]} as well; keys must be unique in a dataset, "
                            "so rename the members, or put these tars in folders of their own and join them by "
                            "--merge with --prefixes"
                        )
                    keys[sample.key] = name
                    digest = members_digest(sample.key, sample.members)
                    rows.append(Row(len(into.entries), digest, sample.offset, sample.length))
                    if progress is not None:
                        progress(name, len(keys))
                _only_zeros_follow(stream)
            except ShardError as error:
                raise ShardError(f"{shown(join(url, name))}: {error}") from error
            size, digest_hex = stream.finish()
        if rows:
            into.entries.append(ShardEntry(name=name, bytes=size, samples=len(rows), sha256=digest_hex))
            into.rows += rows
            parts[split] = into
    if not parts:
        first = f"; the first: {left_out[0]}" if left_out else ""
        raise ShardError(f"{shown(url)}: its {len(names)} tars hold no sample that can be read{first}")
    manifest = _publish(url, parts, names, reasons)
    return ReindexReport(manifest, left_out)


def split_of_tar(name: str) -> SplitName:
    """The split of a tar by its name: `val...` is val, anything else train.

    Raises:
        ShardError: It is called `test...`, which must not end in the training set.
    """
    if name.lower().startswith("test"):
        raise ShardError(
            f"{name}: a dataset has the splits train and val; rename it to val-... if it shall measure the training, "
            "or move it to a folder of its own"
        )
    return "val" if name.lower().startswith("val") else "train"


def _tar_names(url: str) -> list[str]:
    """The tars to index, checked; in the order of their names."""
    if exists(join(url, MANIFEST_NAME)):
        raise ShardError(
            f"{shown(url)} has a manifest, so it is indexed already; `--verify` checks it, and to index it anew remove "
            f"{MANIFEST_NAME} first"
        )
    found = list_names(url)
    names = [name for name in found if name.endswith(".tar") and not name.startswith(".") and name != PREVIEWS_NAME]
    compressed = [name for name in found if name.endswith(_COMPRESSED)]
    if compressed:
        raise ShardError(
            f"{shown(url)}: {printable(compressed[0])} is compressed ({len(compressed)} such files); samples are read "
            "by their place, so unpack it first (`gunzip`, `bunzip2`, `unxz` or `unzstd`)"
        )
    if not names:
        raise ShardError(f"{shown(url)}: there is no .tar file here")
    for name in names:
        if not PLAIN_NAME.fullmatch(name):
            raise ShardError(
                f"{shown(url)}: {printable(name)}: a tar is named with A-Z a-z 0-9 . _ - and 128 characters at most; "
                "rename it"
            )
    for name in ("train.index", "val.index"):
        if name in found and not read_bytes(join(url, name), 1 << 32).startswith(_INDEX_START):
            raise ShardError(f"{shown(join(url, name))}: a file of this name is here, which is no index; move it away")
    return names


def _fault(sample: TarSample) -> str | None:
    """Why no reader would take this sample; None where all is well."""
    try:
        read = read_sample(sample.key, sample.members)
        decode_jpeg(read.image)
    except (ShardError, DecodeError) as error:
        text = str(error)
        return text if text.startswith("sample ") else f"sample {sample.key}: {text}"
    if read.disparity is None and not len(read.pairs):
        return f"sample {sample.key}: it has neither disparity.png nor pairs.npy, so nothing can be learned from it"
    return None


def _only_zeros_follow(stream: HashedStream) -> None:
    while data := stream.read(1 << 20):
        if data.strip(b"\0"):
            raise ShardError("there is more behind its end mark (two tars in one file?); pack it again")


def _publish(url: str, parts: dict[SplitName, _SplitParts], names: list[str], reasons: Counter[str]) -> Manifest:
    splits: dict[SplitName, SplitEntry] = {}
    for split, part in sorted(parts.items()):
        data = encode_index(np.array(part.rows, dtype=ROW))
        index = IndexEntry(name=f"{split}.index", bytes=len(data), sha256=sha256(data).hexdigest())
        publish_bytes(join(url, index.name), data)
        splits[split] = SplitEntry(samples=len(part.rows), shards=part.entries, index=index)
    manifest = Manifest(splits=splits, config={"made_by": "reindex", "tars": len(names)}, rejects=dict(reasons))
    publish_manifest(url, manifest)
    return manifest
