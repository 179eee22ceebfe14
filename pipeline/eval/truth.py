"""Pictures with measured depth, as inverse depth on their own pixels.

A folder of truth holds `index.json`, a list of scenes, and a folder for each:

    {"scene": "middlebury2006/Aloe", "kind": "stereo", "divisor": 3}
        left.png, disparity.png (pixels = value / divisor)
    {"scene": "nyu/00", "kind": "rgbd"}
        image.png, depth.png (millimetres)

Maps are grey PNGs of 8 or 16 bit, 0 = unknown. What stands before the first `/` of a scene names its set. Any other
iterable of `TruthPicture` serves an evaluation as well; `synthetic_truth` renders unseen scenes.

    for picture in TruthFolder(Path("gt")): ...
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from shards.errors import DataError, DecodeError
from shards.images import MAX_PIXELS, read_bytes_bounded, read_picture
from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene

__all__ = ["TruthFolder", "TruthPicture", "read_map", "synthetic_truth"]

INDEX_LIMIT_BYTES = 16 * 1024**2
MAP_LIMIT_SIDE_PX = 32767  # pairs hold int16 coordinates


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


class _Scene(BaseModel):
    """One entry of the index; other keys may carry notes."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    scene: str
    kind: Literal["stereo", "rgbd"]
    divisor: float = Field(1.0, gt=0, allow_inf_nan=False)

    @field_validator("scene")
    @classmethod
    def _inside_the_folder(cls, scene: str) -> str:
        parts = scene.split("/")
        if "\\" in scene or "\0" in scene or any(part in {"", ".", ".."} for part in parts) or ":" in parts[0]:
            raise ValueError(f"{scene!r} is not a plain path below the folder")
        return str(PurePosixPath(scene))


_INDEX = TypeAdapter(Annotated[list[_Scene], Field(min_length=1, max_length=1_000_000)])


class TruthFolder:
    """A folder of truth: checked when opened, its pictures read one by one, again at each iteration.

    Raises:
        DataError: the folder or its index is missing, malformed, or names something outside the folder; while
            iterating: a scene is missing, damaged or its map does not fit its picture.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._scenes = _read_index(folder)

    def __len__(self) -> int:
        return len(self._scenes)

    def __iter__(self) -> Iterator[TruthPicture]:
        return (_read_scene(self.folder, scene) for scene in self._scenes)


def synthetic_truth(config: SyntheticSourceConfig, count: int) -> Iterator[TruthPicture]:
    """The first `count` test scenes of the renderer, none of them seen in training, with their exact truth."""
    for index in range(count):
        scene = test_scene(config, index)
        yield TruthPicture(f"synthetic/{index:05d}", scene.left, scene.disparity_px)


def read_map(path: Path) -> NDArray[np.float32]:
    """A grey PNG of 8 or 16 bit as stored values (H, W), NaN where 0.

    Raises:
        DecodeError: it is missing, damaged, too large or not grey.
    """
    data = read_bytes_bounded(path)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            width, height = image.size
            if max(width, height) > MAP_LIMIT_SIDE_PX or width * height > MAX_PIXELS:
                raise DecodeError(f"{path}: a map of {width}x{height} pixels is larger than is accepted")
            if image.mode not in {"L", "I;16"}:
                raise DecodeError(f"{path}: a map must be a grey PNG of 8 or 16 bit, not of mode {image.mode}")
            values = np.asarray(image).astype(np.float32)
    except DecodeError:
        raise
    except Exception as error:  # decoders of damaged bytes raise anything from SyntaxError to struct.error
        raise DecodeError(f"{path}: cannot be read as a PNG ({error or type(error).__name__})") from error
    values[values == 0] = np.nan
    return values


def _read_index(folder: Path) -> list[_Scene]:
    path = folder / "index.json"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; a folder of ground truth is needed")
    if not path.is_file():
        raise DataError(f"{folder}: holds no index.json, so it is not a folder of ground truth")
    try:
        scenes = _INDEX.validate_python(json.loads(read_bytes_bounded(path, INDEX_LIMIT_BYTES)))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the whole"
        message = f"{path}: entry {where}: {fault['msg']}; expected a list of {{scene, kind, divisor}}"
        raise DataError(message) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
    names = [scene.scene for scene in scenes]
    doubled = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if doubled:
        raise DataError(f"{path}: names the scene {doubled[0]!r} twice")
    return scenes


def _read_scene(folder: Path, scene: _Scene) -> TruthPicture:
    place = folder / scene.scene
    if scene.kind == "stereo":
        image_path, inverse_depth = place / "left.png", read_map(place / "disparity.png") / np.float32(scene.divisor)
    else:
        image_path, inverse_depth = place / "image.png", 1 / read_map(place / "depth.png")
    image = read_picture(image_path)
    if image.shape[:2] != inverse_depth.shape:
        sizes = [f"{width}x{height}" for height, width in (image.shape[:2], inverse_depth.shape)]
        raise DataError(f"{place}: the picture has {sizes[0]} pixels, its map {sizes[1]}")
    return TruthPicture(scene.scene, image, inverse_depth)
