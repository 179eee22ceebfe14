"""Smaller training sets: a share of a dataset's training pictures, drawn by a hash of their names.

    names = left_out(["a", "b", "c", "d"], 0.5)      # the others train
    write_subset("runs/study/shards/cleaned", "runs/study/shards/half", 0.5)

The pictures of a smaller share are among those of a larger one.
"""

from collections.abc import Sequence

from shards.errors import ShardError
from shards.manifest import MANIFEST_NAME, read_manifest
from shards.randomness import digest_key
from shards.reading import stored_samples
from shards.rearrange import ByList, parent, split_dataset
from shards.storage import exists, join, shown

__all__ = ["is_drawn", "left_out", "write_subset"]

_SHARD_BYTES = 256 * 1024**2


def left_out(keys: Sequence[str], share: float) -> list[str]:
    """The keys that a share of the pictures leaves out, at least one; at least one stays.

    Raises:
        ValueError: There are not two.
    """
    if len(keys) < 2:
        raise ValueError(f"{len(keys)} training pictures cannot be made fewer")
    ranked = sorted(keys, key=lambda key: digest_key("study subset", key))
    kept = min(max(1, round(share * len(ranked))), len(ranked) - 1)
    return ranked[kept:]


def is_drawn(url: str, out: str) -> bool:
    """Whether a subset of the dataset at `url` lies at `out`.

    Raises:
        ShardError: One of another dataset lies there, such as of an earlier packing.
    """
    if not exists(join(out, MANIFEST_NAME)):
        return False
    if read_manifest(out).config.get("parents") != [parent(read_manifest(url))]:
        raise ShardError(
            f"{shown(out)} was drawn from another dataset than {shown(url)} now is; delete {shown(out)}, or start a "
            "new study with --out FOLDER"
        )
    return True


def write_subset(url: str, out: str, share: float) -> int:
    """Write a dataset whose split `train` is a share of another's; what is left out, and its `val`, become `val`.

    Returns:
        The number of training pictures.

    Raises:
        ShardError: The dataset is damaged, or `out` holds another one.
    """
    manifest = read_manifest(url)
    keys = {
        split: [stored.key for stored in stored_samples(url, split, entry)] for split, entry in manifest.splits.items()
    }
    elsewhere = [*left_out(keys["train"], share), *keys.get("val", [])]
    made = split_dataset(url, out, ByList(elsewhere), shard_bytes=_SHARD_BYTES)
    return made.manifest.splits["train"].samples
