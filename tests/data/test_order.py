import math
import pickle
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.order import ORDER_VERSION, SampleOrder, permute, permute_all, rank_slots
from shards.errors import ConfigError


def epoch_of(order: SampleOrder, epoch: int) -> list[int]:
    n = order.num_samples
    located = [order.locate(position) for position in range(epoch * n, (epoch + 1) * n)]
    assert {found for found, _ in located} == {epoch}
    return [sample for _, sample in located]


def shard_lists() -> Iterator[list[int]]:
    for n in (1, 2, 3, 7, 12, 23):
        yield [n]
        yield [1] * n
        yield [n // 2, 0, n - n // 2]


def test_every_sample_comes_once_an_epoch_whatever_shards_lanes_and_window() -> None:
    for sizes in shard_lists():
        for lanes in (1, 2, 3, 16):
            for window in (1, 5, 100):
                order = SampleOrder(sizes, seed=1, lanes=lanes, window=window)
                for epoch in (0, 1, 2):
                    assert sorted(epoch_of(order, epoch)) == list(range(sum(sizes))), (sizes, lanes, window)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any),
    lanes=st.integers(1, 20),
    window=st.integers(1, 60),
    seed=st.integers(0, 2**70),
    epoch=st.integers(0, 2**40),
)
def test_every_sample_comes_once_in_any_order(sizes: list[int], lanes: int, window: int, seed: int, epoch: int) -> None:
    order = SampleOrder(sizes, seed=seed, lanes=lanes, window=window)
    assert sorted(epoch_of(order, epoch)) == list(range(sum(sizes)))


def global_batches(order: SampleOrder, batch: int, world: int, steps: range) -> list[list[int]]:
    """What `world` ranks would draw, put together slot by slot."""
    found = []
    for step in steps:
        slots = dict.fromkeys(range(batch), -1)
        for rank in range(world):
            for slot in rank_slots(batch, rank, world):
                assert slots[slot] == -1
                slots[slot] = order.locate(step * batch + slot)[1]
        found.append([slots[slot] for slot in range(batch)])
    return found


def test_global_batches_do_not_depend_on_the_world_size_or_on_where_they_are_resumed() -> None:
    batch, steps = 840, range(4)  # 840 is a multiple of 1 to 8; epochs end inside the batches
    sizes = [100, 57, 243]
    one = global_batches(SampleOrder(sizes, seed=5, lanes=2, window=64), batch, 1, steps)
    for world in range(2, 9):
        assert global_batches(SampleOrder(sizes, seed=5, lanes=2, window=64), batch, world, steps) == one
    for start in range(4):
        resumed = SampleOrder(sizes, seed=5, lanes=2, window=64)
        assert global_batches(resumed, batch, 2, range(start, 4)) == one[start:]


def test_any_position_can_be_asked_first() -> None:
    def make() -> SampleOrder:
        return SampleOrder([9, 14], seed=3, lanes=3, window=5)

    order = make()
    stream = [order.locate(position) for position in range(70)]
    for position in reversed(range(70)):
        assert make().locate(position) == stream[position]
        assert order.locate(position) == stream[position]  # also with what it remembers of other epochs
    copy = pickle.loads(pickle.dumps(order))
    assert [copy.locate(position) for position in range(70)] == stream


def test_the_order_never_changes_by_accident() -> None:
    assert ORDER_VERSION == 1, "a new order needs new golden values and a new version, not one of the two"
    order = SampleOrder([5, 3, 8], seed=0, lanes=1, window=4)
    assert epoch_of(order, 0) == GOLDEN[0]
    assert epoch_of(order, 1) == GOLDEN[1]
    assert epoch_of(SampleOrder([5, 3, 8], seed=2**65 + 1, lanes=3, window=100), 7) == GOLDEN[2]
    big = SampleOrder([1000] * 1000, seed=17, lanes=4, window=4096)
    assert [big.locate(position) for position in (0, 1, 123_456_789, 10**15)] == GOLDEN[3]


def test_epochs_and_seeds_differ() -> None:
    orders = [
        epoch_of(SampleOrder([50, 50, 50], seed=seed, lanes=1, window=64), e) for seed in (0, 1) for e in range(4)
    ]
    assert len({tuple(order) for order in orders}) == len(orders)
    shard_orders = {
        tuple(sample // 10 for sample in epoch_of(SampleOrder([10] * 5, seed=0, lanes=1, window=1), e))
        for e in range(6)
    }
    assert len(shard_orders) > 3  # the shards are shuffled too, not only the samples


def test_a_lane_reads_its_own_part_of_the_row() -> None:
    n, lanes, window = 103, 4, 10
    order = SampleOrder([1] * n, seed=2, lanes=lanes, window=window)
    plain = SampleOrder([1] * n, seed=2, lanes=1, window=1)
    row = epoch_of(plain, 5)  # with one lane and windows of one sample, the row itself
    stream = epoch_of(order, 5)
    start = 0
    for lane in range(lanes):
        mine = stream[lane::lanes]
        length = n // lanes + (lane < n % lanes)
        assert len(mine) == length
        for first in range(0, length, window):
            part = row[start + first : start + min(first + window, length)]
            assert sorted(mine[first : first + window]) == sorted(part)
        start += length


def shard_of(sizes: list[int], sample: int) -> int:
    return int(np.searchsorted(np.cumsum(sizes), sample, side="right"))


@pytest.mark.parametrize(("lanes", "window"), [(1, 16), (1, 100), (3, 25), (4, 16)])
def test_the_first_stand_ins_are_of_other_shards_of_the_window(lanes: int, window: int) -> None:
    sizes = [10, 0, 7, 12, 9, 10, 8, 11, 10, 6, 0, 14]
    order = SampleOrder(sizes, seed=4, lanes=lanes, window=window)
    for epoch in (0, 3):
        stream = epoch_of(order, epoch)
        for lane in range(lanes):
            mine = stream[lane::lanes]
            for first in range(0, len(mine), window):
                part = mine[first : first + window]
                for sample in part:
                    others = {other for other in part if shard_of(sizes, other) != shard_of(sizes, sample)}
                    found = [order.stand_in(epoch, sample, attempt) for attempt in range(1, 9)]
                    assert others.issuperset(found) or not others
                    assert shard_of(sizes, sample) not in {shard_of(sizes, other) for other in found}
                    assert len(others) < 10 or len(set(found)) > 2


def test_where_a_shard_fills_its_window_the_shards_around_it_stand_in() -> None:
    sizes = [20] * 10
    order = SampleOrder(sizes, seed=1, lanes=1, window=5)
    shards = [shard_of(sizes, sample) for sample in epoch_of(order, 2)[::20]]
    for place, shard in enumerate(shards):
        found = {shard_of(sizes, order.stand_in(2, 20 * shard + k, attempt)) for k in range(20) for attempt in (1, 8)}
        assert found == {shards[near] for near in (place - 1, place + 1) if 0 <= near < 10}


def test_later_stand_ins_are_of_the_whole_dataset() -> None:
    order = SampleOrder([10] * 20, seed=1, lanes=2, window=30)
    later = [order.stand_in(0, sample, attempt) for sample in range(200) for attempt in range(9, 17)]
    assert len(set(later)) > 190 and max(later) < 200
    alone = SampleOrder([12], seed=1, lanes=1, window=5)
    assert {alone.stand_in(0, 3, attempt) for attempt in range(1, 100)} == set(range(12))
    assert SampleOrder([1], seed=1, lanes=3, window=5).stand_in(5, 0, 1) == 0


def test_stand_ins_never_change_by_accident() -> None:
    order = SampleOrder([1000] * 1000, seed=17, lanes=4, window=4096)
    order = pickle.loads(pickle.dumps(order))
    assert [order.stand_in(7, 123_456, attempt) for attempt in (1, 2, 8, 9, 16)] == GOLDEN_STAND_INS


def test_a_full_window_shuffles_like_a_random_permutation() -> None:
    n = 2000
    displacement, kept_neighbours = [], 0
    for epoch in range(5):
        stream = np.array(epoch_of(SampleOrder([n], seed=0, lanes=1, window=n), epoch))
        displacement.append(np.abs(stream - np.arange(n)).mean() / n)
        kept_neighbours += int((np.diff(stream) == 1).sum())
    assert np.mean(displacement) == pytest.approx(1 / 3, rel=0.05)  # of a random permutation
    assert kept_neighbours < 20  # expected: about one a permutation


@pytest.mark.parametrize("size", [2, 3, 4])
def test_small_permutations_are_equally_likely(size: int) -> None:
    draws = 100 * math.factorial(size)
    rng = np.random.default_rng(0)
    counts: dict[tuple[int, ...], int] = {}
    for key in rng.integers(0, 2**63, draws).tolist():
        found = tuple(permute(index, size, key) for index in range(size))
        counts[found] = counts.get(found, 0) + 1
    assert len(counts) == math.factorial(size)
    chi2 = sum((count - 100) ** 2 / 100 for count in counts.values())
    freedom = len(counts) - 1
    assert chi2 < freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("size", [1, 2, 5, 64, 255, 256, 257, 1000])
def test_one_by_one_and_all_at_once_agree(size: int) -> None:
    for key in (0, 1, 2**64 - 1, 0x123456789ABCDEF):
        images = permute_all(size, key).tolist()
        assert sorted(images) == list(range(size))
        assert [permute(index, size, key) for index in range(size)] == images


def test_a_hundred_million_samples_cost_no_memory_a_sample() -> None:
    sizes = np.full(100_000, 1000)
    tracemalloc.start()
    order = SampleOrder(sizes, seed=0, lanes=8, window=4096)
    found = [order.locate(position) for position in (0, 10**8 - 1, 10**8, 10**12)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [epoch for epoch, _ in found] == [0, 0, 1, 10_000]
    assert peak < 200 * len(sizes)  # bytes: some arrays over the shards


def test_a_world_that_does_not_divide_the_batch_is_told_the_nearest_sizes() -> None:
    assert list(rank_slots(8, 1, 4)) == [1, 5]
    with pytest.raises(ConfigError, match="use 6 or 9"):
        rank_slots(8, 0, 3)
    with pytest.raises(ConfigError, match="use 4,"):
        rank_slots(2, 0, 4)


@pytest.mark.parametrize(
    "wrong",
    [{"shard_sizes": []}, {"shard_sizes": [0]}, {"shard_sizes": [-1, 5]}, {"lanes": 0}, {"window": 0}, {"seed": -1}],
)
def test_numbers_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        SampleOrder(**{"shard_sizes": [3], "seed": 0, "lanes": 1, "window": 1, **wrong})
    with pytest.raises(ValueError, match="position"):
        SampleOrder([3], seed=0, lanes=1, window=1).locate(-1)


GOLDEN: list = [
    [10, 8, 9, 11, 14, 15, 13, 12, 7, 0, 5, 6, 3, 1, 4, 2],
    [0, 2, 3, 1, 7, 5, 6, 4, 11, 9, 8, 10, 12, 15, 13, 14],
    [7, 12, 2, 6, 14, 1, 9, 13, 0, 8, 11, 3, 5, 15, 4, 10],
    [(0, 473407), (0, 154626), (123, 378877), (1000000000, 54156)],
]
GOLDEN_STAND_INS = [837734, 341644, 837270, 888219, 89517]
