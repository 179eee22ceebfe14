import json
from dataclasses import replace

import numpy as np
import pytest

from shards.config import MatchConfig, QualityConfig
from shards.match import match
from shards.matchers import FLOWS
from shards.quality import is_same_picture, layer_share, verdict

from .stereo_scene import moved, stereo_pair

RULES = QualityConfig()


def leaning_pair(**settings):
    """A pair whose surfaces are no cut-outs."""
    return stereo_pair(lean_px=6, **settings)[:2]


def judge(left, right, rules=RULES, **settings):
    return verdict(match(left, right, MatchConfig(**settings)), rules)


def test_a_good_pair_is_kept_with_its_figures():
    reason, figures = judge(*leaning_pair())
    assert reason is None
    assert figures["range_share"] == pytest.approx(14 / 240, abs=0.01)
    assert figures["agreement"] > 0.9
    assert figures["layer_share"] < 0.6
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
    left, right = leaning_pair()
    rolled = moved(right, degrees=2)
    for method, rules in (("dis", RULES), ("fusion", QualityConfig(min_agreement=0.0))):
        assert judge(left, rolled, rules, align=False, method=method)[0] == "vertical_motion"
    lenient = QualityConfig(max_vertical_share=1.0, min_agreement=0.0)
    assert judge(left, rolled, lenient, align=False)[0] is None
    assert judge(left, rolled, align=False)[0] == "contradicted"  # rows that are not level deceive the second matcher
    assert judge(left, rolled)[0] is None


def test_things_that_moved_down_between_the_shots():
    left, right, _ = stereo_pair(boxes=())
    patch, _, _ = stereo_pair(boxes=(), seed=9)
    left[40:140, 40:200], right[40:140, 40:200] = patch[40:140, 40:200], patch[32:132, 40:200]
    reason, figures = judge(left, right)
    assert reason == "vertical_motion"
    assert figures["vertical_share"] > 0.25


def test_blank_pictures_have_finite_figures():
    blank = np.full((120, 160, 3), 128, dtype=np.uint8)
    reason, figures = judge(blank, blank)
    assert reason == "contradicted"  # nothing was found twice
    json.dumps(figures, allow_nan=False)


def test_pieces_at_four_depths_are_cut_outs_and_leaning_ones_a_scene():
    cut = stereo_pair(wall_px=2, boxes=((40, 110, 50, 100, 14.0), (90, 160, 140, 200, 9.0)))[:2]
    reason, figures = judge(*cut)
    assert reason == "cut_outs"
    assert figures["layer_share"] > 0.9
    assert judge(*cut, QualityConfig(max_layer_share=1.0))[0] is None


def test_the_share_of_layers_is_counted_in_half_pixels():
    rng = np.random.default_rng(0)
    even = rng.uniform(0, 20, (100, 100)).astype(np.float32)
    assert layer_share(even) == pytest.approx(4 / 40, abs=0.02)
    layers = rng.choice(np.array([0.1, 5.1, 9.1, 20.1], np.float32), (100, 100))
    assert layer_share(layers) == 1.0
    assert layer_share(np.where(np.eye(100) > 0, np.nan, layers)) == 1.0
    half = np.where(np.arange(100)[:, None] < 50, layers, even)
    assert layer_share(half) == pytest.approx(0.5 + 0.5 * 4 / 40, abs=0.03)
    assert layer_share(layers / 3) == 0.0  # too shallow to tell
    assert layer_share(np.full((5, 5), np.nan, np.float32)) == 0.0
    assert layer_share(layers - 40) == 1.0  # of any sign


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_second_matcher_that_disagrees_contradicts(monkeypatch, share):
    """The second matcher is made to err in a share of the rows."""

    def erring(left, right, config):
        flows = FLOWS["dis"](left, right, config)
        wrong = (np.arange(left.shape[0]) < share * left.shape[0])[:, None] * np.float32(5)
        return replace(flows, second=(flows.forward[..., 0] + wrong, flows.backward[..., 0] + wrong))

    monkeypatch.setitem(FLOWS, "sgbm", erring)
    matched = match(*leaning_pair(), MatchConfig(method="sgbm"))
    assert matched.left.agreement == pytest.approx(1 - share, abs=0.03)
    reason, figures = verdict(matched, RULES)
    assert (reason, figures["agreement"]) == ("contradicted", round(matched.left.agreement, 4))
    assert verdict(matched, QualityConfig(min_agreement=0.2))[0] != "contradicted"
    certainty = matched.left.confidence(1.2).astype(float)
    wrong = np.arange(180) < share * 180
    assert certainty[wrong].max() < 0.5 * certainty[~wrong].mean()


def test_one_matcher_alone_is_not_contradicted():
    matched = match(*leaning_pair(), MatchConfig(method="dis"))
    assert matched.left.second is None
    assert matched.left.agreement == 1.0
    assert verdict(matched, RULES)[0] is None


def test_the_same_picture_twice():
    left, right, _ = stereo_pair()
    assert is_same_picture(left, left)
    assert is_same_picture(left, np.clip(left.astype(int) + 1, 0, 255).astype(np.uint8) - (left % 2))
    assert not is_same_picture(left, right)
