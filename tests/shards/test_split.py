from itertools import chain

import numpy as np
import pytest

from shards.errors import DataError
from shards.sources import Item
from shards.split import draw_split, plan_splits


def random_items(rng, given):
    items = [Item(f"picture {number:03d}", rng.choice(given)) for number in rng.permutation(80)]
    numbers = rng.permutation(80)
    ends = np.cumsum(rng.integers(2, 6, 12))
    return items, [sorted(map(int, group)) for group in np.split(numbers[: ends[-1]], ends[:-1])]


@pytest.mark.parametrize("given", [[None], [None, "train", "val"], ["train", "val"], [None, "val"], [None, "train"]])
@pytest.mark.parametrize("seed", range(5))
def test_a_group_never_falls_on_both_sides(given, seed):
    items, groups = random_items(np.random.default_rng(seed), given)
    plan = plan_splits(items, groups, 0.3)
    for group in groups:
        assert len({plan.splits[number] for number in group if number not in plan.leaking}) == 1
    grouped = set(chain.from_iterable(groups))
    for number, item in enumerate(items):
        if number in plan.leaking:
            assert item.split == "train"
            sibling = next(k for k, other in enumerate(items) if other.name == plan.leaking[number])
            assert items[sibling].split == "val"
            assert any({number, sibling} <= set(group) for group in groups)
        elif item.split is not None:
            assert plan.splits[number] == item.split
        elif number not in grouped:
            assert plan.splits[number] == draw_split(item.name, 0.3)
        assert (number in plan.may_fill) == (item.split is None and number not in grouped)


def test_the_draw_of_a_group_does_not_depend_on_the_order():
    items, groups = random_items(np.random.default_rng(9), [None])
    plan = plan_splits(items, groups, 0.5)
    by_name = {item.name: split for item, split in zip(items, plan.splits, strict=True)}
    backwards = [[79 - number for number in group] for group in groups]
    again = plan_splits(items[::-1], backwards, 0.5)
    assert {item.name: split for item, split in zip(items[::-1], again.splits, strict=True)} == by_name
    assert set(plan.splits) == {"train", "val"}


def test_the_split_follows_the_name():
    names = [f"picture {i}" for i in range(2000)]
    share = np.mean([draw_split(name, 0.1) == "val" for name in names])
    assert 0.07 < share < 0.13
    assert {draw_split(name, 0.0) for name in names} == {"train"}
    assert all(draw_split(name, 0.3) == "val" for name in names if draw_split(name, 0.1) == "val")


def test_a_split_of_another_name_is_refused():
    with pytest.raises(DataError, match="picture: the source names the split 'test'; there are train and val"):
        plan_splits([Item("picture", "test")], [], 0.1)
