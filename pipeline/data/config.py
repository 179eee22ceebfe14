"""Settings of the training stream."""

from typing import Literal

from pydantic import Field

from model.config import Section

__all__ = ["AugmentConfig", "DataConfig"]


class AugmentConfig(Section):
    """Random geometry of a training picture; validation pictures are only scaled."""

    crop_scale_min: float = Field(0.5, gt=0, le=1)
    """Smallest share of the picture's area that a random crop takes; 1 switches cropping off."""
    crop_aspect_max: float = Field(1.33, ge=1, le=4)
    """A crop's aspect ratio, relative to the training size's, stays within 1/this and this."""
    flip_probability: float = Field(0.5, ge=0, le=1)
    """Chance of a horizontal mirror."""


class DataConfig(Section):
    """Which shards, in which order, with which pairs."""

    train: str
    """Folder or fsspec URL of a dataset of shards; its split `train` is read."""
    val: str | None = None
    """The same for validation; its split `val` is read. None switches validation off."""
    limit: int | None = Field(None, ge=1)
    """Train on the first so many samples of the index only."""
    num_workers: int = Field(2, ge=0, le=128)
    """Loader processes a rank."""
    lanes: int = Field(1, ge=1, le=1024)
    """Independent rows an epoch is cut into; the number of nodes at most. Part of the sample order."""
    window: int = Field(4096, ge=1)
    """Samples are shuffled inside windows of this many. Part of the sample order."""
    pairs: Literal["online", "stored"] = "online"
    """`online` draws new pairs from the transformed disparity each time; `stored` carries the shard's pairs along."""
    num_pairs: int = Field(3000, ge=1, le=100_000)
    """Pairs a picture and step."""
    cache_dir: str | None = None
    """Node-local folder for shards fetched from a remote URL; None takes a folder below the system's cache."""
    augment: AugmentConfig = AugmentConfig()
