import threading

import numpy as np
import pytest

from pipeline.eval.metrics import judge_pairs
from pipeline.train.histograms import Spread, bin_spreads, pair_margins


def spread_of(values, **options):
    spread = Spread(**options)
    spread.add(np.asarray(values))
    return spread


def on_processes(spreads_of_each):
    """Call `bin_spreads` as that many processes would; returns what each got."""
    number = len(spreads_of_each)
    barrier, slots, results = threading.Barrier(number), [None] * number, [None] * number

    def process(rank):
        def gather(combine):
            def gathered(values):
                slots[rank] = values
                barrier.wait()
                combined = [combine(column) for column in zip(*slots, strict=True)]
                barrier.wait()
                return combined

            return gathered

        results[rank] = bin_spreads(spreads_of_each[rank], gather(max), gather(sum))

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_processes_count_as_one_would():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, 3000).astype(np.float32)
    shares = [values[:100], values[100:2000], values[2000:], values[:0]]
    results = on_processes([{"a": spread_of(share), "b": spread_of([])} for share in shares])
    for result in results:
        assert set(result) == {"a"}  # nobody saw a value of the other
        counts, edges = np.histogram(values.astype(np.float64), bins=90)
        np.testing.assert_array_equal(result["a"].counts, counts)
        np.testing.assert_allclose(result["a"].edges, edges)


def test_a_spread_keeps_an_even_share_in_bounded_memory():
    whole, spread = np.arange(50_000), Spread(max_values=1000)
    begin = 0
    for size in [1, 2, 700, 5000, 3, 0, 20_000, 24_294]:
        spread.add(whole[begin : begin + size])
        begin += size
    assert begin == len(whole)
    assert 1000 / 3 <= len(spread.values) <= 1000
    assert spread.values.tolist() == whole[:: spread.stride].tolist()
    (histogram,) = on_processes([{"a": spread}])[0].values()
    assert histogram.counts.sum() == pytest.approx(len(whole), abs=spread.stride)


def test_values_that_are_not_finite_and_collapsed_networks_end_no_run():
    spread = spread_of([[np.nan, np.inf], [3.5, 3.5]], scale=2.0)
    spread.add(np.full(3, 9.0), np.zeros(3, dtype=bool))
    (histogram,) = on_processes([{"a": spread}])[0].values()
    assert histogram.counts.sum() == 2
    assert histogram.edges[0] < 7 < histogram.edges[-1]
    assert on_processes([{"a": spread_of([np.nan])}]) == [{}]


def test_a_margin_is_below_zero_where_the_pair_is_right():
    rng = np.random.default_rng(1)
    prediction = rng.normal(size=(20, 30)).astype(np.float32)
    points = np.stack([rng.integers(0, size, 200) for size in (20, 30, 20, 30)], axis=1)
    pairs = np.concatenate([points, rng.integers(-1, 2, (200, 1))], axis=1).astype(np.int16)
    unequal = pairs[pairs[:, 4] != 0]
    margins = pair_margins(prediction, pairs)
    assert len(margins) == len(unequal) < 200
    np.testing.assert_array_equal(margins < 0, ~judge_pairs(prediction, unequal))
    y_a, x_a, y_b, x_b, relation = unequal[0].tolist()
    assert margins[0] == (prediction[y_a, x_a] - prediction[y_b, x_b]) * relation
    assert pair_margins(prediction, pairs[:0]).shape == (0,)
