"""The index of a folder of truth: which scenes there are, and what their maps hold.

    index.json
        [{"scene": "middlebury2006/Aloe", "kind": "stereo", "divisor": 3}, {"scene": "nyu/00", "kind": "rgbd"}]
    middlebury2006/Aloe/   left.png, disparity.png (pixels = value / divisor)
    nyu/00/                image.png, depth.png (millimetres)

Maps are grey PNGs of 8 or 16 bit, 0 = unknown. What stands before the first `/` of a scene names its set.

    for scene in read_index(data, "index.json"): scene.picture, scene.map
"""

import json
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from shards.errors import SourceError

__all__ = ["INDEX_LIMIT_BYTES", "IndexedScene", "read_index"]

INDEX_LIMIT_BYTES = 16 * 1024**2
"""A larger index is refused unread."""


class IndexedScene(BaseModel):
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

    @property
    def picture(self) -> str:
        """The picture's file, relative to the index."""
        return f"{self.scene}/{'left' if self.kind == 'stereo' else 'image'}.png"

    @property
    def map(self) -> str:
        """The map's file, relative to the index: a disparity, larger = nearer, or (`rgbd`) a depth."""
        return f"{self.scene}/{'disparity' if self.kind == 'stereo' else 'depth'}.png"


_INDEX = TypeAdapter(Annotated[list[IndexedScene], Field(min_length=1, max_length=1_000_000)])


def read_index(data: bytes, name: str) -> list[IndexedScene]:
    """The scenes of an index, each of which it names once.

    Args:
        data: Content of the file.
        name: What to call it in errors.

    Raises:
        SourceError: It is malformed, or names something outside the folder.
    """
    try:
        scenes = _INDEX.validate_python(json.loads(data))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the whole"
        message = f"{name}: entry {where}: {fault['msg']}; expected a list of {{scene, kind, divisor}}"
        raise SourceError(message) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{name}: is not JSON ({error})") from error
    seen: set[str] = set()
    for scene in scenes:
        if scene.scene in seen:
            raise SourceError(f"{name}: names the scene {scene.scene!r} twice")
        seen.add(scene.scene)
    return scenes
