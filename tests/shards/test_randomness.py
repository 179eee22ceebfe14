import multiprocessing

import numpy as np
import pytest

from shards.randomness import CounterRng, digest_key


def test_golden_values_never_change():
    rng = CounterRng("a", 1)
    assert rng.uniform(3).tolist() == [0.6261272301629602, 0.8018640707251551, 0.467689572272056]
    assert rng.integers(4, 1000).tolist() == [216, 902, 128, 426]
    assert digest_key("a", -1, 2**70).hex() == "9c21f0f55cdea5fa8881f839c52c9cdb9f1d44181e61793923813749c288e40d"


def test_successive_calls_continue_the_stream():
    whole = CounterRng("x", 7).uniform(10)
    rng = CounterRng("x", 7)
    np.testing.assert_array_equal(whole, np.concatenate([rng.uniform(3), rng.uniform(7)]))


def test_each_part_of_the_key_counts():
    keys = [
        ("a", 1),
        ("a", 2),
        ("b", 1),
        ("a", "1"),
        ("a1",),
        ("", "a1"),
        ("a", 1, 0),
        ("a", -1),
        ("a", 1 + 2**64),
        (1, "a"),
    ]
    streams = {CounterRng(*key).uniform(4).tobytes() for key in keys}
    assert len(streams) == len(keys)


def test_numpy_integers_and_surrogates_are_keys():
    assert digest_key(np.int64(5)) == digest_key(5)
    assert digest_key("caf\udce9") != digest_key("caf\\udce9")


@pytest.mark.parametrize("part", [1.0, True, None, b"x"])
def test_other_types_are_refused(part):
    with pytest.raises(TypeError, match="integers and strings"):
        digest_key("crop", part)


def test_uniform_is_uniform():
    u = np.concatenate([CounterRng("u", i).uniform(200) for i in range(500)])
    assert u.min() >= 0
    assert u.max() < 1
    counts = np.bincount((u * 50).astype(int), minlength=50)
    chi2 = ((counts - 2000) ** 2 / 2000).sum()
    assert 20 < chi2 < 95  # 49 degrees of freedom: P(outside) < 1e-4


def test_first_draws_of_neighbouring_keys_are_uncorrelated():
    first = np.array([CounterRng("sample", 0, i).uniform(1)[0] for i in range(4000)])
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.06
    assert abs(first.mean() - 0.5) < 0.02


@pytest.mark.parametrize("high", [1, 2, 3, 1000, 2**32])
def test_integers_stay_below_high_and_reach_all(high):
    drawn = CounterRng("i", high).integers(5000, high)
    assert drawn.dtype == np.int64
    assert drawn.min() >= 0
    assert drawn.max() < high
    if high <= 3:
        np.testing.assert_allclose(np.bincount(drawn, minlength=high) / 5000, 1 / high, atol=0.03)
    assert drawn.max() > 0.99 * (high - 1) - 1


@pytest.mark.parametrize("high", [0, -1, 2**32 + 1])
def test_integers_bounds(high):
    with pytest.raises(ValueError, match="high must be"):
        CounterRng("i").integers(1, high)


def _draw(key):
    return CounterRng(*key).integers(3, 10**6).tolist()


def test_another_process_draws_the_same():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_draw, (("name", 3),)) == _draw(("name", 3))
