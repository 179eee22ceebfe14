"""The procedural renderer as a source: training and validation scenes that need no download.

source = SyntheticSource(SyntheticSourceConfig(kind="synthetic", train=1000, val=100))
pair = source.load(source.items()[0])
unseen = test_scene(config, 0)  # in neither split, with exact disparity
"""

import re

import numpy as np

from shards.disparity import encode_inverse_depth
from shards.errors import DecodeError
from shards.sources.base import Item, LabelledPicture, StereoPair
from shards.sources.config import SyntheticSourceConfig
from shards.sources.photos import Photos
from shards.sources.render import Scene, render_scene

__all__ = ["SyntheticSource", "test_scene"]

NAME = re.compile(r"(train|val)-scene-(\d{6,9})")


class SyntheticSource:
    """Rendered stereo pairs, or rendered pictures with exact labels; see `shards.sources.base.Source`."""

    eyes = "as_given"
    min_side_px = 32

    def __init__(self, config: SyntheticSourceConfig) -> None:
        self.config = config
        self.photos = None if config.photos is None else Photos(config.photos)

    def items(self) -> list[Item]:
        """The training scenes, then the validation scenes.

        Raises:
            SourceError: There are no photographs where they should be.
        """
        if self.photos is not None:
            _ = self.photos.names
        counts = (("train", self.config.train), ("val", self.config.val))
        return [Item(f"{split}-scene-{index:06d}", split) for split, count in counts for index in range(count)]

    def load(self, item: Item) -> StereoPair | LabelledPicture:
        """Render the pair of an item, or its left picture with what the renderer knows.

        Raises:
            DecodeError: The item is not one of this source, or a photograph cannot be decoded.
        """
        match = NAME.fullmatch(item.name)
        if match is None or int(match[2]) >= getattr(self.config, match[1]):
            raise DecodeError(f"{item.name!r} is no scene of this synthetic source")
        scene = _scene(self.config, match[1], int(match[2]), self.photos)
        meta = {
            "renderer": "synthetic",
            "seed": self.config.seed,
            "index": int(match[2]),
            "world": scene.world.kind,
            "focal_px": scene.focal_px,
            "baseline_m": scene.baseline_m,
        }
        if self.config.labels == "matched":
            return StereoPair(scene.left, scene.right, meta=meta)
        codes, coding = encode_inverse_depth(scene.disparity_px, np.ones(scene.disparity_px.shape, dtype=bool))
        return LabelledPicture(
            scene.left, codes=codes, coding=coding | {"unit": "px"}, tolerance_kind="ratio", meta=meta
        )


def test_scene(config: SyntheticSourceConfig, index: int) -> Scene:
    """Scene number `index` of a stream that neither training nor validation draws from."""
    return _scene(config, "test", index, None if config.photos is None else Photos(config.photos))


def _scene(config: SyntheticSourceConfig, split: str, index: int, photos: Photos | None) -> Scene:
    height_px, width_px = config.height_px, config.width_px
    return render_scene(config.seed, index, height_px, width_px, split=split, worlds=config.worlds, photos=photos)
