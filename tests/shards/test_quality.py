import json

import numpy as np
import pytest

from shards.config import MatchConfig, QualityConfig
from shards.match import match
from shards.quality import is_same_picture, verdict

from .stereo_scene import moved, stereo_pair

RULES = QualityConfig()


def judge(left, right, rules=RULES, **settings):
    return verdict(match(left, right, MatchConfig(**settings)), rules)


def test_a_good_pair_is_kept_with_its_figures():
    left, right, _ = stereo_pair()
    reason, figures = judge(left, right)
    assert reason is None
    assert figures["range_share"] == pytest.approx(11 / 240, abs=0.01)
    assert figures["vertical_share"] < 0.02
    json.dumps(figures, allow_nan=False)


def test_unrelated_pictures_are_inconsistent():
    left, _, _ = stereo_pair(seed=1)
    _, right, _ = stereo_pair(seed=2)
    assert judge(left, right)[0] == "inconsistent"


def test_one_depth_is_flat():
    left, right, _ = stereo_pair(boxes=())
    assert judge(left, right)[0] == "flat"


def test_vertical_motion_without_alignment_and_its_threshold():
    left, right, _ = stereo_pair()
    rolled = moved(right, degrees=2)
    assert judge(left, rolled, align_rows=False)[0] == "vertical_motion"
    assert judge(left, rolled, QualityConfig(max_vertical_share=1.0), align_rows=False)[0] is None
    assert judge(left, rolled)[0] is None


def test_things_that_moved_down_between_the_shots():
    left, right, _ = stereo_pair(boxes=())
    patch, _, _ = stereo_pair(boxes=(), seed=9)
    left[60:140, 60:180], right[60:140, 60:180] = patch[60:140, 60:180], patch[52:132, 60:180]
    reason, figures = judge(left, right)
    assert reason == "vertical_motion"
    assert figures["vertical_share"] > 0.1


def test_blank_pictures_have_finite_figures():
    blank = np.full((120, 160, 3), 128, dtype=np.uint8)
    reason, figures = judge(blank, blank)
    assert reason == "flat"
    json.dumps(figures, allow_nan=False)


def test_the_same_picture_twice():
    left, right, _ = stereo_pair()
    assert is_same_picture(left, left)
    assert is_same_picture(left, np.clip(left.astype(int) + 1, 0, 255).astype(np.uint8) - (left % 2))
    assert not is_same_picture(left, right)
