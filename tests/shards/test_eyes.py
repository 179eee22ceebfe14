import json

import cv2
import numpy as np
import pytest

from shards.config import MatchConfig
from shards.eyes import decide_eyes, lower_is_nearer, occlusion_votes, weigh
from shards.match import match

from .stereo_scene import mirrored, moved, stereo_pair, truth_scenes

MANY = tuple(
    (y, y + 50, x, x + 40, d)
    for y, x, d in ((10, 40, 12.0), (20, 150, 9.0), (70, 90, 16.0), (120, 30, 10.0), (110, 160, 15.0))
)


@pytest.mark.parametrize("seed", [1, 2])
def test_true_swapped_and_mirrored_pairs_are_told_apart(seed):
    left, right, _ = stereo_pair(boxes=MANY, seed=seed)
    assert decide_eyes(left, right).eyes == "as_given"
    assert decide_eyes(right, left).eyes == "swapped"
    assert decide_eyes(mirrored(right), mirrored(left)).eyes == "as_given"
    assert decide_eyes(mirrored(left), mirrored(right)).eyes == "swapped"


def test_the_sign_of_the_disparity_has_no_say():
    left, right, _ = stereo_pair(boxes=MANY, seed=4)
    for shift in (-12, 12):
        assert decide_eyes(left, moved(right, right_px=shift)).eyes == "as_given"


def test_without_occlusion_nothing_is_decided():
    left, right, _ = stereo_pair(boxes=(), seed=5)
    verdict = decide_eyes(left, right)
    assert verdict.eyes == "undecided"
    assert abs(verdict.votes_z) < 1
    json.dumps(verdict.figures(), allow_nan=False)


def test_grey_pictures_without_content_are_undecided():
    flat = np.full((120, 160, 3), 90, dtype=np.uint8)
    verdict = decide_eyes(flat, flat)
    assert (verdict.eyes, verdict.lower_is_nearer, verdict.cells) == ("undecided", 0.0, 0)


def test_how_far_the_disparity_grows_downwards():
    y, x = np.mgrid[:60, :90].astype(np.float32)
    floor = y + 0
    assert lower_is_nearer(floor) == 1.0
    assert lower_is_nearer(-floor) == -1.0
    assert abs(lower_is_nearer(x)) < 0.05
    assert lower_is_nearer(np.zeros_like(x)) == lower_is_nearer(np.full_like(x, np.nan)) == 0.0
    half = np.where(x < 45, floor, 30 + 0 * x)
    assert lower_is_nearer(half) == pytest.approx(lower_is_nearer(half * 7 - 100), abs=0.01)
    holes = np.where(np.random.default_rng(0).random((60, 90)) < 0.5, floor, np.nan).astype(np.float32)
    assert lower_is_nearer(holes) == 1.0


def test_the_place_in_the_frame_helps_but_never_decides_alone():
    """A floor without any edge: all points obey the prior, and there are no votes."""
    left, right, _ = stereo_pair(boxes=(), seed=5)
    rows = np.arange(180, dtype=np.float32)[:, None] / 18
    x = np.arange(240, dtype=np.float32)[None] + np.zeros((180, 1), np.float32)
    right = cv2.remap(left, x + rows, np.repeat(rows * 18, 240, axis=1), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    floor, swapped = decide_eyes(left, right), decide_eyes(right, left)
    assert floor.lower_is_nearer > 0.95
    assert swapped.lower_is_nearer < -0.95
    for verdict in (floor, swapped):
        assert verdict.eyes == "undecided"
        assert verdict.z == pytest.approx(verdict.votes_z + 2 * verdict.lower_is_nearer)


def test_the_evidence_is_antisymmetric():
    left, right, _ = stereo_pair(boxes=MANY, lean_px=4, seed=3)
    given, swapped = decide_eyes(left, right), decide_eyes(right, left)
    assert given.z > 0 > swapped.z
    assert swapped.z == pytest.approx(-given.z, rel=0.2)
    reflected = decide_eyes(mirrored(right), mirrored(left))
    assert reflected.z == pytest.approx(given.z, rel=0.2)


def test_a_strip_votes_for_the_side_it_looks_like():
    picture = np.zeros((48, 100, 3), dtype=np.uint8)
    picture[:, :50], picture[:, 50:] = (200, 30, 30), (30, 30, 200)
    flow = np.zeros((48, 100, 2), dtype=np.float32)
    flow[:, :40, 0], flow[:, 50:, 0] = -2.0, -12.0  # the sides close by the 10 px between them
    known = np.ones((48, 100), dtype=bool)
    known[:, 40:50] = False
    votes, weights = occlusion_votes(picture, flow, known)
    assert (votes > 0.8).all()
    assert (weights > 0).all()
    picture[:, 40:50] = (30, 30, 200)
    assert (occlusion_votes(picture, flow, known)[0] < -0.8).all()
    flow[..., 0] *= -1  # now the sides part: a strip without a match is no occlusion
    assert occlusion_votes(picture, flow, known)[0].size == 0


@pytest.mark.data
@pytest.mark.slow
def test_eyes_of_real_scenes(real_data):
    """Each scene as it is, swapped, and mirrored (a mirror swaps the eyes, so the pair is exchanged too)."""
    right_ones = decided = cases = 0
    missed = []
    for name, left, right, _ in truth_scenes(real_data):
        for expected, pair in (
            ("as_given", (left, right)),
            ("swapped", (right, left)),
            ("as_given", (mirrored(right), mirrored(left))),
        ):
            verdict = weigh(match(*pair, MatchConfig()))
            cases += 1
            decided += verdict.eyes != "undecided"
            right_ones += verdict.eyes == expected
            if verdict.eyes != expected:
                missed.append((name, expected, verdict))
    assert right_ones / decided >= 0.97, missed
    assert decided / cases >= 0.85, missed
