"""What every raw collection offers: a cheap, sorted list of items, and the pictures of each.

Usage:

    source = open_source(config.source)
    for item in source.items():
        loaded = source.load(item)          # a StereoPair to match, or a LabelledPicture
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:  # settings and help do without arrays
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Item", "LabelledPicture", "ReportsLeftovers", "Source", "StereoPair"]


@dataclass(frozen=True)
class Item:
    """One picture of a collection, before anything is decoded.

    Args:
        name: The left or only picture, relative to the source, with `/`; unique in the source.
        split: `train` or `val` where the source says so; None lets packing draw it from the name.
        partner: The other eye's file, where that is another file.
        labels: Where the collection keeps its labels: files, or a list and the place in it.
    """

    name: str
    split: str | None = None
    partner: str | None = None
    labels: tuple[str, ...] = ()


@dataclass
class StereoPair:
    """Two decoded pictures, in the order of the source.

    Args:
        left: uint8 (H, W, 3) RGB, upright.
        right: uint8 (H, W, 3) RGB, upright.
        left_jpeg: The bytes of `left` where they may be stored unchanged.
        right_jpeg: The bytes of `right` where they may be stored unchanged.
        left_sky: bool (H, W), where `left` shows sky, as far as the source says.
        right_sky: The same of `right`.
        meta: What the source knows of the pair (author, licence, camera); goes into the sample's JSON.
    """

    left: "NDArray[np.uint8]"
    right: "NDArray[np.uint8]"
    left_jpeg: bytes | None = None
    right_jpeg: bytes | None = None
    left_sky: "NDArray[np.bool_] | None" = None
    right_sky: "NDArray[np.bool_] | None" = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass
class LabelledPicture:
    """A picture whose depth or order the collection itself gives.

    Args:
        image: uint8 (H, W, 3) RGB, upright.
        jpeg: Its bytes where they may be stored unchanged.
        codes: uint16 (H, W) relative inverse depth as stored (`shards.disparity`), larger = nearer, 0 = unknown; None
            where the collection knows pairs only.
        coding: What the codes mean, from the function that made them.
        pairs: int32 (N, 5) `y_a, x_a, y_b, x_b, relation` of zero-based pixels, where the collection gives pairs; else
            they are drawn from the codes. Points may lie outside: they are left out and counted.
        pairs_hw: Height and width of the picture that `pairs` count in, where that is not `image`.
        tolerance_kind: What makes two values of `codes` equally far (`shards.pairs.Tolerance`): a `ratio` where their
            zero is that of inverse depth, else a share of their `range`.
        meta: What the source knows of the picture (author, licence, camera); goes into the sample's JSON.
    """

    image: "NDArray[np.uint8]"
    jpeg: bytes | None = None
    codes: "NDArray[np.uint16] | None" = None
    coding: dict[str, Any] | None = None
    pairs: "NDArray[np.int32] | None" = None
    pairs_hw: tuple[int, int] | None = None
    tolerance_kind: Literal["ratio", "range"] = "range"
    meta: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """An adapter for one raw layout; picklable, so that any process can load an item."""

    def items(self) -> list[Item]:
        """All items, sorted by name, without decoding any.

        Raises:
            SourceError: The collection is missing or holds no item.
        """
        ...

    def load(self, item: Item) -> StereoPair | LabelledPicture:
        """Decode one item.

        Raises:
            DecodeError: It cannot be decoded or breaks a bound.
        """
        ...


@runtime_checkable
class ReportsLeftovers(Protocol):
    """A source that can name what it passed over while listing."""

    def leftovers(self) -> dict[str, list[str]]:
        """Reason -> sorted names of files that belong to no pair."""
        ...
