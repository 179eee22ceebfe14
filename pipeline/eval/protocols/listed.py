"""What the protocols of DIW, NYUDv2 and DA-2K share: pictures of a raw collection whose lists give them pairs.

listed = ListedPictures(source)
loaded = listed.load(0)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.protocols.base import labels_size
from shards.errors import DecodeError
from shards.names import printable
from shards.sources.base import LabelledPicture, ReportsLeftovers, Source

__all__ = ["ListedPicture", "ListedPictures", "points_of"]

_IN_VAIN = frozenset({"unlabelled", "hidden"})  # what no list names is no picture of the benchmark


class ListedPicture(NamedTuple):
    """A picture with pairs."""

    name: str
    image: NDArray[np.uint8]
    size_hw: tuple[int, int]
    """Of the picture that the pairs count in."""
    pairs: NDArray[np.int32]
    """(P, 5), all inside of `size_hw`."""
    meta: dict[str, object]


class ListedPictures:
    """The pictures of a source, in its order.

    Raises:
        SourceError: the collection or its list is missing or of another format.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._items = source.items()

    def __len__(self) -> int:
        return len(self._items)

    def name(self, index: int) -> str:
        """Name of a picture."""
        return printable(self._items[index].name)

    def load(self, index: int) -> ListedPicture:
        """Decode a picture and its pairs.

        Raises:
            DecodeError: it cannot be decoded, its labels are those of another shape, or a point lies outside.
        """
        name, picture = self.name(index), self._source.load(self._items[index])
        if not isinstance(picture, LabelledPicture) or picture.pairs is None:
            raise DecodeError(f"{name}: has no pairs", "no_pairs")
        size_hw = labels_size(picture.image, picture.pairs_hw, name)
        points = points_of(picture.pairs)
        if (points < 0).any() or (points >= size_hw).any():
            raise DecodeError(f"{name}: a point lies outside of its {size_hw[1]}x{size_hw[0]} pixels", "point_outside")
        return ListedPicture(name, picture.image, size_hw, picture.pairs, dict(picture.meta))

    def passed_over(self) -> list[str]:
        """What the lists name in vain, a line for each reason with its number and the first one."""
        leftovers = self._source.leftovers() if isinstance(self._source, ReportsLeftovers) else {}
        return [
            f"not evaluated, {reason}: {len(names)}, such as {names[0]}"
            for reason, names in sorted(leftovers.items())
            if reason not in _IN_VAIN
        ]


def points_of(pairs: NDArray[np.int32]) -> NDArray[np.int64]:
    """(P, 2, 2) y and x of A and of B."""
    return pairs[:, :4].astype(np.int64).reshape(-1, 2, 2)
