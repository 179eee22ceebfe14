"""Whether a matched pair may become training data, and if not, why.

The rules are those of WSVD and MiDaS (3DVideos2Stereo), on stricter matches: enough pixels that match in both
directions, little vertical motion, some depth. Each is one threshold of `QualityConfig`, and each verdict comes with
the figures it rests on.

Usage:

    reason, figures = verdict(matched, QualityConfig())       # reason is None for a pair to keep
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.config import QualityConfig
from shards.match import Match

__all__ = ["is_same_picture", "verdict"]

_SAME_GREY_LEVELS = 1.0


def verdict(matched: Match, config: QualityConfig) -> tuple[str | None, dict[str, Any]]:
    """Judge a match.

    Returns:
        The first rule that is broken (`inconsistent`, `vertical_motion`, `flat`) or None; and the figures.
    """
    figures = matched.figures()
    moved = np.abs(matched.vertical_px) > config.max_vertical_px
    vertical_share = float(moved.mean()) if moved.size else 1.0
    range_share = (figures["disparity_p98_px"] - figures["disparity_p2_px"]) / matched.known.shape[1]
    figures |= {"vertical_share": round(vertical_share, 4), "range_share": round(range_share, 5)}
    if matched.consistent_share < config.min_known_share:
        return "inconsistent", figures
    if vertical_share > config.max_vertical_share:
        return "vertical_motion", figures
    if range_share < config.min_range_share:
        return "flat", figures
    return None, figures


def is_same_picture(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    """Whether both halves are one picture stored twice, up to JPEG noise: no stereo at all."""
    return bool(np.abs(left.astype(np.int16) - right).mean() < _SAME_GREY_LEVELS)
