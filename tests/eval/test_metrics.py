import math

import numpy as np
import pytest

from pipeline.eval.metrics import (
    PairCounts,
    add_counts,
    count_pairs,
    dense_whdr_name,
    draw_dense_pairs,
    equal_share,
    judge_pairs,
    whdr,
    wrong_pairs,
)


def slow_whdr(value_a, value_b, relation):
    """The DIW rule on depth, as in the official code: right iff (z_a - z_b) * label > 0, label +1 = A farther."""
    right = total = 0
    for a, b, label in zip(value_a, value_b, relation, strict=True):
        if label == 0:
            continue
        total += 1
        z_a, z_b = -float(a), -float(b)
        right += (z_a - z_b) * label > 0
    return 1 - right / total


def test_whdr_agrees_with_the_official_rule():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, (2, 500)).astype(np.float32)  # few values: many ties
    relation = rng.integers(-1, 2, 500)
    assert whdr(a, b, relation) == pytest.approx(slow_whdr(a, b, relation), abs=1e-12)


def test_ties_and_values_that_are_not_finite_are_wrong():
    a = [1.0, math.nan, 1.0, math.inf, -math.inf]
    b = [1.0, 0.0, math.nan, math.inf, 0.0]
    assert wrong_pairs(a, b, [1, 1, -1, 1, 1]).tolist() == [True, True, True, True, False]


def test_reversing_a_tie_free_prediction_turns_right_into_wrong():
    rng = np.random.default_rng(1)
    a, b = rng.permutation(400).reshape(2, 200)
    relation = rng.choice([-1, 1], 200)
    assert whdr(a, b, relation) + whdr(-a, -b, relation) == pytest.approx(1)


def test_only_the_order_of_a_prediction_counts():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 200))
    relation = rng.choice([-1, 0, 1], 200)
    assert count_pairs(a, b, relation) == count_pairs(np.exp(a) * 7, np.exp(b) * 7, relation)


def test_counts_of_parts_add_up_exactly():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 301))
    relation = rng.integers(-1, 2, 301)
    whole = count_pairs(a, b, relation)
    parts = [count_pairs(a[rank::3], b[rank::3], relation[rank::3]) for rank in range(3)]
    assert add_counts(parts) == whole
    assert add_counts([]) == PairCounts(0, 0)
    assert math.isnan(add_counts([]).share)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        whdr([1.0, 2.0], [1.0], [1])


def test_a_prediction_is_read_at_the_exact_pixels():
    inverse_depth = np.arange(12, dtype=np.float32).reshape(3, 4)  # value = 4 y + x
    pairs = np.array([[0, 3, 1, 0, 1], [2, 0, 1, 3, -1], [0, 0, 2, 3, -1], [1, 1, 1, 1, 1], [0, 0, 2, 2, 0]], np.int16)
    assert judge_pairs(inverse_depth, pairs).tolist() == [False, False, True, True, False]


@pytest.mark.parametrize("row", [[3, 0, 0, 0, 1], [0, 0, 0, 4, 1], [0, -1, 0, 0, 1]])
def test_a_pair_outside_the_map_is_refused(row):
    with pytest.raises(ValueError, match="outside the map of 3x4"):
        judge_pairs(np.zeros((3, 4)), np.array([row]))


def truth_map():
    truth = np.linspace(1, 3, 40 * 30, dtype=np.float32).reshape(40, 30)
    truth[10:20, 5:15] = np.nan
    return truth


def test_dense_pairs_lie_on_known_pixels_and_are_labelled_by_ratio():
    truth = truth_map()
    pairs = draw_dense_pairs(truth, "set/a", num_pairs=2000, seed=0, tolerance=0.02)
    assert pairs.shape == (2000, 5)
    for y_a, x_a, y_b, x_b, relation in pairs.tolist():
        a, b = float(truth[y_a, x_a]), float(truth[y_b, x_b])
        assert np.isfinite([a, b]).all()
        expected = 0 if max(a, b) / min(a, b) <= 1.02 else (1 if a < b else -1)  # smaller inverse depth: A is farther
        assert relation == expected
    assert equal_share(pairs) == np.mean(pairs[:, 4] == 0) > 0


def test_dense_pairs_cover_the_known_pixels_evenly():
    truth = truth_map()
    pairs = draw_dense_pairs(truth, "a", num_pairs=50_000, seed=0, tolerance=0.02)
    hits = np.zeros(truth.shape)
    np.add.at(hits, (pairs[:, 0], pairs[:, 1]), 1)
    np.add.at(hits, (pairs[:, 2], pairs[:, 3]), 1)
    known = np.isfinite(truth)
    expected = 100_000 / known.sum()
    chi_square = ((hits[known] - expected) ** 2 / expected).sum()
    assert abs(chi_square - known.sum()) < 5 * math.sqrt(2 * known.sum())


def test_dense_pairs_depend_on_seed_and_name_only():
    def draw(**changes):
        return draw_dense_pairs(truth_map(), **{"name": "a", "num_pairs": 50, "seed": 0, "tolerance": 0.02, **changes})

    assert np.array_equal(draw(), draw())
    assert not np.array_equal(draw(), draw(seed=1))
    assert not np.array_equal(draw(), draw(name="b"))


def test_dense_whdr_of_the_truth_is_zero_and_of_its_reverse_one():
    truth = truth_map()
    pairs = draw_dense_pairs(truth, "a", num_pairs=500, seed=0, tolerance=0.02)
    assert not judge_pairs(truth, pairs).any()
    assert np.array_equal(judge_pairs(-truth, pairs), pairs[:, 4] != 0)


def test_a_map_with_fewer_than_two_known_pixels_has_no_pairs():
    truth = np.full((4, 4), np.nan, np.float32)
    truth[0, 0] = 1
    pairs = draw_dense_pairs(truth, "a", num_pairs=10, seed=0, tolerance=0.02)
    assert pairs.shape == (0, 5)
    assert math.isnan(equal_share(pairs))


def test_the_name_holds_all_that_the_figure_depends_on():
    assert dense_whdr_name(10_000, 0, 0.02) == "whdr@0.02x10000s0"
