"""Pictures with measured depth, as inverse depth on their own pixels.

A folder of truth holds `index.json`, a list of scenes, and a folder for each (`shards.sources.scene_index`). What
stands before the first `/` of a scene names its set. Any other sequence of `TruthPicture` serves an evaluation as
well; `SyntheticTruth` renders unseen scenes.

    for picture in TruthFolder(Path("gt")): ...
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import DataError
from shards.images import read_bytes_bounded, read_picture
from shards.maps import read_levels
from shards.similar import similar_path
from shards.sources.config import SyntheticSourceConfig
from shards.sources.scene_index import INDEX_LIMIT_BYTES, IndexedScene, read_index
from shards.sources.synthetic import test_scene

__all__ = ["SyntheticTruth", "TruthFolder", "TruthPicture", "read_map", "synthetic_truth"]


@dataclass(frozen=True)
class TruthPicture:
    """A picture and its truth."""

    name: str
    """Unique; `SET/REST`, where the set is what figures are averaged over."""
    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    inverse_depth: NDArray[np.float32]
    """(H, W), positive, larger = nearer, zero at infinity, NaN where unknown; up to a factor."""

    @property
    def set_name(self) -> str:
        """The set that the picture belongs to."""
        return self.name.split("/", 1)[0]


class TruthFolder(Sequence[TruthPicture]):
    """A folder of truth: checked when opened, its pictures read one by one, again each time they are asked for.

    Raises:
        DataError: the folder or its index is missing, malformed, or names something outside the folder; when a picture
            is asked for: a scene is missing, damaged or its map does not fit its picture.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._scenes = _read_index(folder)
        self.names = tuple(scene.scene for scene in self._scenes)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: Any) -> Any:
        return _read_scene(self.folder, self._scenes[index])


class SyntheticTruth(Sequence[TruthPicture]):
    """The first `count` test scenes of the renderer, none of them seen in training, with their exact truth."""

    def __init__(self, config: SyntheticSourceConfig, count: int) -> None:
        self.config = config
        self.names = tuple(f"synthetic/{index:05d}" for index in range(count))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        scene = test_scene(self.config, range(len(self))[index])
        return TruthPicture(self.names[index], scene.left, scene.disparity_px)


def synthetic_truth(config: SyntheticSourceConfig, count: int) -> Iterator[TruthPicture]:
    """The same, rendered one after the other."""
    return iter(SyntheticTruth(config, count))


def read_map(path: Path) -> NDArray[np.float32]:
    """A grey PNG of 8 or 16 bit as stored values (H, W), NaN where 0.

    Raises:
        DecodeError: it is missing, damaged, too large or not grey.
    """
    values = read_levels(read_bytes_bounded(path), name=str(path)).astype(np.float32)
    values[values == 0] = np.nan
    return values


def _read_index(folder: Path) -> list[IndexedScene]:
    path = folder / "index.json"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder{similar_path(folder)}; a folder of ground truth is needed")
    if not path.is_file():
        raise DataError(f"{folder}: holds no index.json, so it is not a folder of ground truth")
    return read_index(read_bytes_bounded(path, INDEX_LIMIT_BYTES), str(path))


def _read_scene(folder: Path, scene: IndexedScene) -> TruthPicture:
    values = read_map(folder / scene.map)
    inverse_depth = values / np.float32(scene.divisor) if scene.kind == "stereo" else np.float32(1) / values
    image = read_picture(folder / scene.picture)
    if image.shape[:2] != inverse_depth.shape:
        sizes = [f"{width}x{height}" for height, width in (image.shape[:2], inverse_depth.shape)]
        raise DataError(f"{folder / scene.scene}: the picture has {sizes[0]} pixels, its map {sizes[1]}")
    return TruthPicture(scene.scene, image, inverse_depth)
