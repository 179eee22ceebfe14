"""What became of an item: a sample, or a reason and the figures behind it."""

from dataclasses import dataclass, field
from typing import Any

from shards.format import Sample
from shards.sources import Item

__all__ = ["Prepared"]


@dataclass(frozen=True)
class Prepared:
    """What became of an item.

    Args:
        item: Of the source.
        sample: None where it was left out.
        reason: Why it was left out, one word.
        figures: Numbers behind the verdict.
        preview: JPEG of both eyes and the disparity side by side, for review; None where nothing was decoded.
    """

    item: Item
    sample: Sample | None = None
    reason: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    preview: bytes | None = None
