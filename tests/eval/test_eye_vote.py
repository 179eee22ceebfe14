import cv2
import numpy as np
import pytest

from pipeline.eval.eye_vote import agreement, vote_on_disparity, vote_on_pair
from shards.config import MatchConfig
from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene as rendered_scene

OTHER = {"as_given": "swapped", "swapped": "as_given", "undecided": "undecided"}


def smooth(seed, hw=(120, 160), sigma=15.0):
    field = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=hw), (0, 0), sigma)
    return ((field - field.mean()) / field.std()).astype(np.float32)


def holes(disparity, seed):
    return np.where(np.random.default_rng(seed).uniform(size=disparity.shape) < 0.3, np.nan, disparity)


@pytest.mark.parametrize("seed", range(3))
def test_a_prediction_that_is_right_decides_either_way(seed):
    disparity = holes(smooth(seed), seed)
    prediction = np.exp(smooth(seed))  # any monotone scale
    vote = vote_on_disparity(prediction, disparity)
    assert (vote.eyes, vote.agreement, vote.cells) == ("as_given", 1.0, 16) and vote.z > 20
    assert vote_on_disparity(prediction, -disparity).eyes == "swapped"


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("skill", [0.0, 0.4, 1.0])
def test_swapping_turns_the_vote_and_nothing_else(seed, skill):
    disparity = holes(10 * smooth(seed), seed)
    prediction = skill * smooth(seed) + smooth(seed + 1000)
    one, other = (vote_on_disparity(prediction, sign * disparity) for sign in (1, -1))
    assert other.eyes == OTHER[one.eyes]
    assert other.agreement == pytest.approx(1 - one.agreement) and other.z == pytest.approx(-one.z)


def test_a_prediction_that_knows_nothing_seldom_decides():
    """Both are smooth, as depth is: pairs of points agree in whole regions at once, by chance."""
    decided = [vote_on_disparity(smooth(seed), smooth(seed + 1000)).eyes != "undecided" for seed in range(100)]
    assert sum(decided) <= 6
    fine = [vote_on_disparity(smooth(seed, sigma=4.0), smooth(seed + 1000)).eyes != "undecided" for seed in range(20)]
    assert not any(fine)


def test_skill_decides_most_and_errs_seldom():
    votes = [vote_on_disparity(smooth(seed) + 0.8 * smooth(seed + 1000), smooth(seed)).eyes for seed in range(40)]
    assert votes.count("as_given") >= 32 and votes.count("swapped") == 0


def test_what_cannot_be_told_is_undecided():
    disparity = smooth(0)
    flat = vote_on_disparity(np.ones_like(disparity), disparity)  # ties are half right
    assert (flat.eyes, flat.agreement) == ("undecided", 0.5)
    nothing = vote_on_disparity(disparity, np.full_like(disparity, np.nan))
    assert (nothing.eyes, nothing.agreement, nothing.cells) == ("undecided", 0.5, 0)
    corner = np.full_like(disparity, np.nan)
    corner[:40, :40] = disparity[:40, :40]
    assert vote_on_disparity(disparity, corner).eyes == "undecided"  # a small part of the picture is no majority
    broken = np.full_like(disparity, np.nan)
    assert vote_on_disparity(broken, disparity).eyes == "undecided"
    with pytest.raises(ValueError, match="differ in size"):
        vote_on_disparity(disparity, disparity[1:])


def test_the_error_is_that_of_leaving_each_cell_out():
    rng = np.random.default_rng(3)
    right = rng.integers(0, 2, 300).astype(float)
    cell_a, cell_b = rng.integers(0, 9, (2, 300))
    share, error, cells = agreement(right, cell_a, cell_b)
    without = []
    for cell in range(9):
        rest = [r for r, a, b in zip(right, cell_a, cell_b, strict=True) if cell not in (a, b)]
        without.append(sum(rest) / len(rest))
    mean = sum(without) / 9
    slow = (8 / 9 * sum((value - mean) ** 2 for value in without)) ** 0.5
    assert (share, cells) == (right.mean(), 9) and error == pytest.approx(slow)
    assert agreement(right[:0], cell_a[:0], cell_b[:0]) == (0.5, 0.0, 0)


@pytest.mark.parametrize("index", range(2))
def test_rendered_pairs_are_voted_on_rightly_with_frame_and_all(index):
    scene = rendered_scene(SyntheticSourceConfig(kind="synthetic", height_px=120, width_px=176), index)
    framed = [np.pad(picture, ((12, 12), (0, 0), (0, 0))) for picture in (scene.left, scene.right)]
    mirrored = [np.ascontiguousarray(picture[:, ::-1]) for picture in framed]  # the first is now a right eye's picture

    def knows(truth):
        def predict(picture):
            assert 110 <= picture.shape[0] <= 120 and picture.shape[1] == 176  # the frame is gone
            top = (120 - picture.shape[0]) // 2
            return truth[top : top + picture.shape[0]]

        return predict

    config = MatchConfig()
    assert vote_on_pair(*framed, knows(scene.disparity_px), config).eyes == "as_given"
    assert vote_on_pair(*mirrored, knows(scene.disparity_px[:, ::-1]), config).eyes == "swapped"
    rng = np.random.default_rng(index)
    assert vote_on_pair(*framed, lambda picture: rng.normal(size=picture.shape[:2]), config).eyes == "undecided"


def test_pictures_of_two_sizes_and_empty_frames_get_no_vote():
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    assert vote_on_pair(picture, picture[20:], lambda p: p[..., 0], MatchConfig()) is None
