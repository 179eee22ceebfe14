"""Settings of the raw collections, one section a layout.

A collection is a folder; what holds stereo pairs of unknown quality derives from `StereoSourceConfig`.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from model.config import Section

__all__ = [
    "CollectionConfig",
    "FolderSourceConfig",
    "SourceConfig",
    "StereoSourceConfig",
    "SyntheticSourceConfig",
]


class CollectionConfig(Section):
    """Pictures that lie somewhere."""

    path: str
    """Where they lie: a folder, searched recursively."""


class StereoSourceConfig(CollectionConfig):
    """Stereo pictures as found, whose labels are matched, judged and, where in doubt, refused."""

    min_side_px: int = Field(256, ge=16)
    """A picture whose short side is smaller is rejected (`too_small`)."""
    eyes: Literal["as_given", "swapped", "auto"] = "auto"
    """Whether the first picture is the left eye's: trust it, swap it, or decide each pair and reject the undecided."""


class FolderSourceConfig(StereoSourceConfig):
    """A folder of left/right pictures, two files a pair."""

    kind: Literal["folder"]
    patterns: tuple[tuple[str, str], ...] = (("{name}_L", "{name}_R"), ("{name}_A", "{name}_B"))
    """Pairs of stem patterns, left first; `{name}` stands for what both files share."""
    extensions: tuple[str, ...] = ("jpg", "jpeg", "png")
    """File extensions that count, in lower case without the dot."""

    @field_validator("patterns")
    @classmethod
    def _both_name_the_pair(cls, patterns: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for pair in patterns:
            if any(stem.count("{name}") != 1 or "/" in stem for stem in pair):
                raise ValueError(f"each of {list(pair)} needs exactly one {{name}} and no '/'")
        return patterns

    @field_validator("extensions")
    @classmethod
    def _plain_extensions(cls, extensions: tuple[str, ...]) -> tuple[str, ...]:
        for extension in extensions:
            if PurePosixPath(f"x.{extension}").suffix != f".{extension}" or extension != extension.lower():
                raise ValueError(f"{extension!r} is not a lower-case extension without a dot")
        return extensions


class SyntheticSourceConfig(Section):
    """Procedurally rendered stereo scenes with exact disparity."""

    kind: Literal["synthetic"]
    train: int = Field(1000, ge=1)
    """Number of training scenes."""
    val: int = Field(100, ge=0)
    """Number of validation scenes, none of which is a training scene."""
    height_px: int = Field(144, ge=32, le=2048)
    """Height of the rendered pictures."""
    width_px: int = Field(192, ge=32, le=2048)
    """Width of the rendered pictures."""
    seed: int = Field(0, ge=0)
    """Another seed gives other scenes."""


SourceConfig = Annotated[FolderSourceConfig | SyntheticSourceConfig, Field(discriminator="kind")]
