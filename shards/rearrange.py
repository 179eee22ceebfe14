"""New datasets from finished ones, the samples copied as they are: carve train and val anew, or join several.

Nothing is decoded and encoded again; only the members' names change where a prefix is asked for. The manifest records
the parents.

    split_dataset("runs/all", "runs/carved", ByShare(0.1))
    merge_datasets(["runs/a", "runs/b"], "runs/both", prefixes=["a-", "b-"])
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shards.config import ShardsConfig
from shards.duplicates import Look, groups, look
from shards.errors import DecodeError, ShardError
from shards.format import decode_jpeg, read_sample
from shards.manifest import Manifest, SplitName, read_manifest
from shards.names import is_sample_key, printable
from shards.reading import StoredSample, stored_samples
from shards.split import draw_split
from shards.storage import shown
from shards.writer import DatasetWriter

__all__ = ["ByList", "ByShare", "Rearranged", "merge_datasets", "parent", "split_dataset"]

Progress = Callable[[str, int, int], None]
"""Called with: what is done, samples done, samples in all."""
_SAME_BITS = ShardsConfig().near_duplicate_bits  # as in packing
_NAMED = 3
_FOR_A_LOOK = ("jpg", "json")


@dataclass(frozen=True)
class ByShare:
    """Draw val by a hash of each picture's name, as packing does; near-duplicates go together."""

    val_share: float


@dataclass(frozen=True)
class ByList:
    """Put into val what is listed, by key or by the name of the picture."""

    names: Sequence[str]


@dataclass(frozen=True)
class Rearranged:
    """What was made.

    Args:
        manifest: Of the new dataset.
        straddling: Pictures of train that look like one of val, first one the name in train: they flatter validation.
    """

    manifest: Manifest
    straddling: list[tuple[str, str]]


@dataclass(frozen=True)
class _Seen:
    """What of a sample decides where it goes."""

    key: str
    name: str
    split: SplitName
    look: Look | None


def split_dataset(
    url: str, out: str, rule: ByShare | ByList, *, shard_bytes: int, progress: Progress | None = None
) -> Rearranged:
    """Write the samples of a dataset to `out` with train and val drawn anew.

    Args:
        url: The dataset; its samples keep their order, those of train first.
        out: Folder or fsspec URL of the new one.
        rule: What goes to val.
        shard_bytes: A shard is closed before it grows beyond this.
        progress: Called after each sample.

    Raises:
        ShardError: The dataset is damaged, a listed name is not in it, a split would be empty, or `out` holds another
            dataset.
    """
    manifest = read_manifest(url)
    seen = list(_look_through(url, manifest, progress))
    splits = _by_list(seen, rule.names) if isinstance(rule, ByList) else _by_share(seen, rule.val_share)
    wanted_empty = isinstance(rule, ByShare) and rule.val_share == 0
    missing = {"train", "val"} - set(splits)
    if missing - ({"val"} if wanted_empty else set()):
        raise ShardError(
            f"{shown(url)}: no sample would go to {missing.pop()} (of {len(seen)}); choose another share or list"
        )
    how: dict[str, Any] = (
        {"val_share": rule.val_share} if isinstance(rule, ByShare) else {"val_listed": len(rule.names)}
    )
    config = {"made_by": "split", **how, "parents": [parent(manifest)]}
    goes_to = iter(splits)
    with DatasetWriter(out, shard_bytes=shard_bytes, config=config) as writer:
        for done, stored in enumerate(_all_samples(url, manifest), start=1):
            writer.add_members(next(goes_to), stored.key, stored.members)
            if progress is not None:
                progress("copied", done, len(seen))
        made = writer.finish(manifest.rejects)
    return Rearranged(made, _straddling(seen, splits))


def merge_datasets(
    urls: Sequence[str],
    out: str,
    *,
    shard_bytes: int,
    prefixes: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Rearranged:
    """Join datasets into a new one at `out`: the samples of the first, then of the second, split by split.

    Args:
        urls: Two datasets or more.
        out: Folder or fsspec URL of the new one.
        shard_bytes: A shard is closed before it grows beyond this.
        prefixes: One a dataset, put before its keys; for datasets that have keys in common.
        progress: Called after each sample.

    Raises:
        ShardError: A dataset is damaged, two have a key in common, or `out` holds another dataset.
    """
    prefixes = [""] * len(urls) if prefixes is None else prefixes
    if len(prefixes) != len(urls):
        raise ShardError(f"there are {len(prefixes)} prefixes for {len(urls)} datasets; give one each")
    for prefix in prefixes:
        if prefix and not is_sample_key(prefix):
            raise ShardError(f"prefix {prefix[:100]!r}: a key is made of a-z 0-9 _ -")
    manifests = [read_manifest(url) for url in urls]
    _refuse_common_keys(urls, manifests, prefixes)
    total = sum(split.samples for manifest in manifests for split in manifest.splits.values())
    rejects: Counter[str] = Counter()
    for manifest in manifests:
        rejects.update(manifest.rejects)
    parents = [parent(manifest, prefix) for manifest, prefix in zip(manifests, prefixes, strict=True)]
    seen: list[_Seen] = []
    with DatasetWriter(out, shard_bytes=shard_bytes, config={"made_by": "merge", "parents": parents}) as writer:
        for url, manifest, prefix in zip(urls, manifests, prefixes, strict=True):
            for stored in _all_samples(url, manifest):
                writer.add_members(stored.split, prefix + stored.key, stored.members)
                seen.append(_seen(stored))
                if progress is not None:
                    progress("copied", len(seen), total)
        made = writer.finish(rejects)
    return Rearranged(made, _straddling(seen, [sample.split for sample in seen]))


def _all_samples(url: str, manifest: Manifest) -> Iterator[StoredSample]:
    for split, entry in sorted(manifest.splits.items()):
        yield from stored_samples(url, split, entry)


def _look_through(url: str, manifest: Manifest, progress: Progress | None) -> Iterator[_Seen]:
    total = sum(split.samples for split in manifest.splits.values())
    for done, stored in enumerate(_all_samples(url, manifest), start=1):
        yield _seen(stored)
        if progress is not None:
            progress("looked at", done, total)


def _seen(stored: StoredSample) -> _Seen:
    sample = read_sample(stored.key, {name: stored.members[name] for name in stored.members if name in _FOR_A_LOOK})
    try:
        seen = look(decode_jpeg(sample.image))
    except DecodeError as error:
        raise ShardError(f"sample {stored.key}: {error}; `--verify` lists all damage") from error
    return _Seen(stored.key, printable(str(sample.meta.get("name", stored.key))), stored.split, seen)


def _by_share(seen: Sequence[_Seen], val_share: float) -> list[SplitName]:
    splits = [draw_split(sample.name, val_share) for sample in seen]
    for group in groups([sample.look for sample in seen], _SAME_BITS):
        whole = draw_split(min(seen[number].name for number in group), val_share)
        for number in group:
            splits[number] = whole
    return splits


def _by_list(seen: Sequence[_Seen], names: Sequence[str]) -> list[SplitName]:
    listed = set(names)
    splits: list[SplitName] = ["val" if {sample.key, sample.name} & listed else "train" for sample in seen]
    unknown = sorted(listed - {sample.key for sample in seen} - {sample.name for sample in seen})
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        raise ShardError(
            f"{len(unknown)} of the {len(listed)} listed names are neither a key nor a picture's name in the dataset: "
            f"{', '.join(printable(name[:100]) for name in unknown[:_NAMED])}{more}"
        )
    return splits


def _straddling(seen: Sequence[_Seen], splits: Sequence[SplitName]) -> list[tuple[str, str]]:
    found = []
    for group in groups([sample.look for sample in seen], _SAME_BITS):
        in_val = [number for number in group if splits[number] == "val"]
        found += [(seen[number].name, seen[in_val[0]].name) for number in group if in_val and splits[number] == "train"]
    return found


def _refuse_common_keys(urls: Sequence[str], manifests: Sequence[Manifest], prefixes: Sequence[str]) -> None:
    """Before anything is written: the error names the first key that comes twice."""
    owner: dict[str, str] = {}
    for url, manifest, prefix in zip(urls, manifests, prefixes, strict=True):
        for stored in _all_samples(url, manifest):
            key = prefix + stored.key
            if key in owner:
                raise ShardError(
                    f"sample {key} is in {shown(owner[key])} and in {shown(url)}; give each dataset a prefix "
                    "(--prefixes a-,b-), or merge each only once"
                )
            owner[key] = url


def parent(manifest: Manifest, prefix: str = "") -> dict[str, Any]:
    """What the manifest of a dataset made from others keeps of one of them."""
    known: dict[str, Any] = {"fingerprint": manifest.fingerprint, "config": manifest.config}
    return known | ({"prefix": prefix} if prefix else {})
