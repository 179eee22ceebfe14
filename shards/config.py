"""Settings of the offline stage: how raw pictures become shards. Where they come from: `shards.sources.config`."""

from typing import Literal

from pydantic import Field

from model.config import Section
from shards.sources.config import SourceConfig

__all__ = ["MatchConfig", "PackConfig", "PairsConfig", "QualityConfig", "Sampler", "ShardsConfig"]

Sampler = Literal["random", "edge_guided", "stratified"]
"""How pairs are drawn; also while training."""


class MatchConfig(Section):
    """Stereo pair to disparity: flow both ways and their agreement."""

    method: Literal["fusion", "dis", "sgbm", "raft"] = "fusion"
    """`dis`: optical flow (Kroeger et al., ECCV 2016). `sgbm`: semi-global matching of rows. `fusion`: flow that starts
    from semi-global matching. `raft`: the network of torchvision."""
    raft_weights: str | None = None
    """Weights of torchvision's `raft_large` or `raft_small`, a .pth or .safetensors file; only for `raft`."""
    max_side_px: int = Field(768, ge=128)
    """Long side of the pictures given to the matcher."""
    consistency_px: float = Field(1.25, gt=0)
    """A pixel is known where forward and backward flow agree within this many pixels of the matched size; more
    is allowed where semi-global matching found the same, much less where it found something else."""
    max_vertical_px: float = Field(3.0, gt=0)
    """A pixel that moves further vertically, after alignment, is unknown: it moved between the shots or is mistaken."""
    align: bool = True
    """Estimate offset, roll, zoom, yaw and pitch of the partner from the flow itself and warp it before matching."""


class QualityConfig(Section):
    """When a pair is refused. The rules are those of WSVD and MiDaS (3DVideos2Stereo), one threshold each."""

    max_vertical_px: float = Field(2.0, gt=0)
    """A pixel that moves further than this vertically, after alignment, counts as unrectified."""
    max_vertical_share: float = Field(0.25, ge=0, le=1)
    """Reject `vertical_motion` above this share of such pixels."""
    min_range_share: float = Field(0.007, ge=0, lt=1)
    """Reject `flat` where the P2-P98 range of the disparity, as a share of the picture's width, is smaller."""
    min_known_share: float = Field(0.3, ge=0, le=1)
    """Reject `inconsistent` below this share of pixels whose match holds in both directions."""
    min_agreement: float = Field(0.78, ge=0, le=1)
    """Reject `contradicted` where the second matcher agrees in less than this share of the pixels that both found."""
    max_layer_share: float = Field(0.84, ge=0, le=1)
    """Reject `cut_outs` where more than this share of the pixels lies at four depths: flat pieces, no scene."""


class PairsConfig(Section):
    """Stored ordinal pairs (paper, Sec. 3.2)."""

    num_pairs: int = Field(3000, ge=1, le=100_000)
    """Pairs a picture."""
    sampler: Sampler = "random"
    """`random` as in the paper, `edge_guided` across the edges of the picture (Xian et al., CVPR 2020), `stratified`
    evenly over depth difference and distance. What a sampler cannot give is filled up with random pairs."""
    edge_share: float = Field(0.75, ge=0, le=1)
    """Only for `edge_guided`: share of its pairs that lie at edges (published: 3 of 4), the others are random."""
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
    near_duplicate_bits: int = Field(16, ge=0, le=24)
    """Pictures that differ in at most this many of 64 bits, and whose detail agrees, stay on one side of the split; 0
    compares none. Copies in another size or quality differ in up to 5 bits, with 4 % cropped off in up to 15."""
    decisions: str | None = None
    """A decisions file, which the review page writes: pairs to keep, to drop or to swap. Its content counts, not its
    place."""
    sky: Literal["detect", "masks", "off"] = "detect"
    """`detect`: what is surely sky, and the masks of the source, become the farthest; `masks`: only the masks do."""
    confidence: bool = False
    """Store a confidence map beside the disparity. The stored pairs are drawn by it either way."""
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
