"""Whether a matched pair may become training data, and if not, why.

The rules are those of WSVD and MiDaS (3DVideos2Stereo), on stricter matches: enough pixels that match in both
directions, little vertical motion, some depth. Two are added: no other matcher that contradicts, and no cut-outs, flat
pieces pasted at a few depths. Each is one threshold of `QualityConfig`, and each verdict comes with the figures it
rests on.

Usage:

    reason, figures = verdict(matched, QualityConfig())       # reason is None for a pair to keep
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.config import QualityConfig
from shards.match import Match

__all__ = ["is_same_picture", "layer_share", "verdict"]

_SAME_GREY_LEVELS = 1.0
_LAYERS = 4
_SHALLOW_PX = 8.0


def verdict(matched: Match, config: QualityConfig) -> tuple[str | None, dict[str, Any]]:
    """Judge a match.

    Returns:
        The first rule that is broken (`inconsistent`, `contradicted`, `vertical_motion`, `flat`, `cut_outs`) or None;
        and the figures.
    """
    figures = matched.figures()
    moved = np.abs(matched.left.vertical_px) > config.max_vertical_px
    vertical_share = float(moved.mean()) if moved.size else 1.0
    range_share = (figures["disparity_p98_px"] - figures["disparity_p2_px"]) / matched.left.known.shape[1]
    figures |= {
        "vertical_share": round(vertical_share, 4),
        "range_share": round(range_share, 5),
        "layer_share": round(layer_share(matched.left.disparity_px), 4),
    }
    if matched.left.consistent_share < config.min_known_share:
        return "inconsistent", figures
    if matched.left.agreement < config.min_agreement:
        return "contradicted", figures
    if vertical_share > config.max_vertical_share:
        return "vertical_motion", figures
    if range_share < config.min_range_share:
        return "flat", figures
    if figures["layer_share"] > config.max_layer_share:
        return "cut_outs", figures
    return None, figures


def layer_share(disparity_px: NDArray[np.float32]) -> float:
    """Share of the known pixels that lie in the four fullest half-pixel steps of disparity; 0 for a shallow scene.

    Args:
        disparity_px: float32 (H, W), NaN where unknown.
    """
    values = disparity_px[np.isfinite(disparity_px)]
    if not values.size or np.subtract(*np.percentile(values, (98, 2))) < _SHALLOW_PX:
        return 0.0
    steps = np.unique(np.floor(2 * (values - values.min())), return_counts=True)[1]
    return float(np.sort(steps)[-_LAYERS:].sum() / values.size)


def is_same_picture(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    """Whether both halves are one picture stored twice, up to JPEG noise: no stereo at all."""
    return bool(np.abs(left.astype(np.int16) - right).mean() < _SAME_GREY_LEVELS)
