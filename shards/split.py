"""Which split each picture of a collection goes to, before anything of it is prepared.

A picture whose source names no split is drawn by a hash of its name alone, so adding pictures moves none of the old
ones. Near-duplicates go together: their group is drawn by its smallest name, or follows a member whose split is given.

Usage:

    plan = plan_splits(items, groups=[[3, 17]], val_share=0.1)
    plan.splits[3] == plan.splits[17]
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shards.errors import DataError
from shards.manifest import SplitName
from shards.names import printable
from shards.randomness import digest_key
from shards.sources import Item

__all__ = ["SplitPlan", "draw_split", "plan_splits"]


@dataclass(frozen=True)
class SplitPlan:
    """Where each item goes.

    Args:
        splits: One an item.
        may_fill: Items, by number, that may be put into a split which would stay empty: drawn and like no other.
        leaking: Items to leave out, given to train, to the name of the near-duplicate given to val.
    """

    splits: list[SplitName]
    may_fill: frozenset[int]
    leaking: dict[int, str]


def draw_split(name: str, val_share: float) -> SplitName:
    """The split of a picture whose source has none: `val` with probability `val_share`, by a hash of its name."""
    return "val" if int.from_bytes(digest_key("split", name)[:8], "big") < val_share * 2**64 else "train"


def plan_splits(items: Sequence[Item], groups: Sequence[Sequence[int]], val_share: float) -> SplitPlan:
    """Give each item its split.

    Args:
        items: In any order; their names decide.
        groups: Numbers of items that show the same; an item is in one group at most.
        val_share: Share of the drawn pictures, or groups, that goes to val.

    Raises:
        DataError: A source gave a split of another name.
    """
    given = [_given_split(item) for item in items]
    splits = [split or draw_split(printable(item.name), val_share) for item, split in zip(items, given, strict=True)]
    drawn = {number for number, split in enumerate(given) if split is None}
    leaking: dict[int, str] = {}
    for group in groups:
        names = {number: printable(items[number].name) for number in group}
        in_val = [names[number] for number in group if given[number] == "val"]
        is_given = any(given[number] for number in group)
        whole = ("val" if in_val else "train") if is_given else draw_split(min(names.values()), val_share)
        for number in group:
            if given[number] is None:
                splits[number] = "val" if whole == "val" else "train"
            elif given[number] == "train" and in_val:
                leaking[number] = min(in_val)
        drawn.difference_update(group)
    return SplitPlan(splits, frozenset(drawn), leaking)


def _given_split(item: Item) -> SplitName | None:
    if item.split is None:
        return None
    if item.split == "train":
        return "train"
    if item.split == "val":
        return "val"
    raise DataError(f"{printable(item.name)}: the source names the split {item.split!r}; there are train and val")
