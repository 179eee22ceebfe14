"""Pictures with measured disparity, as Middlebury, KITTI, ETH3D and others lay them out.

    NAME/im0.png          NAME/disp0.pfm               Middlebury 2014, 2021
    NAME/im0.png          NAME/disp0GT.pfm             Middlebury evaluation v3, ETH3D two-view
    NAME/view1.png        NAME/disp1.png               Middlebury 2005, 2006 (divisor 1, 2 or 3 by size)
    NAME/im2.png          NAME/disp2.png               Middlebury 2001, 2003 as PNG
    image_2/NAME_10.png   disp_occ_0/NAME_10.png       KITTI 2015 (divisor 256)
    colored_0/NAME_10.png disp_occ/NAME_10.png         KITTI 2012 (divisor 256)
    index.json            SCENE/left.png, SCENE/disparity.png; see `shards.sources.scene_index`

A disparity of 0, of infinity or below 0 is unknown. All have a true zero, so a ratio tells when two values are equal. A
PNG is stored as it is, without rounding; the divisor only tells the unit and changes no label.

    source = TruthSource(TruthSourceConfig(kind="truth", path="kitti2015/training", divisor=256))
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.disparity import encode_inverse_depth
from shards.errors import SourceError
from shards.images import original_jpeg, read_picture
from shards.maps import read_levels, read_pfm
from shards.names import printable
from shards.sources.base import Item, LabelledPicture
from shards.sources.config import TruthSourceConfig
from shards.sources.files import open_files
from shards.sources.patterns import group_files
from shards.sources.scene_index import INDEX_LIMIT_BYTES, IndexedScene, read_index

__all__ = ["TruthSource", "code_depth"]


class TruthSource:
    """Pictures with true disparity or depth; see `shards.sources.base.Source`."""

    def __init__(self, config: TruthSourceConfig) -> None:
        self.config = config
        self.files = open_files(config.path)

    def items(self) -> list[Item]:
        """All pictures that have a map, sorted.

        Raises:
            SourceError: No such collection, its index is malformed, or no picture with a map in it.
        """
        return list(self._listing[0])

    def leftovers(self) -> dict[str, list[str]]:
        """Reason -> names of what belongs to no picture with a map.

        By patterns they are `ambiguous`, `no_labels`, `no_picture`, `matches_no_pattern`; by an index `missing` (a
        scene of which a file is missing) and `not_in_the_index`.
        """
        return self._listing[1]

    def load(self, item: Item) -> LabelledPicture:
        """Decode a picture and its map.

        Raises:
            DecodeError: One of them cannot be decoded or breaks a bound; the message names it.
        """
        data = self.files.read(item.name)
        map_name = item.labels[0]
        scene = self._scenes.get(item.name)
        divisor = scene.divisor if scene else self.config.divisor
        stored = self.files.read(map_name)
        if map_name.lower().endswith(".pfm"):
            disparity = read_pfm(stored, name=printable(map_name))
            codes, coding = encode_inverse_depth(disparity, np.isfinite(disparity) & (disparity > 0))
            coding["unit"] = "px"
        elif scene and scene.kind == "rgbd":
            codes, coding = code_depth(read_levels(stored, name=printable(map_name)) / 1000)
        else:
            codes = read_levels(stored, name=printable(map_name))
            coding = {"kind": "affine", "scale": 1 / divisor, "offset": 0.0, "unit": "px"}
        return LabelledPicture(
            image=read_picture(data, name=printable(item.name)),
            jpeg=original_jpeg(data),
            codes=codes,
            coding=coding,
            tolerance_kind="ratio",
        )

    @cached_property
    def _scenes(self) -> dict[str, IndexedScene]:
        """By picture, what the index says; nothing where there is none."""
        name = self.config.index
        if not name or name not in self.files.listing().names:
            return {}
        scenes = read_index(self.files.read(name, INDEX_LIMIT_BYTES), f"source.path: {printable(name)}")
        return {scene.picture: scene for scene in scenes}

    @cached_property
    def _listing(self) -> tuple[list[Item], dict[str, list[str]]]:
        listing = self.files.listing()
        split = self.config.fixed_split
        if self._scenes:
            names = frozenset(listing.names)
            there = {name: scene for name, scene in self._scenes.items() if {name, scene.map} <= names}
            items = [
                Item(name, split, labels=(scene.map, self.config.index or "")) for name, scene in sorted(there.items())
            ]
            used = {self.config.index, *there, *(scene.map for scene in there.values())}
            leftovers = {
                "missing": sorted(scene.scene for name, scene in self._scenes.items() if name not in there),
                "not_in_the_index": sorted(names - used),
            }
        else:
            groups, leftovers = group_files(listing.names, self.config.patterns)
            items = [Item(group.files[0], split, labels=group.files[1:]) for group in groups]
        if not items:
            tried = ", ".join(" + ".join(pattern) for pattern in self.config.patterns)
            raise SourceError(
                f"source.path: no picture with a map among the {len(listing.names)} files of "
                f"{printable(self.config.path)}; tried {'its index' if self._scenes else tried}; set source.patterns"
            )
        return items, {reason: names for reason, names in (listing.passed_over | leftovers).items() if names}


def code_depth(depth_m: NDArray[np.floating[Any]]) -> tuple[NDArray[np.uint16], dict[str, float | str]]:
    """Codes of the inverse of a depth map (H, W), where it is finite and above 0, and their coding."""
    known = np.isfinite(depth_m) & (depth_m > 0)
    codes, coding = encode_inverse_depth(1 / np.where(known, depth_m, np.inf), known)
    return codes, coding | {"unit": "1/m"}
