"""ReDWeb_V1 (Xian et al., CVPR 2018): web pictures with dense relative depth.

    Imgs/NAME.jpg      the left picture
    RDs/NAME.png       8-bit grey of the same size, larger = farther, 255 in the sky

The paper labels a pair by the ratio of the stored values g (Eq. 1), so the code is 256 - g and inverse depth is 1 / g:
a ratio of the one is a ratio of the other, exactly. The maps mark nothing as unknown, so g = 0 is the nearest there is:
equally far as another 0 and nearer than all else, as in the paper's ratio.

    source = RedwebSource(RedwebSourceConfig(kind="redweb", path="ReDWeb_V1"))
"""

from functools import cached_property

import numpy as np

from shards.errors import DecodeError, SourceError
from shards.images import original_jpeg, read_picture
from shards.maps import read_levels
from shards.names import printable
from shards.sources.base import Item, LabelledPicture
from shards.sources.config import RedwebSourceConfig
from shards.sources.files import open_files
from shards.sources.patterns import group_files

__all__ = ["RedwebSource"]

_PATTERNS = [("Imgs/{name}.jpg", "RDs/{name}.png")]


class RedwebSource:
    """The pictures of ReDWeb_V1; see `shards.sources.base.Source`."""

    def __init__(self, config: RedwebSourceConfig) -> None:
        self.config = config
        self.files = open_files(config.path)

    def items(self) -> list[Item]:
        """All pictures that have a map, sorted.

        Raises:
            SourceError: No such collection, or no picture with a map in it.
        """
        return list(self._listing[0])

    def leftovers(self) -> dict[str, list[str]]:
        """Reason -> names of what belongs to no picture with a map."""
        return self._listing[1]

    def load(self, item: Item) -> LabelledPicture:
        """Decode a picture and its map.

        Raises:
            DecodeError: One of them cannot be decoded or breaks a bound; the message names it.
        """
        data = self.files.read(item.name)
        (map_name,) = item.labels
        levels = read_levels(self.files.read(map_name), name=printable(map_name))
        if levels.max() > 255:
            raise DecodeError(f"{printable(map_name)}: values up to {levels.max()}; the maps of ReDWeb have 8 bits")
        codes = 256 - levels
        if self.config.zero == "unknown":
            codes[levels == 0] = 0
        return LabelledPicture(
            image=read_picture(data, name=printable(item.name)),
            jpeg=original_jpeg(data),
            codes=codes.astype(np.uint16),
            coding={"kind": "reciprocal", "scale": -1.0, "offset": 256.0},
            tolerance_kind="ratio",
        )

    @cached_property
    def _listing(self) -> tuple[list[Item], dict[str, list[str]]]:
        listing = self.files.listing()
        groups, leftovers = group_files(listing.names, _PATTERNS)
        if not groups:
            raise SourceError(
                f"source.path: no Imgs/NAME.jpg with RDs/NAME.png among the {len(listing.names)} files of "
                f"{printable(self.config.path)}; point it at the folder ReDWeb_V1"
            )
        split = self.config.fixed_split
        items = [Item(group.files[0], split, labels=group.files[1:]) for group in groups]
        return items, {reason: names for reason, names in (listing.passed_over | leftovers).items() if names}
