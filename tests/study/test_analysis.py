import numpy as np
import pytest

from pipeline.study.analysis import WEB, ZERO_SHOT, Study
from pipeline.study.claims import BASELINE
from pipeline.study.plan import BASE
from shards.errors import RunError

from .study_results import benchmark, result

RNG = np.random.default_rng(0)
HARD = RNG.uniform(0.05, 0.5, 40)
"""How hard each picture is: shared by all arms, so that only a paired comparison tells them apart."""


def of_arm(arm, shift, seeds=(0, 1, 2), noise=0.002):
    """Runs whose pictures are wrong by HARD + shift, with some noise of their own."""
    rng = np.random.default_rng(len(arm))
    return [
        result(arm, seed, {kind: HARD + shift + rng.normal(0, noise, 40) for kind in ("shards", "gt")})
        for seed in seeds
    ]


def test_a_figure_is_the_mean_over_seeds_with_their_deviation():
    study = Study([result("mae", seed, {"shards": [0.1 + 0.01 * seed, 0.3]}) for seed in (0, 1, 2)])
    figure = study.figure("mae", WEB)
    assert figure.by_seed == pytest.approx((0.2, 0.205, 0.21))
    assert figure.value == pytest.approx(0.205)
    assert figure.seed_deviation == pytest.approx(0.005)
    assert figure.num_pictures == 2
    assert study.figure("mae", ZERO_SHOT) is None and study.figure("mse", WEB) is None


def test_held_out_pairs_are_pooled_and_pictures_of_truth_count_alike():
    few = benchmark("shards", [0.5, 0.1]).model_copy(update={"totals": [5.0, 100.0], "weights": [10.0, 1000.0]})
    run = result("mae", 0, {"gt": [0.5, 0.1]})
    study = Study([run.model_copy(update={"benchmarks": [few, *run.benchmarks]})])
    assert study.figure("mae", WEB).value == pytest.approx(105 / 1010)
    assert study.figure("mae", ZERO_SHOT).value == pytest.approx(0.3)
    assert study.figure("mae", ZERO_SHOT, "set1").value == pytest.approx(0.1)
    assert study.figure("mae", ZERO_SHOT, "set1").interval is None  # one picture
    assert study.sets(ZERO_SHOT) == ("set0", "set1")


def test_the_interval_is_that_of_the_mean_over_pictures():
    study = Study(of_arm("mae", 0.0))
    low, high = study.figure("mae", ZERO_SHOT).interval
    assert high - low == pytest.approx(2 * 1.96 * HARD.std() / np.sqrt(40), rel=0.1)


def test_arms_are_told_apart_by_pairs_though_their_intervals_overlap():
    study = Study([*of_arm("mae", 0.02), *of_arm("ranking", 0.0)])
    ours, theirs = study.figure("ranking", WEB), study.figure("mae", WEB)
    assert ours.interval.high > theirs.interval.low
    found = study.difference("ranking", "mae", WEB)
    assert found.verdict == "yes" and found.value == pytest.approx(-0.02, abs=0.002)
    assert study.difference("mae", "ranking", WEB).verdict == "no"
    assert study.difference("ranking", "mse", WEB) is None


def test_only_seeds_that_both_have_are_compared():
    study = Study([*of_arm("mae", 0.02, seeds=(0, 1)), *of_arm("ranking", 0.0, seeds=(1, 2))])
    found = study.difference("ranking", "mae", WEB)
    assert found.num_seeds == 1 and found.verdict == "not separable"


def test_a_baseline_is_compared_with_every_seed():
    study = Study([*of_arm(BASE, 0.0), result(BASELINE, None, {"shards": HARD + 0.1, "gt": HARD - 0.1})])
    assert study.difference(BASE, BASELINE, WEB).num_seeds == 3
    claim = study.judged_claims("losses")[0]
    assert claim.verdict(WEB) == "yes" and claim.verdict(ZERO_SHOT) == "no"
    untrained = study.judged_claims("losses")[1]
    assert untrained.verdict(WEB) is None


def test_results_on_other_pictures_are_not_mixed():
    with pytest.raises(RunError, match=r"mae_s0 and mse_s0 were judged on other pictures"):
        Study([result("mae", 0, {"shards": [0.1, 0.2]}), result("mse", 0, {"shards": [0.1, 0.2, 0.3]})])


def test_results_on_fewer_yardsticks_are_not_mixed():
    parts = {"shards": [0.1, 0.2], "gt": [0.3, 0.4]}
    with pytest.raises(RunError, match=r"of mae_s0 and mse_s0 only one was judged by measured depth as well"):
        Study([result("mae", 0, {"shards": [0.1, 0.2]}), result("mse", 0, parts)])
