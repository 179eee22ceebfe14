"""Settings of the raw collections, one section a layout.

A collection is a folder; what holds stereo pairs of unknown quality derives from `StereoSourceConfig`.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from model.config import Section
from shards.sources.patterns import check_pattern

__all__ = [
    "CollectionConfig",
    "CombinedSourceConfig",
    "Da2kSourceConfig",
    "DiwSourceConfig",
    "FolderSourceConfig",
    "HrwsiSourceConfig",
    "NyuOrdinalSourceConfig",
    "NyuRgbdSourceConfig",
    "RedwebSourceConfig",
    "SourceConfig",
    "StereoSourceConfig",
    "SyntheticSourceConfig",
    "TruthSourceConfig",
    "UnsplitSourceConfig",
]


PathPattern = Annotated[str, AfterValidator(check_pattern)]


class CollectionConfig(Section):
    """Pictures that lie somewhere."""

    path: str
    """Where they lie: a folder (searched recursively), a .zip or .tar, or the fsspec URL of one of them."""


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
    sky_suffix: str | None = Field(None, pattern="^[^/]+$")
    """Where given, `NAME` + this + `.png` beside a picture `NAME.jpg` is the mask of its sky, white on black."""

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
        return _lower_case_extensions(extensions)


class CombinedSourceConfig(StereoSourceConfig):
    """Files that each hold both eyes: MPO, JPS, side by side, top-bottom. The first or left or upper view is `left`."""

    kind: Literal["combined"]
    layout: Literal["auto", "mpo", "side_by_side", "top_bottom"] = "auto"
    """How two views lie in a file; `auto`: by its content, its name (`.jps`, `_sbs`, `top-bottom` ...), its shape."""
    views: Literal["auto", "full", "half"] = "auto"
    """Whether views that share a picture were squeezed to `half` their width (top-bottom: height); `auto`: only where
    the name says so (`half-sbs`, `hou` ...) or the shape leaves no doubt (side by side in 16:9)."""
    extensions: tuple[str, ...] = ("mpo", "jps", "pns", "jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff")
    """File extensions that count, in lower case without the dot."""

    @field_validator("extensions")
    @classmethod
    def _plain_extensions(cls, extensions: tuple[str, ...]) -> tuple[str, ...]:
        return _lower_case_extensions(extensions)


class UnsplitSourceConfig(CollectionConfig):
    """Pictures with labels, of a collection that has no splits of its own."""

    split: Literal["drawn", "train", "val"] = "drawn"
    """Where its pictures go: all to one split, or drawn by a hash of their names (`shards.val_share`)."""

    @property
    def fixed_split(self) -> str | None:
        """The split of all pictures, None where it is drawn."""
        return None if self.split == "drawn" else self.split


class RedwebSourceConfig(UnsplitSourceConfig):
    """ReDWeb_V1: `Imgs/NAME.jpg` and `RDs/NAME.png`, larger = farther."""

    kind: Literal["redweb"]
    zero: Literal["nearest", "unknown"] = "nearest"
    """What a stored 0 means: the nearest there is, as in the paper's ratio, or that nothing is known."""


class HrwsiSourceConfig(CollectionConfig):
    """HR-WSI: `train|val/imgs/NAME.jpg` with `gts/NAME.png`, larger = nearer, and `valid_masks/NAME.png`."""

    kind: Literal["hrwsi"]
    tolerance_kind: Literal["range", "ratio"] = "range"
    """What `shards.tolerance` is a share of: the range of a picture's disparity, whose zero is unknown, or the smaller
    of two stored values, as in the published loss (there with 0.03)."""


class DiwSourceConfig(CollectionConfig):
    """Depth in the Wild: lists that give each picture one ordered pair."""

    kind: Literal["diw"]
    splits: tuple[Literal["train", "val", "test"], ...] = Field(("train", "val"), min_length=1)
    """Lists to read. `test`, which is for evaluation, goes to the split `val`, and only if it is named here."""
    lists: str = "DIW_{split}.csv"
    """Base name of a list, anywhere in the collection."""


class NyuOrdinalSourceConfig(CollectionConfig):
    """Ordinal lists of NYUDv2: some hundred ordered pairs a picture."""

    kind: Literal["nyu_ordinal"]
    train_list: str | None = "750_train*.csv"
    """Base name (`*` and `?` stand for anything) of the list of the split `train`; null: none."""
    val_list: str | None = "45_validate*.csv"
    """Base name of the list of the split `val`; null: none."""
    points_hw: tuple[int, int] | None = None
    """Height and width of the pictures that the points count in, where those in the collection have another size."""

    @model_validator(mode="after")
    def _has_a_list(self) -> "NyuOrdinalSourceConfig":
        if not self.train_list and not self.val_list:
            raise ValueError("train_list and val_list are both null; give one of them")
        return self


class NyuRgbdSourceConfig(UnsplitSourceConfig):
    """Pictures with 16-bit depth, or the official labelled `.mat` of NYUDv2."""

    kind: Literal["nyu_rgbd"]
    patterns: tuple[tuple[PathPattern, PathPattern], ...] = (
        ("rgb/{name}.png", "depth/{name}.png"),
        ("{name}/image.png", "{name}/depth.png"),
    )
    """Picture and depth, as paths below any folder; `{name}` stands for what both share."""
    divisor: float = Field(1000.0, gt=0, allow_inf_nan=False)
    """Stored depth of one metre."""


class Da2kSourceConfig(UnsplitSourceConfig):
    """DA-2K: a JSON file that gives each picture a few ordered pairs."""

    kind: Literal["da2k"]
    annotations: str = "annotations.json"
    """Base name of the list, anywhere in the collection."""
    split: Literal["drawn", "train", "val"] = "val"
    """Where its pictures go; it is an evaluation set."""


class TruthSourceConfig(UnsplitSourceConfig):
    """Pictures with measured disparity, as Middlebury, KITTI and ETH3D lay them out."""

    kind: Literal["truth"]
    patterns: tuple[tuple[PathPattern, PathPattern], ...] = (
        ("{name}/im0.png", "{name}/disp0.pfm"),
        ("{name}/im0.png", "{name}/disp0GT.pfm"),
        ("{name}/view1.png", "{name}/disp1.png"),
        ("{name}/im2.png", "{name}/disp2.png"),
        ("image_2/{name}_10.png", "disp_occ_0/{name}_10.png"),
        ("colored_0/{name}_10.png", "disp_occ/{name}_10.png"),
        ("{name}/left.png", "{name}/disparity.png"),
    )
    """Picture and disparity (`.png` or `.pfm`), as paths below any folder; `{name}` stands for what both share."""
    divisor: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Stored PNG value of one pixel of disparity: 256 in KITTI, 1 to 8 in Middlebury."""
    index: str | None = "index.json"
    """List of scenes with a divisor each (`shards.sources.scene_index`), followed where it exists; null: never."""


WorldName = Literal["room", "street", "open", "road", "interior", "still_life", "pile"]


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
    worlds: tuple[WorldName, ...] = ("room", "street", "open")
    """Kinds of worlds, each as often as the others: `room`, `street` and `open` look along their length and have
    patterns everywhere. Half of the surfaces are plain in the others: `road` is what a driver sees, `interior` a
    furnished room seen across, `still_life` things on a table, `pile` boards or stones that fill the picture."""
    photos: str | None = None
    """Where given, a folder, archive or fsspec URL of photographs, with which some of the surfaces are painted."""
    labels: Literal["matched", "exact"] = "matched"
    """`matched`: as for photographs, by matching the two pictures; `exact`: the renderer's own disparity."""

    @field_validator("worlds")
    @classmethod
    def _some_worlds(cls, worlds: tuple[str, ...]) -> tuple[str, ...]:
        if not worlds or len(set(worlds)) < len(worlds):
            raise ValueError("needs one kind of world or more, each once")
        return worlds


def _lower_case_extensions(extensions: tuple[str, ...]) -> tuple[str, ...]:
    for extension in extensions:
        if PurePosixPath(f"x.{extension}").suffix != f".{extension}" or extension != extension.lower():
            raise ValueError(f"{extension!r} is not a lower-case extension without a dot")
    return extensions


SourceConfig = Annotated[
    FolderSourceConfig
    | CombinedSourceConfig
    | RedwebSourceConfig
    | HrwsiSourceConfig
    | DiwSourceConfig
    | NyuOrdinalSourceConfig
    | NyuRgbdSourceConfig
    | Da2kSourceConfig
    | TruthSourceConfig
    | SyntheticSourceConfig,
    Field(discriminator="kind"),
]
