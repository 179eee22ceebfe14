"""DA-2K (Yang et al., Depth Anything V2): an evaluation set with a few labelled pairs a picture.

    annotations.json    {"images/indoor/a.jpg": [{"point1": [h, w], "point2": [h, w], "closer_point": "point1"}, ...]}

Points count from 0, row first. Its pictures go to the split `val`, as training on them would spoil the benchmark.

    source = Da2kSource(Da2kSourceConfig(kind="da2k", path="DA-2K"))
"""

import json
from collections import defaultdict
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from shards.errors import SourceError
from shards.format import MAX_PAIRS
from shards.images import original_jpeg, read_picture
from shards.maps import MAX_MAP_SIDE_PX
from shards.names import printable
from shards.sources.base import Item, LabelledPicture
from shards.sources.config import Da2kSourceConfig
from shards.sources.files import open_files
from shards.sources.listed import LabelLists, locate

__all__ = ["Da2kSource"]

_SCENES = (
    "indoor",
    "outdoor",
    "non_real",
    "transparent_reflective",
    "adverse_style",
    "aerial",
    "underwater",
    "object",
)
_Side = Annotated[int, Field(ge=0, le=MAX_MAP_SIDE_PX)]


class _Annotation(BaseModel):
    point1: tuple[_Side, _Side]
    point2: tuple[_Side, _Side]
    closer_point: Literal["point1", "point2"]

    def row(self) -> list[int]:
        """y_a, x_a, y_b, x_b, relation of point1 (A) and point2 (B)."""
        return [*self.point1, *self.point2, -1 if self.closer_point == "point1" else 1]


_ANNOTATIONS = TypeAdapter(Annotated[list[_Annotation], Field(min_length=1, max_length=MAX_PAIRS)])


class Da2kSource:
    """The pictures of DA-2K; see `shards.sources.base.Source`."""

    def __init__(self, config: Da2kSourceConfig) -> None:
        self.config = config
        self.files = open_files(config.path)
        self._lists = LabelLists(self.files)

    def items(self) -> list[Item]:
        """All pictures that are there and have pairs, sorted.

        Raises:
            SourceError: No such collection, its list is missing or of another format, or no picture that it names.
        """
        return list(self._listing[0])

    def leftovers(self) -> dict[str, list[str]]:
        """Reason -> names: `malformed_labels`, `no_picture`, `named_twice` (as the list has them), `unlabelled`."""
        return self._listing[1]

    def load(self, item: Item) -> LabelledPicture:
        """Decode a picture and look up its pairs.

        Raises:
            DecodeError: It cannot be decoded or breaks a bound.
        """
        annotations = _ANNOTATIONS.validate_python(self._annotated[item.labels[0]])
        data = self.files.read(item.name)
        scene = _scene(item.name)
        return LabelledPicture(
            image=read_picture(data, name=printable(item.name)),
            jpeg=original_jpeg(data),
            pairs=np.array([annotation.row() for annotation in annotations], dtype=np.int32),
            meta={"scene": scene} if scene else {},
        )

    @cached_property
    def _list_name(self) -> str:
        return self._lists.find(self.config.annotations)

    @cached_property
    def _annotated(self) -> dict[str, object]:
        where = f"source.path: {printable(self._list_name)}"
        try:
            found = json.loads(self._lists.content(self._list_name))
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{where}: is not JSON ({error})") from None
        if not isinstance(found, dict) or not all(isinstance(value, list) for value in found.values()):
            raise SourceError(f"{where}: is no list of DA-2K, an object of picture path -> list of pairs")
        return found

    @cached_property
    def _listing(self) -> tuple[list[Item], dict[str, list[str]]]:
        listing = self.files.listing()
        names = frozenset(listing.names)
        leftovers: defaultdict[str, list[str]] = defaultdict(list, listing.passed_over)
        found: dict[str, Item] = {}
        for path, annotations in self._annotated.items():
            file = locate(path, self._list_name, names)
            if file is None:
                leftovers["no_picture"].append(path)
            elif file in found:
                leftovers["named_twice"].append(path)
            elif not _is_well_formed(annotations):
                leftovers["malformed_labels"].append(path)
            else:
                found[file] = Item(file, self.config.fixed_split, labels=(path,))
        if not found:
            raise SourceError(
                f"source.path: {printable(self._list_name)} names {len(self._annotated)} pictures, none of which is "
                f"in {printable(self.config.path)} with labels of DA-2K (point1, point2, closer_point)"
            )
        leftovers["unlabelled"] += sorted(names - found.keys() - {self._list_name})
        return [found[file] for file in sorted(found)], {why: what for why, what in leftovers.items() if what}


def _is_well_formed(annotations: object) -> bool:
    try:
        _ANNOTATIONS.validate_python(annotations)
    except ValidationError:
        return False
    return True


def _scene(name: str) -> str | None:
    """The scene type that a folder of the path, or else the file's name, begins with."""
    parts = PurePosixPath(name.lower()).parts
    return next((scene for part in parts for scene in _SCENES if part.startswith(scene)), None)
