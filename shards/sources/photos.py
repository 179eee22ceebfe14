"""Photographs as paint for rendered worlds: each a pyramid of halvings, so that it does not flicker where it is far.

photos = Photos("pictures")
rgb = sample(photos.pyramid(3), x, y, footprint)  # (3, N)
"""

from functools import cached_property
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.errors import SourceError
from shards.images import picture_box, read_picture, scale_down
from shards.names import printable
from shards.sources.files import open_files
from shards.sources.primitives import Floats
from shards.storage import shown

__all__ = ["Photos", "Pyramid", "sample"]

Pyramid = tuple[NDArray[np.uint8], ...]
"""A picture (h, w, 3) and its halvings, down to a short side of a few pixels."""
EXTENSIONS = (".jpg", ".jpeg", ".png")
LONG_SIDE_PX = 384
COARSEST_PX = 4
MOST_KEPT = 256


class Photos:
    """The photographs of a collection (a folder, an archive, an fsspec URL), by their number in the order of names.

    The last ones that were read are kept, half a megabyte each.

    Raises:
        SourceError: An archive of a kind in which no member can be read alone.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._files = open_files(path)
        self._read: dict[int, Pyramid] = {}

    @cached_property
    def names(self) -> list[str]:
        """Their file names, sorted.

        Raises:
            SourceError: No such collection, or no photograph in it.
        """
        found = [name for name in self._files.listing().names if PurePosixPath(name).suffix.lower() in EXTENSIONS]
        if not found:
            raise SourceError(f"source.photos: no {', '.join(EXTENSIONS)} in {printable(shown(self._path))}")
        return sorted(found)

    def pyramid(self, number: int) -> Pyramid:
        """Photograph number `number`.

        Raises:
            DecodeError: It cannot be decoded; the message names it.
        """
        if number not in self._read:
            name = self.names[number]
            picture = read_picture(self._files.read(name), name=printable(name))
            top, left, height, width = picture_box(picture)  # a black frame is no paint
            levels = [scale_down(picture[top : top + height, left : left + width], LONG_SIDE_PX)]
            while min(levels[-1].shape[:2]) >= 2 * COARSEST_PX:
                height, width = levels[-1].shape[:2]
                half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
                levels.append(np.asarray(half, dtype=np.uint8))
            if len(self._read) == MOST_KEPT:
                self._read.pop(next(iter(self._read)))
            self._read[number] = tuple(levels)
        return self._read[number]


def sample(pyramid: Pyramid, x: Floats, y: Floats, footprint: Floats) -> Floats:
    """Colours (3, N), 0..1, of a photograph that covers the plane and is mirrored at its edges.

    Args:
        pyramid: The photograph.
        x: (N,) to the right, in heights of the photograph.
        y: (N,) downwards, the same.
        footprint: (N,) side of the square that is averaged, the same.
    """
    level = np.log2(np.maximum(footprint * pyramid[0].shape[0], 1)) + 0.5
    level = np.clip(level, 0, len(pyramid) - 1).astype(np.int32)
    aspect = pyramid[0].shape[1] / pyramid[0].shape[0]
    x, y = _mirrored(x / np.float32(aspect)), _mirrored(y)
    rgb = np.empty((3, x.size), dtype=np.float32)
    for number, picture in enumerate(pyramid):
        here = np.flatnonzero(level == number)
        if here.size:
            rgb[:, here] = _between_pixels(picture, x[here], y[here])
    return rgb


def _mirrored(along: Floats) -> Floats:
    """Places on an endless row of pictures, every other of them mirrored, as places 0..1 of one."""
    folded: Floats = np.abs(along - 2 * np.floor(along / 2 + 0.5))
    return folded


def _between_pixels(picture: NDArray[np.uint8], x: Floats, y: Floats) -> Floats:
    """Bilinear colours (3, N), 0..1, at places 0..1 of a picture."""
    places = []
    for along, side in ((y, picture.shape[0]), (x, picture.shape[1])):
        pixel = np.clip(along * side - 0.5, 0, side - 1)
        first = np.minimum(pixel.astype(np.int32), max(side - 2, 0))
        places.append((first, np.minimum(first + 1, side - 1), (pixel - first)[:, None]))
    (top, bottom, down), (left, right, across) = places
    above = picture[top, left] * (1 - across) + picture[top, right] * across
    below = picture[bottom, left] * (1 - across) + picture[bottom, right] * across
    rgb: Floats = ((above * (1 - down) + below * down) / 255).T
    return rgb
