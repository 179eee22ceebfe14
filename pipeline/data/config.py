"""Settings of the training stream."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from model.config import Section
from shards.config import Sampler

__all__ = ["AugmentConfig", "DataConfig", "DatasetConfig"]


class AugmentConfig(Section):
    """What happens to a training picture at random; validation pictures are only scaled."""

    crop_scale_min: float = Field(0.5, gt=0, le=1)
    """Smallest share of the picture's area that a random crop takes; 1 switches cropping off."""
    crop_aspect_max: float = Field(1.33, ge=1, le=4)
    """A crop's aspect ratio, relative to the training size's, stays within 1/this and this."""
    fit: Literal["crop", "letterbox"] = "crop"
    """Portrait and panorama: `crop` shows less of them; `letterbox` shows what the crop's area allows and pads it in
    the mean colour of ImageNet, without depth and pairs."""
    flip_probability: float = Field(0.5, ge=0, le=1)
    """Chance of a horizontal mirror."""
    brightness: float = Field(0.0, ge=0, lt=1)
    """Colour: all channels are multiplied by a factor within 1 - this and 1 + this; 0 switches it off."""
    contrast: float = Field(0.0, ge=0, lt=1)
    """Colour: the distance from the picture's mean grey is multiplied by a factor within 1 - this and 1 + this."""
    saturation: float = Field(0.0, ge=0, le=1)
    """Colour: the distance from a pixel's own grey is multiplied by a factor within 1 - this and 1 + this."""
    hue_deg: float = Field(0.0, ge=0, le=180)
    """Colour: the hue is turned by up to so many degrees either way, brightness kept."""
    colour_probability: float = Field(1.0, ge=0, le=1)
    """Chance that a picture's colour changes at all, where one of the four above is not 0."""
    blur_probability: float = Field(0.0, ge=0, le=1)
    """Chance of a Gaussian blur."""
    blur_sigma_max_px: float = Field(2.0, ge=0.1, le=20)
    """Standard deviation of the blur in pixels of the training size, drawn within 0.1 and this."""
    jpeg_probability: float = Field(0.0, ge=0, le=1)
    """Chance that the picture is compressed as JPEG again, at the training size."""
    jpeg_quality_min: int = Field(30, ge=5, le=95)
    """Quality of that JPEG, drawn within this and 95."""


class DatasetConfig(Section):
    """One of the datasets of a mixture."""

    url: str
    """Folder or fsspec URL of a dataset of shards; its split `train` is read."""
    weight: float = Field(1.0, gt=0)
    """Share of the training samples that come from it, relative to the weights of the others."""


def _kind_of_train(value: object) -> str:
    return "list" if isinstance(value, list | tuple) else "url"


class DataConfig(Section):
    """Which shards, in which order, with which pairs."""

    train: Annotated[
        Annotated[str, Tag("url")] | Annotated[tuple[DatasetConfig, ...], Tag("list")],
        Discriminator(_kind_of_train),
    ]
    """Folder or fsspec URL of a dataset of shards, whose split `train` is read; or a list of several to mix,
    `[{url: a, weight: 2}, {url: b, weight: 1}]`, of which each runs through its own epochs."""
    val: str | None = None
    """The same for validation; its split `val` is read. None switches validation off."""
    limit: int | None = Field(None, ge=1)
    """Train on the first so many samples of the index only; in a mixture, of each dataset's."""
    on_bad_shard: Literal["error", "skip"] = "error"
    """Where a sample cannot be read: end with a clear `error`, or `skip` it, train on another one and count it."""
    num_workers: int = Field(2, ge=0, le=128)
    """Loader processes a rank."""
    lanes: int = Field(1, ge=1, le=1024)
    """Independent rows an epoch is cut into. The number of processes, where each machine should download its own part
    only; 1 shuffles best. Part of the sample order."""
    window: int = Field(4096, ge=1)
    """Samples are shuffled inside windows of this many. Part of the sample order."""
    pairs: Literal["online", "stored"] = "online"
    """`online` draws new pairs from the transformed disparity each time; `stored` carries the shard's pairs along."""
    num_pairs: int = Field(3000, ge=1, le=100_000)
    """Pairs a picture and step."""
    sampler: Sampler = "random"
    """How `online` pairs are drawn: `random`, `edge_guided` or `stratified`, as in `shards.pairs.sampler`."""
    edge_share: float = Field(0.75, ge=0, le=1)
    """Only for the sampler `edge_guided`: share of its pairs that lie at edges, the others are random."""
    cache_dir: str | None = None
    """Node-local folder for shards fetched from a remote URL; None takes a folder below the system's cache."""
    cache_gb: float | None = Field(None, gt=0)
    """What fetched shards may take there, in GB; None takes half of what the disk has free. Datasets share it."""
    retry_minutes: float = Field(10.0, ge=0, le=1440)
    """How long faults of a remote store that may pass (busy servers, broken connections) are tried again."""
    augment: AugmentConfig = AugmentConfig()

    @field_validator("train")
    @classmethod
    def _some_dataset(cls, train: str | tuple[DatasetConfig, ...]) -> str | tuple[DatasetConfig, ...]:
        if not train:
            raise ValueError("needs a dataset of shards: a folder or URL, or a list of {url, weight}")
        return train

    @property
    def datasets(self) -> tuple[DatasetConfig, ...]:
        """The datasets of `train`, one or more."""
        return (DatasetConfig(url=self.train),) if isinstance(self.train, str) else self.train
