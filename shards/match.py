"""Stereo pair to disparity: flow both ways on an aligned pair, kept where its two directions agree.

Flow instead of rectified stereo matching alone, as the ReDWeb paper argues: web pictures are seldom rectified, and
their disparities take both signs. The partner is aligned first (`shards.align`); the left picture is never warped.

Usage:

    matched = match(left, right, MatchConfig())
    disparity_px = matched.left.disparity_px      # (h, w) at the matched size, larger = nearer, NaN where unknown
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.align import Alignment, estimate_alignment, unexplained_vertical, warp_partner
from shards.config import MatchConfig
from shards.flow import disagreement, grey, pixel_grid, sample_at
from shards.images import scale_down
from shards.matchers import FLOWS
from shards.smooth import fit_planes

__all__ = ["Match", "Side", "blank", "match", "without_islands"]

_ISLAND_SHARE = 0.003
_ISLAND_STEP_PX = 0.5
_NO_DISPARITY = -32768
_BLANK_HW_PX = (7, 15)
_BLANK_GREY_LEVELS = 1
_AGREE_PX = 1.0
_SECONDED, _CONTRADICTED = 2.1, 0.4  # of the tolerance, where another matcher agrees or differs
_SILENCE, _DOUBT = 0.6, 0.3  # of the confidence, where another matcher found nothing or differs

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Side:
    """One picture of a matched pair and what is known of its pixels.

    Args:
        picture: uint8 (h, w, 3), as matched.
        flow: float32 (h, w, 2), x and y, to the other side's picture, in pixels.
        second: float32 (h, w), horizontal flow of another matcher, NaN where it found none; None where none was asked.
        disagreement_px: float32 (h, w), how far following the flow there and back ends from the start.
        known: bool (h, w), where the two directions agree and nothing speaks against the match.
        consistent_share: Share of the pixels whose match holds in both directions, before anything else was dropped.
        agreement: Share of the matches that both matchers found in which they agree; 1 where there is no second one.
        vertical_px: float32 (N,), vertical motion of the consistent pixels that alignment and a tilted baseline leave
            unexplained.
        tilt: Of the baseline, pixels of vertical motion for a pixel of horizontal motion.
    """

    picture: NDArray[np.uint8]
    flow: Floats
    second: Floats | None
    disagreement_px: Floats
    known: Mask
    consistent_share: float
    agreement: float
    vertical_px: Floats
    tilt: float

    @cached_property
    def disparity_px(self) -> Floats:
        """Float32 (h, w), larger = nearer if this is the left eye's picture; any sign; NaN where unknown."""
        return fit_planes(np.where(self.known, -self.flow[..., 0], np.float32(np.nan)))

    def confidence(self, tolerance_px: float) -> NDArray[np.uint8]:
        """Uint8 (h, w), 255 = certain, 0 = unknown: both directions meet, and another matcher says the same."""
        meeting = 1 - 0.5 * np.minimum(self.disagreement_px / tolerance_px, 1)
        if self.second is None:
            support: Any = _SILENCE
        else:
            support = np.where(_agrees(self.flow, self.second), 1.0, np.where(np.isnan(self.second), _SILENCE, _DOUBT))
        return np.where(self.known, np.maximum(np.rint(255 * meeting * support), 1), 0).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Match:
    """What a pair of pictures says about depth, at the matched size (long side at most `MatchConfig.max_side_px`).

    Args:
        left: The reference, never warped.
        right: The partner, aligned.
        alignment: What was taken out of the partner.
    """

    left: Side
    right: Side
    alignment: Alignment

    def figures(self) -> dict[str, Any]:
        """Numbers for the record: matched size, the alignment in units of the long side, range and known share."""
        known = self.left.disparity_px[self.left.known]
        low, high = np.percentile(known, (2, 98)) if known.size else (0.0, 0.0)
        return {
            "matched_hw": list(self.left.known.shape),
            "alignment": {name: round(value, 6) for name, value in asdict(self.alignment).items()},
            "disparity_p2_px": round(float(low), 3),
            "disparity_p98_px": round(float(high), 3),
            "consistent_share": round(self.left.consistent_share, 4),
            "known_share": round(float(self.left.known.mean()), 4),
            "agreement": round(self.left.agreement, 4),
            "baseline_tilt": round(self.left.tilt, 4),
        }


def match(left: NDArray[np.uint8], right: NDArray[np.uint8], config: MatchConfig) -> Match:
    """Match a picture with its partner.

    Args:
        left: uint8 (H, W, 3), the reference.
        right: uint8 (H, W, 3) of the same size.
        config: Scale, method, consistency, alignment.

    Raises:
        ValueError: The pictures differ in size.
        ConfigError: The method needs weights and they are missing or not its own.
    """
    if left.shape != right.shape:
        raise ValueError(f"the pictures differ in size: {left.shape} and {right.shape}")
    left, right = scale_down(left, config.max_side_px), scale_down(right, config.max_side_px)
    alignment = estimate_alignment(left, right) if config.align else Alignment()
    right, covered = warp_partner(right, alignment)
    flows = FLOWS[config.method](left, right, config)
    x, y = pixel_grid(*covered.shape)
    x, y = x + flows.forward[..., 0], y + flows.forward[..., 1]
    reaches = sample_at(covered.astype(np.float32), x, y, outside=0.0) > 0.99
    seconds = flows.second or (None, None)
    return Match(
        left=_side(left, flows.forward, flows.backward, seconds[0], reaches, config),
        right=_side(right, flows.backward, flows.forward, seconds[1], covered, config),
        alignment=alignment,
    )


def _side(
    picture: NDArray[np.uint8], flow: Floats, back: Floats, second: Floats | None, seen: Mask, config: MatchConfig
) -> Side:
    """What is known of one picture; `seen` are the places that the other picture covers."""
    disagreement_px = disagreement(flow, back)
    consistent = seen & (disagreement_px <= config.consistency_px)
    agreement = 1.0
    if second is not None:
        agrees, silent = _agrees(flow, second), np.isnan(second)
        both = np.count_nonzero(consistent & ~silent)
        agreement = np.count_nonzero(consistent & agrees) / both if both else 0.0
        tolerance = np.where(silent, 1.0, np.where(agrees, _SECONDED, _CONTRADICTED)) * config.consistency_px
        consistent = seen & (disagreement_px <= tolerance)
    vertical_px, tilt = unexplained_vertical(flow, consistent)
    believed = consistent & (np.abs(vertical_px) <= config.max_vertical_px) & ~blank(picture)
    known = without_islands(believed, flow[..., 0])
    share = float(consistent.mean())
    return Side(picture, flow, second, disagreement_px, known, share, agreement, vertical_px[consistent], tilt)


def _agrees(flow: Floats, second: Floats) -> Mask:
    """Where two matchers found the same, within a pixel; False where the second found nothing."""
    return np.asarray(np.abs(second - flow[..., 0]) < _AGREE_PX)


def blank(picture: NDArray[np.uint8]) -> Mask:
    """Where no row nearby changes: overexposed sky, black background. Any match agrees there in both directions.

    Args:
        picture: uint8 (H, W, 3).

    Returns:
        bool (H, W).
    """
    rows, columns = _BLANK_HW_PX
    luminance, window = grey(picture), np.ones((1, columns), dtype=np.uint8)
    change = cv2.dilate(luminance, window) - cv2.erode(luminance, window)
    return np.asarray(cv2.dilate(change, np.ones((rows, 1), dtype=np.uint8)) <= _BLANK_GREY_LEVELS)


def without_islands(known: Mask, disparity_px: Floats) -> Mask:
    """Drop small patches that share their disparity with no neighbour: what agrees by chance in sky and shadow.

    Args:
        known: bool (H, W).
        disparity_px: float32 (H, W); its sign does not matter.
    """
    sixteenths = np.where(known, np.clip(disparity_px * 16, -32000, 32000), _NO_DISPARITY).astype(np.int16)
    cv2.filterSpeckles(sixteenths, _NO_DISPARITY, round(_ISLAND_SHARE * known.size), round(_ISLAND_STEP_PX * 16))
    return np.asarray(sixteenths != _NO_DISPARITY)
