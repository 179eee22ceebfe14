import pickle
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.mixture import Mixture, turns_of
from pipeline.data.order import SampleOrder


def make_order(n: int, lanes: int = 1, seed: int = 5) -> SampleOrder:
    return SampleOrder([n // 3, n - n // 3], seed=seed, lanes=lanes, window=16)


def walk(mixture: Mixture, length: int, start: int = 0) -> list[tuple[int, int, int]]:
    return [mixture.locate(position) for position in range(start, start + length)]


@pytest.mark.parametrize("lanes", [1, 3, 4])
def test_each_dataset_goes_through_its_own_epochs_in_its_own_order(lanes: int) -> None:
    orders = [make_order(n, lanes) for n in (40, 7, 100)]
    found = walk(Mixture(orders, [3.0, 1.0, 2.5]), 1300)
    for number, order in enumerate(orders):
        mine = [(epoch, sample) for dataset, epoch, sample in found if dataset == number]
        assert len(mine) >= 150
        assert mine == [order.locate(position) for position in range(len(mine))]


def test_one_dataset_alone_keeps_its_order() -> None:
    order = make_order(30, lanes=2)
    assert walk(Mixture([order], [0.3]), 100) == [(0, *order.locate(position)) for position in range(100)]
    assert list(islice(Mixture([order], [1.0]).coming_shards(31)[0], 9)) == list(islice(order.coming_shards(31), 9))


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(0, 10**12))
def test_turns_add_up_rise_by_one_and_keep_to_the_weights(weights: list[int], turns: int) -> None:
    counts, following = turns_of(turns, weights), turns_of(turns + 1, weights)
    assert sum(counts) == turns
    assert sorted(b - a for a, b in zip(counts, following, strict=True)) == [0] * (len(weights) - 1) + [1]
    for number, weight in enumerate(weights):
        assert abs(counts[number] * sum(weights) - turns * weight) < len(weights) * sum(weights)
    assert turns_of(sum(weights) * turns, weights) == [weight * turns for weight in weights]


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
    lanes=st.integers(1, 5),
    start=st.integers(0, 10**9),
)
def test_any_position_can_be_asked_first(sizes: list[int], weights: list[float], lanes: int, start: int) -> None:
    def make() -> Mixture:
        return Mixture([make_order(n, lanes) for n in sizes], weights[: len(sizes)])

    mixture = make()
    found = walk(mixture, 40, start)
    for offset in (39, 0, 17):
        assert make().locate(start + offset) == found[offset]
    assert walk(pickle.loads(pickle.dumps(mixture)), 40, start) == found
    # Each dataset goes on where its earlier turns ended.
    turn = start // lanes * lanes
    own = mixture.positions(turn)
    dataset, *located = mixture.locate(turn)
    assert tuple(located) == mixture.orders[dataset].locate(own[dataset])
    assert sum(own) == turn


def test_shares_follow_the_weights_everywhere_and_exactly_in_the_long_run() -> None:
    mixture = Mixture([make_order(50), make_order(60), make_order(70)], [0.7, 0.2, 0.1])
    found = [dataset for dataset, _, _ in walk(mixture, 2560)]
    assert Counter(found) == {0: 1792, 1: 512, 2: 256}
    for start in range(0, 2560, 256):
        counts = Counter(found[start : start + 256])
        assert counts[0] == pytest.approx(179.2, abs=2) and counts[2] == pytest.approx(25.6, abs=2)
    blocks = {tuple(found[start : start + 256]) for start in range(0, 2560, 256)}
    assert len(blocks) == 10  # each block is shuffled anew
    even = [dataset for dataset, _, _ in walk(Mixture([make_order(50), make_order(60)], [1, 1]), 2048)]
    for world in (2, 4):  # no process gets one of the datasets only, as it would of a strict alternation
        for rank in range(world):
            assert np.mean(even[rank::world]) == pytest.approx(0.5, abs=0.1)


def test_weights_are_ratios() -> None:
    orders = [make_order(50), make_order(60)]
    first = Mixture(orders, [0.1, 0.2])
    assert first.weights == (1, 2)
    assert walk(first, 600) == walk(Mixture(orders, [17, 34]), 600)
    assert Mixture(orders, [1e-12, 1e12]).weights == (1, 10**24)
    assert walk(Mixture(orders, [1e-12, 1e12]), 300) == [(1, *orders[1].locate(g)) for g in range(300)]


def test_a_turn_has_all_lanes_of_one_dataset() -> None:
    found = walk(Mixture([make_order(48, 4), make_order(60, 4)], [1, 1]), 1024)
    assert all(len({dataset for dataset, _, _ in found[start : start + 4]}) == 1 for start in range(0, 1024, 4))


@pytest.mark.parametrize(("lanes", "world", "ranks"), [(1, 1, [0]), (4, 4, [1]), (4, 2, [0]), (2, 4, [3]), (3, 2, [0])])
@pytest.mark.parametrize("start", [0, 5, 700])
def test_coming_shards_are_enough_and_in_order(lanes: int, world: int, ranks: list[int], start: int) -> None:
    sizes = [6] * 10
    orders = [SampleOrder(sizes, seed=1, lanes=lanes, window=8) for _ in range(2)]
    mixture = Mixture(orders, [2, 1])
    needed: list[list[int]] = [[], []]
    for position in range(start, start + 60):
        if position % world in ranks:
            dataset, epoch, sample = mixture.locate(position)
            if (use := (epoch, sample // 6)) not in needed[dataset]:
                needed[dataset].append(use)  # type: ignore[arg-type]
    for wanted, coming in zip(needed, mixture.coming_shards(start, ranks, world), strict=True):
        announced = list(islice(coming, 40))
        places = []
        for _, shard in wanted:  # type: ignore[misc]
            assert shard in announced
            places.append(announced.index(shard))
        if lanes % world == 0 and start % lanes == 0 and len({epoch for epoch, _ in wanted}) == 1:  # type: ignore[misc]
            assert places == list(range(len(places)))


def test_the_pattern_is_not_that_of_the_shards() -> None:
    order = SampleOrder([1] * 256, seed=5, lanes=1, window=1)  # an epoch of it is the order of its shards
    mixture = Mixture([order, make_order(9)], [1, 1])
    for block in range(6):
        pattern = [dataset for dataset, _, _ in walk(mixture, 256, 256 * block)]
        for epoch in range(6):
            shards = [order.locate(256 * epoch + place)[1] for place in range(256)]
            assert pattern != [int(shard >= 128) for shard in shards], (block, epoch)


def test_the_pattern_never_changes_by_accident() -> None:
    mixture = Mixture(
        [SampleOrder([5, 3], seed=0, lanes=1, window=4), SampleOrder([9], seed=0, lanes=1, window=4)], [2, 1]
    )
    assert walk(mixture, 12, 250) == GOLDEN


@pytest.mark.parametrize(
    ("orders", "weights"),
    [
        ([], []),
        ([make_order(5)], []),
        ([make_order(5)], [0.0]),
        ([make_order(5)], [float("inf")]),
        ([make_order(5), make_order(5, seed=6)], [1, 1]),
        ([make_order(5), make_order(5, lanes=2)], [1, 1]),
    ],
)
def test_what_makes_no_mixture_is_refused(orders: list[SampleOrder], weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"weight|must"):
        Mixture(orders, weights)


def test_a_negative_position_is_refused() -> None:
    with pytest.raises(ValueError, match="position"):
        Mixture([make_order(5), make_order(6)], [1, 1]).locate(-1)


GOLDEN: list = [
    (0, 20, 1),
    (1, 9, 0),
    (0, 20, 2),
    (1, 9, 5),
    (0, 21, 5),
    (0, 21, 7),
    (0, 21, 0),
    (1, 9, 7),
    (0, 21, 6),
    (0, 21, 3),
    (1, 9, 4),
    (0, 21, 1),
]
