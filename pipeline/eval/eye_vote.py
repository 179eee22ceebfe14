"""A trained predictor's vote on which picture of a stereo pair is the left eye's.

The sign of every disparity hangs on it. A predictor of inverse depth, itself trained on pairs whose eyes were plain,
knows near from far without a partner: where it orders points as the disparity does, the first picture is the left
eye's; where it orders them the other way round, the eyes are swapped. Near one half it says nothing.

Pairs of points share surfaces, so they are no independent witnesses. The error of the agreement is therefore taken
over cells of the picture: the delete-one jackknife, leaving out all pairs with an end in a cell.

    vote = vote_on_pair(first, second, Predictor(net, "cpu"), MatchConfig())    # vote.eyes, vote.agreement, vote.z
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.whdr import Predict
from shards.config import MatchConfig
from shards.frames import common_box
from shards.halves import equalise
from shards.match import match
from shards.pairs import Tolerance, sample_random_pairs
from shards.randomness import CounterRng

__all__ = ["EyeVote", "agreement", "vote_on_disparity", "vote_on_pair"]

_NUM_PAIRS = 20_000
_UNEQUAL = Tolerance("range", 0.05)
_CELLS = 4  # along each side; smaller ones agree with their neighbours by chance, and z says too much
_MIN_CELLS = 8
_MIN_MARGIN = 0.1
_MIN_Z = 3.0  # an ignorant prediction as smooth as depth is (a tenth of the picture) then decides in 3 %
_ERROR_FLOOR = 0.005  # so that a perfect agreement has a z that is a number


@dataclass(frozen=True)
class EyeVote:
    """What a predictor says.

    Args:
        eyes: `undecided` where it orders the points neither as the disparity nor against it.
        agreement: Share of the unequal pairs of points that it orders as the disparity does, 0..1.
        z: `agreement` minus a half, in standard errors over cells of the picture.
        cells: How many cells have a known point.
    """

    eyes: Literal["as_given", "swapped", "undecided"]
    agreement: float
    z: float
    cells: int


def vote_on_pair(
    first: NDArray[np.uint8], second: NDArray[np.uint8], predict: Predict, config: MatchConfig
) -> EyeVote | None:
    """Crop the common frame off a pair, match it and vote.

    Args:
        first: uint8 (H, W, 3), the source's first picture, upright.
        second: uint8 (H, W, 3), its partner.
        predict: Picture to inverse depth, larger = nearer.
        config: How pairs are matched.

    Returns:
        The vote; None where the pictures differ too much in size or have nothing inside their frames.
    """
    halves = equalise(first, second)
    if halves is None:
        return None
    y, x, height, width = common_box(halves.left, halves.right)
    if min(height, width) < _CELLS:
        return None
    first, second = (picture[y : y + height, x : x + width] for picture in (halves.left, halves.right))
    matched = match(first, second, config)
    return vote_on_disparity(predict(matched.left.picture), matched.left.disparity_px)


def vote_on_disparity(inverse_depth: NDArray[np.floating], disparity_px: NDArray[np.floating]) -> EyeVote:
    """Compare a prediction with the disparity of the same picture; swapping the eyes turns the vote.

    Args:
        inverse_depth: (H, W), larger = nearer, on any monotone scale.
        disparity_px: (H, W), larger = nearer if the picture is the left eye's, NaN where unknown.

    Raises:
        ValueError: The shapes differ.
    """
    if inverse_depth.shape != disparity_px.shape:
        raise ValueError(f"prediction and disparity differ in size: {inverse_depth.shape} and {disparity_px.shape}")
    known = np.isfinite(disparity_px) & np.isfinite(inverse_depth)
    pairs = sample_random_pairs(disparity_px, known, _NUM_PAIRS, CounterRng("eye vote"), _UNEQUAL)
    pairs = pairs[pairs[:, 4] != 0].astype(np.int64)
    y_a, x_a, y_b, x_b, relation = pairs.T
    # Relation +1 says that A is farther, so that B has the larger inverse depth; a tie is half right.
    right = 0.5 + 0.5 * np.sign(inverse_depth[y_b, x_b] - inverse_depth[y_a, x_a]) * relation
    height, width = known.shape
    cell_a, cell_b = (y * _CELLS // height * _CELLS + x * _CELLS // width for y, x in ((y_a, x_a), (y_b, x_b)))
    share, error, cells = agreement(right, cell_a, cell_b)
    if cells < _MIN_CELLS:
        return EyeVote("undecided", share, 0.0, cells)
    z = (share - 0.5) / max(error, _ERROR_FLOOR)
    decided = abs(share - 0.5) >= _MIN_MARGIN and abs(z) >= _MIN_Z
    return EyeVote(("as_given" if z > 0 else "swapped") if decided else "undecided", share, z, cells)


def agreement(
    right: NDArray[np.float64], cell_a: NDArray[np.int64], cell_b: NDArray[np.int64]
) -> tuple[float, float, int]:
    """Mean of `right` and its standard error over cells.

    Args:
        right: (P,) 1 where a pair is ordered rightly, 0 where wrongly.
        cell_a: (P,) the cell of its first point, from 0.
        cell_b: (P,) the cell of its second point.

    Returns:
        The mean (a half where there is no pair), its jackknife error, the number of cells with a point.
    """
    cells = np.unique(np.concatenate([cell_a, cell_b]))
    if len(right) == 0 or len(cells) < 2:
        return 0.5, 0.0, len(cells)
    mean = float(right.mean())
    elsewhere = (cell_a[None] != cells[:, None]) & (cell_b[None] != cells[:, None])  # (cells, P)
    left = elsewhere.sum(axis=1)
    without = np.where(left > 0, elsewhere @ right / np.maximum(left, 1), mean)
    error = float(np.sqrt((len(cells) - 1) / len(cells) * ((without - without.mean()) ** 2).sum()))
    return mean, error, len(cells)
