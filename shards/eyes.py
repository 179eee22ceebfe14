"""Which picture of a pair is the left eye's? Read off the strips that only one eye sees.

The sign of the disparity cannot tell: web pictures are shifted at will, and swapped eyes turn every label around.
Occlusion can. Where a near object hides a strip of the background from one eye, the strip belongs to the *farther*
surface, and in the left eye's picture it lies to the *left* of the near object (in the right eye's, to its right).
So: find, row by row, runs of pixels without a match whose two sides move towards each other by about the length of
the run, and ask which side they look like. In a true left picture they continue the left side. Both pictures vote
(the right one mirrored); neighbouring rows see the same edge, so votes are pooled in cells before they are counted.

The vote is antisymmetric: swapping the pictures turns its sign, mirroring *and* swapping keeps it.

What it cannot tell: scenes without occlusion, and recesses whose side wall looks like neither side. There the place in
the frame helps a little: in most pictures what is lower is nearer. That prior is worth two standard deviations where
it holds for every pair of points, so it never decides alone.

Usage:

    verdict = decide_eyes(left, right)        # verdict.eyes: "as_given", "swapped" or "undecided"
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.config import MatchConfig
from shards.match import Match, match
from shards.pairs import Tolerance, sample_random_pairs
from shards.randomness import CounterRng

__all__ = ["EyeVerdict", "decide_eyes", "lower_is_nearer", "occlusion_votes", "weigh"]

_MIN_Z = 2.2
_PRIOR_Z = 2.0
_PRIOR_PAIRS = 20_000
_FLANK_PX = 6
_CELL_PX = 24
_LAB_NOISE = 6.0  # a smaller difference in colour says little


@dataclass(frozen=True)
class EyeVerdict:
    """Whether the first picture is the left eye's.

    Args:
        eyes: `undecided` where the evidence is thin.
        z: What decides, positive for `as_given`: the mean vote in standard deviations under the hypothesis that the
            votes are symmetric about zero, plus the prior.
        votes_z: The part of it that the votes gave.
        lower_is_nearer: -1..1, how far the first picture's disparity grows downwards.
        cells: How many places voted.
    """

    eyes: Literal["as_given", "swapped", "undecided"]
    z: float
    votes_z: float
    lower_is_nearer: float
    cells: int

    def figures(self) -> dict[str, Any]:
        """Numbers for the record."""
        return {
            "eyes_z": round(self.z, 2),
            "eyes_votes_z": round(self.votes_z, 2),
            "eyes_lower_is_nearer": round(self.lower_is_nearer, 3),
            "eyes_cells": self.cells,
        }


def decide_eyes(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> EyeVerdict:
    """Decide which of two pictures, uint8 (H, W, 3) each, is the left eye's.

    Raises:
        ValueError: The pictures differ in size.
    """
    return weigh(match(left, right, MatchConfig()))


def weigh(matched: Match) -> EyeVerdict:
    """The verdict from a match that is already made."""
    left, right = matched.left, matched.right
    mirrored_flow = right.flow[:, ::-1] * np.array([-1, 1], dtype=np.float32)
    votes, weights = (
        np.concatenate(parts)
        for parts in zip(
            occlusion_votes(left.picture, left.flow, left.known),
            occlusion_votes(right.picture[:, ::-1], mirrored_flow, right.known[:, ::-1]),
            strict=True,
        )
    )
    weighted = votes * weights
    votes_z = float(weighted.sum() / np.sqrt((weighted**2).sum() + 1e-12))
    lower = lower_is_nearer(left.disparity_px)
    z = votes_z + _PRIOR_Z * lower
    eyes: Literal["as_given", "swapped", "undecided"] = "undecided"
    if abs(z) >= _MIN_Z:
        eyes = "as_given" if z > 0 else "swapped"
    return EyeVerdict(eyes, z, votes_z, lower, votes.size)


def lower_is_nearer(disparity_px: NDArray[np.float32]) -> float:
    """How far a disparity (H, W), NaN = unknown, grows downwards: +1 in every pair of points, -1 in none; 0 if flat."""
    known = np.isfinite(disparity_px)
    pairs = sample_random_pairs(disparity_px, known, _PRIOR_PAIRS, CounterRng("eyes prior"), Tolerance("range", 0.02))
    y_a, _, y_b, _, relation = pairs.astype(np.int64).T
    votes = (relation * np.sign(y_b - y_a))[(relation != 0) & (y_a != y_b)]
    return float(votes.mean()) if votes.size else 0.0


def occlusion_votes(
    picture: NDArray[np.uint8], flow: NDArray[np.float32], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Votes for `picture` being a left eye's, from its half-occluded strips.

    Args:
        picture: uint8 (H, W, 3).
        flow: float32 (H, W, 2) to the other eye's picture.
        known: bool (H, W), where the flow holds in both directions.

    Returns:
        Per cell: vote in -1..1, positive where the strips look like what is on their left; and its weight.
    """
    width = known.shape[1]
    row, start, stop = _runs(~known)
    length = stop - start
    inside = (start >= _FLANK_PX) & (stop + _FLANK_PX <= width) & (length >= 2) & (length <= 0.15 * width)
    row, start, stop, length = row[inside], start[inside], stop[inside], length[inside]

    horizontal = np.where(known, flow[..., 0], 0).astype(np.float64)
    motion_sum, known_sum = _running_sum(horizontal), _running_sum(known.astype(np.float64))
    known_left = known_sum[row, start] - known_sum[row, start - _FLANK_PX]
    known_right = known_sum[row, stop + _FLANK_PX] - known_sum[row, stop]
    motion_left = (motion_sum[row, start] - motion_sum[row, start - _FLANK_PX]) / np.maximum(known_left, 1)
    motion_right = (motion_sum[row, stop + _FLANK_PX] - motion_sum[row, stop]) / np.maximum(known_right, 1)
    closing = motion_left - motion_right
    occluded = (
        (np.minimum(known_left, known_right) >= 0.7 * _FLANK_PX)
        & (closing > 1.5)
        & (length >= 0.4 * closing)
        & (length <= 2 * closing + 4)
    )
    row, start, stop, length, closing = (a[occluded] for a in (row, start, stop, length, closing))

    colour_sum = _running_sum(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2LAB).astype(np.float64))
    flank = np.minimum(length, _FLANK_PX)
    strip = (colour_sum[row, stop] - colour_sum[row, start]) / length[:, None]
    on_left = (colour_sum[row, start] - colour_sum[row, start - flank]) / flank[:, None]
    on_right = (colour_sum[row, stop + flank] - colour_sum[row, stop]) / flank[:, None]
    unlike_left = np.linalg.norm(strip - on_left, axis=1)
    unlike_right = np.linalg.norm(strip - on_right, axis=1)
    vote = (unlike_right - unlike_left) / (unlike_right + unlike_left + _LAB_NOISE)
    weight = np.minimum(closing, 8.0)

    cell = (row // _CELL_PX) * width + ((start + stop) // 2) // _CELL_PX
    _, cell, rows_in_cell = np.unique(cell, return_inverse=True, return_counts=True)
    cell_weight = np.bincount(cell, weight)
    cell_vote = np.bincount(cell, vote * weight) / np.maximum(cell_weight, 1e-12)
    several = rows_in_cell >= 4  # an edge of a surface runs through several rows, noise does not
    return cell_vote[several], np.minimum(cell_weight[several], 40.0)


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row, start and stop (exclusive) of every horizontal run of True in (H, W)."""
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(steps == 1)
    return row, start, np.nonzero(steps == -1)[1]


def _running_sum(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W + 1, ...) sums from the left border, so that sum[x1] - sum[x0] is that of x0..x1-1."""
    start = np.zeros_like(field[:, :1])
    return np.concatenate([start, np.cumsum(field, axis=1)], axis=1)
