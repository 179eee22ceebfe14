import numpy as np
import pytest

from pipeline.eval.bootstrap import interval, ratio_of_sums, resample
from shards.randomness import CounterRng

RNG = np.random.default_rng(0)


def slow_resample(totals, weights, resamples, rng):
    number = len(totals)
    drawn = rng.integers(resamples * number, number).reshape(resamples, number)
    return [
        [sum(totals[i][c] for i in row) / sum(weights[i][c] for i in row) for c in range(len(totals[0]))]
        for row in drawn
    ]


def test_each_value_is_the_figure_on_a_draw_with_replacement():
    totals, weights = RNG.integers(0, 9, (7, 2)), RNG.integers(9, 12, (7, 2))
    fast = resample(totals, weights, 50, CounterRng("test", 1))
    np.testing.assert_allclose(fast, slow_resample(totals, weights, 50, CounterRng("test", 1)))
    assert ratio_of_sums(totals, weights) == pytest.approx(totals.sum(axis=0) / weights.sum(axis=0))


def test_the_block_size_changes_nothing(monkeypatch):
    totals, weights = RNG.uniform(size=(11, 1)), np.ones((11, 1))
    whole = resample(totals, weights, 100, CounterRng("test"))
    monkeypatch.setattr("pipeline.eval.bootstrap._BLOCK", 25)
    np.testing.assert_allclose(resample(totals, weights, 100, CounterRng("test")), whole)


def test_the_interval_of_a_mean_is_near_the_textbooks():
    values = RNG.normal(3, 2, (400, 1))
    low, high = interval(resample(values, np.ones_like(values), 2000, CounterRng("test"))[:, 0])
    error = values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.2 * error)


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    held = 0
    for trial in range(200):
        values = np.random.default_rng(trial).uniform(size=(40, 1))
        low, high = interval(resample(values, np.ones_like(values), 400, CounterRng("cover", trial))[:, 0])
        held += low <= 0.5 <= high
    assert 0.89 <= held / 200 <= 0.98


def test_draws_without_weight_are_left_out_and_none_is_no_interval():
    totals, weights = np.array([[1.0], [0.0]]), np.array([[1.0], [0.0]])
    values = resample(totals, weights, 200, CounterRng("test"))[:, 0]
    assert np.isnan(values).any() and interval(values) == (1.0, 1.0)
    assert interval(np.full(9, np.nan)) is None
