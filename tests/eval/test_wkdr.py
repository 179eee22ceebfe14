import math

import numpy as np
import pytest

from pipeline.eval.wkdr import THRESHOLDS, choose_threshold, wkdr_errors, wrong_classes

RNG = np.random.default_rng(0)


def slow_rates(value_a, value_b, relation, threshold):
    """The loop of the official Lua code, on depth: WKDR, WKDR= and WKDR≠ of one picture."""
    correct, number = {1: 0, -1: 0, 0: 0}, {1: 0, -1: 0, 0: 0}
    for a, b, truth in zip(value_a, value_b, relation, strict=True):
        z_a, z_b = -a, -b
        if z_a - z_b > threshold:
            found = 1
        elif z_a - z_b < -threshold:
            found = -1
        else:
            found = 0
        correct[truth] += found == truth
        number[truth] += 1
    unequal = (correct[1] + correct[-1]) / (number[1] + number[-1])
    return 1 - sum(correct.values()) / sum(number.values()), 1 - correct[0] / number[0], 1 - unequal


def test_the_rates_are_those_of_the_official_loop_at_every_threshold():
    a, b = RNG.normal(size=(2, 300)) * 0.8
    relation = RNG.integers(-1, 2, 300)
    errors = wkdr_errors(a, b, relation)
    for place in (0, 1, 40, 139):
        total, equal, unequal = slow_rates(a, b, relation, THRESHOLDS[place])
        assert (errors.wrong_equal + errors.wrong_unequal)[place] / 300 == pytest.approx(total)
        assert errors.wrong_equal[place] / errors.num_equal == pytest.approx(equal)
        assert errors.wrong_unequal[place] / errors.num_unequal == pytest.approx(unequal)


def test_the_grid_is_the_official_one():
    assert len(THRESHOLDS) == 140
    assert (THRESHOLDS[0], THRESHOLDS[-1]) == pytest.approx((0.11, 1.50))
    assert np.diff(THRESHOLDS) == pytest.approx(0.01)


def test_a_difference_of_the_threshold_itself_is_equal_and_nan_belongs_to_no_class():
    value_a = [1.0, 1.0, math.nan, math.nan, 0.0]
    value_b = [1.5, 1.5, 1.0, 1.0, 0.6]
    assert wrong_classes(value_a, value_b, [0, 1, 0, 1, 1], [0.5]).tolist() == [[False, True, True, True, False]]


def test_the_threshold_minimises_the_larger_rate_and_the_first_of_equal_ones_wins():
    equal = [0.9, 0.4, 0.3, 0.2, 0.4]
    unequal = [0.1, 0.3, 0.4, 0.6, 0.1]
    slow = min(range(5), key=lambda index: max(equal[index], unequal[index]))
    assert choose_threshold(equal, unequal) == slow == 1
