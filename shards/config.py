"""Settings of the offline stage: how raw pictures become shards. Where they come from: `shards.sources.config`."""

from pydantic import Field

from model.config import Section
from shards.sources.config import SourceConfig

__all__ = ["MatchConfig", "PackConfig", "PairsConfig", "QualityConfig", "ShardsConfig"]


class MatchConfig(Section):
    """Stereo pair to disparity: DIS optical flow (Kroeger et al., ECCV 2016) both ways and their agreement."""

    max_side_px: int = Field(768, ge=128)
    """Long side of the pictures given to the matcher."""
    finest_scale: int = Field(0, ge=0, le=4)
    """DIS: pyramid level at which it stops; 0 is full resolution."""
    consistency_px: float = Field(1.0, gt=0)
    """A pixel is known where forward and backward flow agree within this many pixels of the matched size."""
    align_rows: bool = True
    """Estimate offset, roll, zoom, yaw and pitch of the partner from the flow itself and warp it before matching."""


class QualityConfig(Section):
    """When a pair is refused. The thresholds follow the rule of WSVD and MiDaS (3DVideos2Stereo)."""

    max_vertical_px: float = Field(2.0, gt=0)
    """A pixel that moves further than this vertically, after alignment, counts as unrectified."""
    max_vertical_share: float = Field(0.10, ge=0, le=1)
    """Reject `vertical_motion` above this share of such pixels."""
    min_range_share: float = Field(0.01, ge=0, lt=1)
    """Reject `flat` where the P2-P98 range of the disparity, as a share of the picture's width, is smaller."""
    min_known_share: float = Field(0.55, ge=0, le=1)
    """Reject `inconsistent` below this share of pixels whose match holds in both directions."""


class PairsConfig(Section):
    """Stored ordinal pairs (paper, Sec. 3.2)."""

    num_pairs: int = Field(3000, ge=1, le=100_000)
    """Random pairs a picture."""
    seed: int = Field(0, ge=0)
    """Another seed draws other pairs."""


class ShardsConfig(Section):
    """How samples are made and packed."""

    long_side_px: int = Field(640, ge=64, le=8192)
    """Stored pictures are scaled down to this long side; smaller ones stay as they are."""
    jpeg_quality: int = Field(92, ge=50, le=100)
    """Used only where the original JPEG bytes cannot be kept."""
    shard_bytes: int = Field(256 * 1024**2, ge=64 * 1024)
    """A shard is closed before it grows beyond this."""
    val_share: float = Field(0.1, ge=0, lt=1)
    """Share of the pictures, chosen by a hash of their name, that goes to the split `val` where the source has none."""
    tolerance: float = Field(0.02, ge=0, lt=1)
    """Two values are equal within this: a ratio where zero is known, else a share of the P2-P98 range."""
    workers: int = Field(0, ge=0, le=256)
    """Processes; 0 means one a core. The bytes written do not depend on it."""
    match: MatchConfig = MatchConfig()
    quality: QualityConfig = QualityConfig()
    pairs: PairsConfig = PairsConfig()


class PackConfig(Section):
    """Everything that a dataset of shards depends on."""

    out: str
    """Folder or fsspec URL of the dataset."""
    source: SourceConfig
    shards: ShardsConfig = ShardsConfig()
