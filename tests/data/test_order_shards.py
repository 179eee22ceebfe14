"""Which shards the order needs next, and that a process reads its own lanes only."""

import time
import tracemalloc
from itertools import islice

import numpy as np
import pytest

from pipeline.data.order import SampleOrder


def shard_of(sizes: list[int], sample: int) -> int:
    return int(np.searchsorted(np.cumsum(sizes), sample, side="right"))


def first_uses(
    order: SampleOrder, sizes: list[int], position: int, ranks: list[int], world: int, epochs: int
) -> list[int]:
    """Shards by first use in each epoch, found by walking through the stream."""
    n, found = order.num_samples, []
    first_epoch = position // n
    for epoch in range(first_epoch, first_epoch + epochs):
        places = range(max(position, epoch * n), (epoch + 1) * n)
        found += list(dict.fromkeys(shard_of(sizes, order.locate(g)[1]) for g in places if g % world in ranks))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_coming_shards_are_those_that_a_walk_meets_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [1, *rng.integers(0, 20, rng.integers(0, 7)).tolist()]
    world = int(rng.integers(1, 7))
    ranks = sorted(set(rng.integers(0, world, 2).tolist()))
    order = SampleOrder(sizes, seed=seed, lanes=int(rng.integers(1, 9)), window=int(rng.integers(1, 50)))
    position = int(rng.integers(0, 3 * order.num_samples))
    wanted = first_uses(order, sizes, position, ranks, world, 2)
    assert list(islice(order.coming_shards(position, ranks, world), len(wanted))) == wanted


def test_coming_shards_of_windows_larger_than_one_look() -> None:
    sizes = [700] * 9
    order = SampleOrder(sizes, seed=1, lanes=2, window=3000)
    wanted = first_uses(order, sizes, 6299, [0], 1, 2)
    assert list(islice(order.coming_shards(6299), len(wanted))) == wanted


@pytest.mark.parametrize(("lanes", "world"), [(2, 2), (4, 2), (4, 4), (8, 4), (8, 8)])
def test_a_process_reads_its_share_of_the_lanes_and_no_more(lanes: int, world: int) -> None:
    sizes, batch = [10] * 64, 16
    order = SampleOrder(sizes, seed=3, lanes=lanes, window=20)
    row = SampleOrder(sizes, seed=3, lanes=1, window=1)  # with these, an epoch is the row itself
    for epoch in (0, 1):
        n = order.num_samples
        lane_shards = [
            {shard_of(sizes, row.locate(epoch * n + place)[1]) for place in part.tolist()}
            for part in np.array_split(np.arange(n), lanes)
        ]
        read: list[set[int]] = []
        for rank in range(world):
            mine = [g for g in range(epoch * n, (epoch + 1) * n) if g % batch % world == rank]
            read.append({shard_of(sizes, order.locate(g)[1]) for g in mine})
            assert read[rank] == set().union(*lane_shards[rank::world])
            assert len(read[rank]) <= len(sizes) // world + lanes // world  # a lane may begin within a shard
            coming = order.coming_shards(epoch * n, [rank], world)
            assert set(islice(coming, len(read[rank]))) == read[rank]
        assert len(set().union(*read)) == len(sizes)


def test_a_hundred_million_samples_are_looked_up_in_microseconds_and_planned_without_a_table() -> None:
    sizes = np.full(100_000, 1000)
    tracemalloc.start()
    order = SampleOrder(sizes, seed=0, lanes=8, window=4096)
    coming = order.coming_shards(9 * 10**7, [3], 8)
    assert len(list(islice(coming, 200))) == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * len(sizes)  # bytes: some arrays over the shards
    order.locate(0)
    seconds = []
    for position in range(0, 10**8, 10**6):
        begin = time.perf_counter()
        order.locate(position)
        seconds.append(time.perf_counter() - begin)
    assert np.median(seconds) < 500e-6  # some 10 us on an idle machine; a table of the epoch would take a second
