"""Pictures with measured depth (NYUDv2 and other RGB-D sets): colour and depth as PNG, or the official `.mat`.

    rgb/NAME.png + depth/NAME.png, or NAME/image.png + NAME/depth.png     16-bit depth, metres = value / divisor
    nyu_depth_v2_labeled.mat                                              needs h5py: pip install depthrank[mat]

A depth of 0 is unknown. The code is inverse depth, 1 / metres, whose zero is known, so a ratio tells when two depths
are equal.

    source = NyuRgbdSource(NyuRgbdSourceConfig(kind="nyu_rgbd", path="nyu_depth_v2_labeled.mat"))
"""

from functools import cached_property

from shards.errors import SourceError
from shards.images import original_jpeg, read_picture
from shards.maps import read_levels
from shards.names import printable
from shards.sources.base import Item, LabelledPicture
from shards.sources.config import NyuRgbdSourceConfig
from shards.sources.files import open_files
from shards.sources.nyu_mat import NyuMatFile
from shards.sources.patterns import group_files
from shards.sources.truth import code_depth

__all__ = ["NyuRgbdSource"]


class NyuRgbdSource:
    """Pictures with depth; see `shards.sources.base.Source`."""

    def __init__(self, config: NyuRgbdSourceConfig) -> None:
        self.config = config
        self.mat = NyuMatFile(config.path) if config.path.lower().endswith(".mat") else None
        self.files = open_files(config.path)

    def items(self) -> list[Item]:
        """All pictures that have a depth map, sorted.

        Raises:
            SourceError: No such collection, no picture with depth in it, or h5py is missing.
        """
        return list(self._listing[0])

    def leftovers(self) -> dict[str, list[str]]:
        """Reason -> names: `ambiguous`, `no_labels` (no depth), `no_picture`, `matches_no_pattern`."""
        return self._listing[1]

    def load(self, item: Item) -> LabelledPicture:
        """Decode a picture and its depth.

        Raises:
            DecodeError: One of them cannot be decoded or breaks a bound; the message names it.
        """
        jpeg = None
        if self.mat is not None:
            image, metres = self.mat.read(int(item.labels[0]))
            codes, coding = code_depth(metres)
        else:
            data = self.files.read(item.name)
            (map_name,) = item.labels
            image, jpeg = read_picture(data, name=printable(item.name)), original_jpeg(data)
            levels = read_levels(self.files.read(map_name), name=printable(map_name))
            codes, coding = code_depth(levels / self.config.divisor)
        return LabelledPicture(image, jpeg, codes, dict(coding), tolerance_kind="ratio")

    @cached_property
    def _listing(self) -> tuple[list[Item], dict[str, list[str]]]:
        split = self.config.fixed_split
        if self.mat is not None:
            return [Item(f"{number:06d}", split, labels=(str(number),)) for number in range(len(self.mat))], {}
        listing = self.files.listing()
        groups, leftovers = group_files(listing.names, self.config.patterns)
        if not groups:
            tried = ", ".join(" + ".join(pattern) for pattern in self.config.patterns)
            raise SourceError(
                f"source.path: no picture with depth among the {len(listing.names)} files of "
                f"{printable(self.config.path)}; tried {tried}; set source.patterns, or give the path of a .mat itself"
            )
        items = [Item(group.files[0], split, labels=group.files[1:]) for group in groups]
        return items, {reason: names for reason, names in (listing.passed_over | leftovers).items() if names}
