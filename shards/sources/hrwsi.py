"""HR-WSI (Xian et al., CVPR 2020): high-resolution web stereo pictures with dense disparity.

    train/imgs/NAME.jpg           val/imgs/NAME.jpg
    train/gts/NAME.png            larger = nearer
    train/valid_masks/NAME.png    0 where forward and backward flow disagree

Each disparity is known up to its own scale and offset, so a ratio of two values means nothing and values are equal
within a share of their range. The published loss takes ratios all the same; `tolerance_kind: ratio` repeats that.

    source = HrwsiSource(HrwsiSourceConfig(kind="hrwsi", path="HR-WSI"))
"""

from functools import cached_property

import numpy as np

from shards.errors import DecodeError, SourceError
from shards.images import original_jpeg, read_picture
from shards.maps import read_levels
from shards.names import printable
from shards.sources.base import Item, LabelledPicture
from shards.sources.config import HrwsiSourceConfig
from shards.sources.files import open_files
from shards.sources.patterns import group_files

__all__ = ["HrwsiSource"]

_SPLITS = ("train", "val")
_PATTERNS = [
    (f"{split}/imgs/{{name}}.jpg", f"{split}/gts/{{name}}.png", f"{split}/valid_masks/{{name}}.png")
    for split in _SPLITS
]


class HrwsiSource:
    """The pictures of HR-WSI in their own splits; see `shards.sources.base.Source`."""

    def __init__(self, config: HrwsiSourceConfig) -> None:
        self.config = config
        self.files = open_files(config.path)

    def items(self) -> list[Item]:
        """All pictures that have a disparity and a mask, sorted.

        Raises:
            SourceError: No such collection, or no complete picture in it.
        """
        return list(self._listing[0])

    def leftovers(self) -> dict[str, list[str]]:
        """Reason -> names of what belongs to no complete picture."""
        return self._listing[1]

    def load(self, item: Item) -> LabelledPicture:
        """Decode a picture, its disparity and its mask.

        Raises:
            DecodeError: One of them cannot be decoded or breaks a bound; the message names it.
        """
        data = self.files.read(item.name)
        levels, mask = (read_levels(self.files.read(name), name=printable(name)) for name in item.labels)
        if levels.shape != mask.shape:
            raise DecodeError(f"{printable(item.labels[1])}: the mask is of another size than the disparity")
        # One up, as 0 is a disparity like any other; of 16 bits the two nearest levels share a code.
        codes = np.minimum(levels.astype(np.uint32) + 1, 65535).astype(np.uint16)
        codes[mask == 0] = 0
        return LabelledPicture(
            image=read_picture(data, name=printable(item.name)),
            jpeg=original_jpeg(data),
            codes=codes,
            coding={"kind": "affine", "scale": 1.0, "offset": -1.0},
            tolerance_kind=self.config.tolerance_kind,
        )

    @cached_property
    def _listing(self) -> tuple[list[Item], dict[str, list[str]]]:
        listing = self.files.listing()
        groups, leftovers = group_files(listing.names, _PATTERNS)
        if not groups:
            raise SourceError(
                f"source.path: no train|val/imgs/NAME.jpg with gts/NAME.png and valid_masks/NAME.png among the "
                f"{len(listing.names)} files of {printable(self.config.path)}; point it at the folder of HR-WSI"
            )
        items = [Item(group.files[0], _SPLITS[group.pattern], labels=group.files[1:]) for group in groups]
        return items, {reason: names for reason, names in (listing.passed_over | leftovers).items() if names}
