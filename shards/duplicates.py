"""Near-duplicates: the same photograph in another size, quality or crop, found before the split is drawn.

Each picture is reduced to 64 bits (is a cell brighter than its left neighbour?) and a 12 × 12 thumbnail of its detail.
Two pictures are the same where few bits differ and the thumbnails correlate: bits alone mistake any bright ball on
black for any other. Comparing is one matrix product a block, so 50,000 pictures take seconds.

Usage:

    looks = [look(rgb) for rgb in pictures]
    groups(looks, 16)       # [[3, 17], [5, 6, 9]]: numbers of pictures that show the same
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.config import PackConfig
from shards.errors import DecodeError
from shards.images import picture_box, read_picture, scale_down
from shards.prepare import opened_source
from shards.sources import Item, LabelledPicture
from shards.sources.files import Files

__all__ = ["Look", "groups", "look", "look_at"]

_MIN_CORRELATION = 0.7  # of 266 wild pictures: the same ones 0.91 to 1.0, other ones within 18 bits at most 0.52
_SCAN_SIDE_PX = 128  # what a JPEG is decoded to at least
_DETAIL_SIDE = 12
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Look:
    """What remains of a picture for comparing it.

    Args:
        bits: bool (64,), an 8 × 8 grid: whether a cell is brighter than its left neighbour.
        detail: float32 (144,), a 12 × 12 thumbnail less its blurred self, of zero mean and unit length (zeros: flat).
    """

    bits: NDArray[np.bool_]
    detail: NDArray[np.float32]


def look_at(item: Item, config: PackConfig) -> Look | None:
    """The look of an item's left or only picture; None where it cannot be decoded, which packing will say.

    Where the item is named after a file, that file alone is read, and a JPEG at a fraction of its size; the first
    frame of several, or both halves side by side, tell a picture as well as its left eye does.
    """
    source = opened_source(config.source)
    files: Files | None = getattr(source, "files", None)
    if files is not None:
        try:
            return look(read_picture(files.read(item.name), draft_px=_SCAN_SIDE_PX))
        except DecodeError:  # no file of this name, or a picture that only the source knows how to read
            pass
    try:
        loaded = source.load(item)
    except DecodeError:
        return None
    return look(loaded.image if isinstance(loaded, LabelledPicture) else loaded.left)


def look(picture: NDArray[np.uint8]) -> Look:
    """Reduce uint8 (H, W, 3) RGB, without the black frame that it may have."""
    picture = scale_down(picture, 2 * _SCAN_SIDE_PX)
    y, x, height, width = picture_box(picture)
    grey = Image.fromarray(cv2.cvtColor(picture[y : y + height, x : x + width], cv2.COLOR_RGB2GRAY))
    cells = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    small = np.asarray(grey.resize((_DETAIL_SIDE, _DETAIL_SIDE), Image.Resampling.BOX)).astype(np.float32)
    detail = (small - cv2.blur(small, (5, 5))).ravel()
    detail -= detail.mean()
    length = float(np.linalg.norm(detail))
    if length < _DETAIL_SIDE:  # a grey level a cell: noise and rounding
        return Look((cells[:, 1:] > cells[:, :-1]).ravel(), np.zeros_like(detail))
    return Look((cells[:, 1:] > cells[:, :-1]).ravel(), detail / np.float32(length))


def groups(looks: Sequence[Look | None], max_bits: int) -> list[list[int]]:
    """Groups of two and more pictures that show the same, directly or through others.

    Args:
        looks: One a picture; None belongs to no group.
        max_bits: Of the 64 bits, the most that may differ.

    Returns:
        Sorted numbers of pictures, groups in the order of their first.
    """
    numbers = [number for number, seen in enumerate(looks) if seen is not None]
    known = [seen for seen in looks if seen is not None]
    if len(known) < 2:
        return []
    signs = np.array([seen.bits for seen in known], dtype=np.float32) * 2 - 1
    details = np.array([seen.detail for seen in known])
    parents = list(range(len(known)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    for start in range(0, len(known), _BLOCK):
        block = signs[start : start + _BLOCK]
        near = block @ signs[start:].T >= 64 - 2 * max_bits  # exact: sums of 64 ones in float32
        for a, b in zip(*np.nonzero(np.triu(near, 1)), strict=True):
            first, second = int(start + a), int(start + b)
            if details[first] @ details[second] >= _MIN_CORRELATION:
                parents[root(second)] = root(first)
    members: dict[int, list[int]] = {}
    for number in range(len(known)):
        members.setdefault(root(number), []).append(numbers[number])
    return sorted(group for group in members.values() if len(group) > 1)
