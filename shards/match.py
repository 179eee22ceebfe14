"""Stereo pair to disparity: DIS optical flow both ways, kept where the two agree.

Flow instead of rectified stereo matching, as the ReDWeb paper argues: web pictures are seldom rectified, and their
disparities take both signs. The partner is aligned first (`shards.align`); the reference, on which the network is
trained, is never warped.

Usage:

    result = match(left, right, MatchConfig())
    disparity_px = result.disparity_px        # (h, w) at the matched size, larger = nearer, NaN where unknown
"""

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.align import Alignment, estimate_alignment, unexplained_vertical, warp_partner
from shards.config import MatchConfig
from shards.flow import consistent, flow_both_ways, pixel_grid, sample_at
from shards.images import scale_down

__all__ = ["Match", "match", "without_islands"]

_ISLAND_SHARE = 0.003
_ISLAND_STEP_PX = 0.5
_NO_DISPARITY = -32768

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Match:
    """What a pair of pictures says about depth, at the matched size (long side at most `MatchConfig.max_side_px`).

    Args:
        left: uint8 (h, w, 3), the reference, as matched.
        right: uint8 (h, w, 3), the partner, as matched: scaled and aligned.
        forward: float32 (h, w, 2), flow x, y from left to right, in pixels.
        backward: float32 (h, w, 2), flow from right to left.
        known: bool (h, w), where the two agree and the partner covers the place.
        alignment: What was taken out of the partner.
    """

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    forward: Floats
    backward: Floats
    known: Mask
    alignment: Alignment
    consistent_share: float
    """Share of the pixels whose match holds in both directions, before small islands were dropped."""
    vertical_px: Floats
    """float32 (N,): vertical motion at the known pixels that alignment and a tilted baseline leave unexplained."""
    tilt: float

    @property
    def disparity_px(self) -> Floats:
        """Float32 (h, w), larger = nearer if `left` is the left eye; any sign; NaN where unknown."""
        return np.where(self.known, -self.forward[..., 0], np.float32(np.nan))

    def figures(self) -> dict[str, Any]:
        """Numbers for the record: matched size, the alignment in units of the long side, range and known share."""
        known = self.disparity_px[self.known]
        low, high = np.percentile(known, (2, 98)) if known.size else (0.0, 0.0)
        return {
            "matched_hw": list(self.known.shape),
            "alignment": {name: round(value, 6) for name, value in asdict(self.alignment).items()},
            "disparity_p2_px": round(float(low), 3),
            "disparity_p98_px": round(float(high), 3),
            "consistent_share": round(self.consistent_share, 4),
            "known_share": round(float(self.known.mean()), 4),
            "baseline_tilt": round(self.tilt, 4),
        }


def match(left: NDArray[np.uint8], right: NDArray[np.uint8], config: MatchConfig) -> Match:
    """Match a picture with its partner.

    Args:
        left: uint8 (H, W, 3), the reference.
        right: uint8 (H, W, 3) of the same size.
        config: Scale, depth of the search, consistency, alignment.

    Raises:
        ValueError: The pictures differ in size.
    """
    if left.shape != right.shape:
        raise ValueError(f"the pictures differ in size: {left.shape} and {right.shape}")
    left, right = scale_down(left, config.max_side_px), scale_down(right, config.max_side_px)
    alignment = estimate_alignment(left, right) if config.align_rows else Alignment()
    right, covered = warp_partner(right, alignment)
    forward, backward = flow_both_ways(left, right, config.finest_scale)
    known = consistent(forward, backward, config.consistency_px)
    x, y = pixel_grid(*known.shape)
    known &= sample_at(covered.astype(np.float32), x + forward[..., 0], y + forward[..., 1], outside=0.0) > 0.99
    consistent_share = float(known.mean())
    vertical_px, tilt = unexplained_vertical(forward, known)
    known = without_islands(known, forward[..., 0])
    return Match(left, right, forward, backward, known, alignment, consistent_share, vertical_px, tilt)


def without_islands(known: Mask, disparity_px: Floats) -> Mask:
    """Drop small patches that share their disparity with no neighbour: what agrees by chance in sky and shadow.

    Args:
        known: bool (H, W).
        disparity_px: float32 (H, W); its sign does not matter.
    """
    sixteenths = np.where(known, np.clip(disparity_px * 16, -32000, 32000), _NO_DISPARITY).astype(np.int16)
    cv2.filterSpeckles(sixteenths, _NO_DISPARITY, round(_ISLAND_SHARE * known.size), round(_ISLAND_STEP_PX * 16))
    return np.asarray(sixteenths != _NO_DISPARITY)
