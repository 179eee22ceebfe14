import numpy as np
import pytest

from shards.config import QualityConfig
from shards.doubt import EYES_Z, doubt_of
from shards.eyes import _MIN_Z

LIMITS = {
    "min_known_share": 0.5,
    "max_vertical_share": 0.1,
    "min_range_share": 0.01,
    "min_agreement": 0.75,
    "max_layer_share": 0.8,
}
CLEAR = {
    "consistent_share": 0.95,
    "vertical_share": 0.01,
    "range_share": 0.1,
    "agreement": 0.975,
    "layer_share": 0.08,
    "eyes_z": -22.0,
}
OF_RULE = {  # reason: figure, its threshold, whether more of it is worse
    "inconsistent": ("consistent_share", "min_known_share", False),
    "vertical_motion": ("vertical_share", "max_vertical_share", True),
    "flat": ("range_share", "min_range_share", False),
    "contradicted": ("agreement", "min_agreement", False),
    "cut_outs": ("layer_share", "max_layer_share", True),
}


@pytest.mark.parametrize(
    ("figures", "score", "why"),
    [
        ({}, 0.1, "known"),
        ({"consistent_share": 0.6}, 0.8, "known"),
        ({"vertical_share": 0.09}, 0.9, "vertical"),
        ({"range_share": 0.0125}, 0.8, "range"),
        ({"agreement": 0.8}, 0.8, "agreement"),
        ({"layer_share": 0.72}, 0.9, "layers"),
        ({"eyes_z": -4.4}, 0.5, "eyes"),
        ({"eyes_z": 0.0}, 1.0, "eyes"),
        ({"vertical_share": 0.09, "range_share": 0.0101}, 0.01 / 0.0101, "range"),
    ],
)
def test_an_accepted_pair_is_as_doubtful_as_its_closest_rule(figures, score, why):
    doubt = doubt_of(None, CLEAR | figures, LIMITS)
    assert doubt.score == pytest.approx(score)
    assert doubt.why == why or score == 0.1  # all rules are equally far there


@pytest.mark.parametrize(
    ("reason", "figures", "score"),
    [
        ("inconsistent", {"consistent_share": 0.4}, 0.8),
        ("vertical_motion", {"vertical_share": 0.2}, 0.5),
        ("flat", {"range_share": 0.009}, 0.9),
        ("contradicted", {"agreement": 0.6}, 0.8),
        ("cut_outs", {"layer_share": 1.0}, 0.8),
        ("eyes_undecided", {"eyes_z": 0.1}, 1.0),
        ("too_small", {}, 0.0),
    ],
)
def test_a_reject_is_as_doubtful_as_its_own_rule(reason, figures, score):
    assert doubt_of(reason, CLEAR | figures, LIMITS).score == pytest.approx(score)


@pytest.mark.parametrize("reason", OF_RULE)
def test_doubt_meets_at_the_threshold_and_falls_on_both_sides(reason):
    name, threshold, more_is_worse = OF_RULE[reason]
    limit = LIMITS[threshold]
    room = {"contradicted": 0.3, "cut_outs": 0.24}.get(reason, 0.9)  # shares end at 1
    for sign in (1, -1):
        side = [limit * (1 + sign * step) for step in np.linspace(0, room if sign > 0 else 0.9, 10)]
        fails = (sign > 0) == more_is_worse
        scores = [doubt_of(reason if fails else None, {name: value}, LIMITS).score for value in side]
        assert scores[0] == pytest.approx(1.0)
        assert scores == sorted(scores, reverse=True) and scores[-1] < (0.6 if sign < 0 or room == 0.9 else 0.85)


def test_nonsense_counts_for_nothing():
    for value in (None, "x", True, float("nan"), float("inf"), 10**400, [1], {}):
        assert doubt_of(None, dict.fromkeys(CLEAR, value), LIMITS) == (0.0, "")
        assert 0 <= doubt_of(None, CLEAR, dict.fromkeys(LIMITS, value)).score <= 1


def test_the_thresholds_are_those_of_the_rules():
    assert LIMITS.keys() <= QualityConfig.model_fields.keys()
    assert EYES_Z == _MIN_Z
