import numpy as np
import pytest

from shards.pairs import Tolerance, relations, robust_range, sample_random_pairs
from shards.randomness import CounterRng

RATIO = Tolerance("ratio", 0.02)
RANGE = Tolerance("range", 0.02)


def picture(seed=0, shape=(40, 60), unknown=0.3):
    draw = np.random.default_rng(seed)
    values = draw.uniform(1, 100, shape)
    return values, draw.uniform(size=shape) >= unknown


def slow_relation(a, b, tolerance, value_range):
    """The paper's Eq. 1, in words: on depth g = 1 / value, +1 where g_a / g_b > 1 + s."""
    if tolerance.kind == "ratio":
        depth_a, depth_b = 1 / a, 1 / b
        if depth_a / depth_b > 1 + tolerance.value:
            return 1
        return -1 if depth_b / depth_a > 1 + tolerance.value else 0
    if abs(a - b) <= tolerance.value * value_range:
        return 0
    return 1 if a < b else -1


@pytest.mark.parametrize("tolerance", [RATIO, RANGE, Tolerance("ratio", 0.3), Tolerance("range", 0.3)])
def test_relations_agree_with_a_slow_loop(tolerance):
    draw = np.random.default_rng(1)
    a = draw.uniform(1, 50, 2000)
    b = np.where(draw.uniform(size=2000) < 0.5, a * draw.uniform(0.95, 1.05, 2000), draw.uniform(1, 50, 2000))
    expected = [slow_relation(x, y, tolerance, 40.0) for x, y in zip(a, b, strict=True)]
    got = relations(a, b, tolerance, value_range=40.0)
    assert got.dtype == np.int8
    assert got.tolist() == expected
    assert set(expected) == {-1, 0, 1}


@pytest.mark.parametrize("tolerance", [RATIO, RANGE])
def test_relations_are_antisymmetric_and_the_bound_is_equal(tolerance):
    draw = np.random.default_rng(2)
    a, b = draw.uniform(0, 10, (2, 1000))
    np.testing.assert_array_equal(
        relations(a, b, tolerance, value_range=9.0), -relations(b, a, tolerance, value_range=9.0)
    )
    assert relations([100.0], [102.0], tolerance, value_range=100.0).tolist() == [0]
    assert relations([100.0], [102.1], tolerance, value_range=100.0).tolist() == [1]


def test_a_ratio_takes_infinity_but_no_negative_value():
    assert relations([0.0, 0.0, 0.1], [0.0, 0.1, 0.0], RATIO).tolist() == [0, 1, -1]
    with pytest.raises(ValueError, match="negative"):
        relations([-1.0], [1.0], RATIO)


def test_a_range_must_be_given():
    with pytest.raises(ValueError, match="value_range"):
        relations([1.0], [2.0], RANGE)


@pytest.mark.parametrize(("kind", "value"), [("share", 0.1), ("ratio", -0.1), ("range", 1.0)])
def test_tolerance_is_checked(kind, value):
    with pytest.raises(ValueError, match="tolerance"):
        Tolerance(kind, value)


def test_labels_survive_scaling_for_ratios_and_affine_maps_for_ranges():
    values, known = picture()
    for tolerance, mapped in ((RATIO, values * 37.5), (RANGE, values * 12.25 - 4000)):
        before = sample_random_pairs(values, known, 2000, CounterRng("p", 1), tolerance)
        after = sample_random_pairs(mapped, known, 2000, CounterRng("p", 1), tolerance)
        np.testing.assert_array_equal(before, after)
        assert set(before[:, 4]) == {-1, 0, 1}


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_pairs_use_distinct_known_pixels_and_say_what_the_values_say(dtype):
    values, known = picture(3)
    values = values.astype(dtype)
    pairs = sample_random_pairs(values, known, 3000, CounterRng("p", 2), RANGE)
    assert pairs.dtype == np.int16
    assert pairs.shape == (3000, 5)
    y_a, x_a, y_b, x_b, relation = pairs.T
    assert known[y_a, x_a].all()
    assert known[y_b, x_b].all()
    assert ((y_a != y_b) | (x_a != x_b)).all()
    span = robust_range(values, known)
    expected = [
        slow_relation(float(a), float(b), RANGE, span) for a, b in zip(values[y_a, x_a], values[y_b, x_b], strict=True)
    ]
    assert relation.tolist() == expected


def test_every_known_pixel_is_drawn_equally_often():
    values, known = picture(4, shape=(5, 7), unknown=0.4)
    pairs = sample_random_pairs(values, known, 30_000, CounterRng("p", 3), RANGE)
    for y, x in ((0, 1), (2, 3)):
        places, counts = np.unique(pairs[:, y] * 7 + pairs[:, x], return_counts=True)
        np.testing.assert_array_equal(places, np.flatnonzero(known))
        np.testing.assert_allclose(counts / 30_000, 1 / known.sum(), rtol=0.12)


def test_the_key_alone_decides():
    values, known = picture(5)
    first = sample_random_pairs(values, known, 100, CounterRng("p", 9), RANGE)
    np.testing.assert_array_equal(first, sample_random_pairs(values, known, 100, CounterRng("p", 9), RANGE))
    assert not np.array_equal(first, sample_random_pairs(values, known, 100, CounterRng("p", 10), RANGE))


def test_the_range_of_the_whole_picture_can_label_a_crop():
    values, known = picture(6, unknown=0.0)
    crop, all_known = values[:, :20] * 0.1, known[:, :20]
    own = sample_random_pairs(crop, all_known, 1000, CounterRng("p"), RANGE)
    given = sample_random_pairs(crop, all_known, 1000, CounterRng("p"), RANGE, value_range=100.0)
    assert (given[:, 4] == 0).sum() > (own[:, 4] == 0).sum()


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_known_pixels_give_no_pairs(count):
    known = np.zeros((4, 4), dtype=bool)
    known.flat[:count] = True
    assert sample_random_pairs(np.ones((4, 4)), known, 10, CounterRng(0), RANGE).shape == (0, 5)
    assert robust_range(np.ones((4, 4)), known) == 0.0


def test_two_known_pixels_and_a_constant_picture():
    known = np.zeros((3, 3), dtype=bool)
    known[0, 0] = known[2, 2] = True
    pairs = sample_random_pairs(np.full((3, 3), 7.0), known, 50, CounterRng(0), RANGE)
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 0, 2, 2, 0), (2, 2, 0, 0, 0)}


@pytest.mark.parametrize(("values", "known"), [((4, 5), (5, 4)), ((1, 40_000), (1, 40_000)), ((4,), (4,))])
def test_shapes_are_checked(values, known):
    with pytest.raises(ValueError, match="must be"):
        sample_random_pairs(np.ones(values), np.ones(known, dtype=bool), 1, CounterRng(0), RANGE)
