"""Several datasets as one endless stream: which of them has its turn at a position, and how far it is by then.

Each dataset runs through its own epochs in the order that it has alone. A fixed pattern says whose turn it is: of every
256 turns a dataset takes its share by weight, exactly in the long run, in an order drawn for those 256. A turn is as
many positions as there are lanes, one of each lane, so a process that reads some lanes of one dataset reads the same
lanes of all.

    mixture = Mixture([order_a, order_b], [2.0, 1.0])
    dataset, epoch, sample = mixture.locate(123_456)
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.data.order import SampleOrder, permutation_key, permute_all

__all__ = ["Mixture", "turns_of"]

_TURNS = 256
_PATTERN = 3  # what the permutation is for, in the place that the order's own keys have it


class Mixture:
    """The order of datasets that are drawn from in turn. Immutable; one dataset alone keeps its own order.

    Args:
        orders: Of each dataset; all with the same seed and lanes.
        weights: Share of each in the stream, relative to the others, above 0.

    Raises:
        ValueError: No datasets, not as many weights, a weight out of range, or orders that do not belong together.
    """

    def __init__(self, orders: Sequence[SampleOrder], weights: Sequence[float]) -> None:
        if not orders or len(orders) != len(weights):
            raise ValueError(f"{len(orders)} orders and {len(weights)} weights: each order needs one, and at least one")
        if not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"weights {list(weights)} must be finite and > 0")
        if len({(order.seed, order.lanes) for order in orders}) > 1:
            raise ValueError("all orders must have the same seed and lanes")
        self.orders = tuple(orders)
        self.weights = _whole_numbers(weights)
        """The weights as the smallest whole numbers of the same ratios."""
        self.num_samples = sum(order.num_samples for order in orders)
        """Samples of all datasets; as many positions count as an epoch of the mixture."""
        self._seed, self._lanes = orders[0].seed, orders[0].lanes
        self._block = lru_cache(maxsize=2)(self._lay_out)  # two: a batch can cross the border of a block

    def locate(self, position: int) -> tuple[int, int, int]:
        """Number of the dataset, its epoch, and its sample (row number in its index) at a position, 0 or more."""
        if len(self.orders) == 1:
            return 0, *self.orders[0].locate(position)
        if position < 0:
            raise ValueError(f"position {position} must be >= 0")
        turn, lane = divmod(position, self._lanes)
        number, place = divmod(turn, _TURNS)
        datasets, turns = self._block(number)
        dataset = int(datasets[place])
        return dataset, *self.orders[dataset].locate(int(turns[place, dataset]) * self._lanes + lane)

    def positions(self, position: int) -> list[int]:
        """How far each dataset is at a position of the stream: positions of its own that lie before, whole turns."""
        if len(self.orders) == 1:
            return [position]
        number, place = divmod(position // self._lanes, _TURNS)
        _, turns = self._block(number)
        return [int(turn) * self._lanes for turn in turns[place]]

    def coming_shards(self, position: int, ranks: Sequence[int] = (0,), world_size: int = 1) -> list[Iterator[int]]:
        """For each dataset its shards in the order of first use from a position on; see `SampleOrder.coming_shards`."""
        if len(self.orders) == 1:
            return [self.orders[0].coming_shards(position, ranks, world_size)]
        # A position of the stream and that of its dataset agree in the lane only.
        common = math.gcd(world_size, self._lanes)
        own = sorted({rank % common for rank in ranks})
        return [
            order.coming_shards(start, own, common)
            for order, start in zip(self.orders, self.positions(position), strict=True)
        ]

    def _lay_out(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Whose each turn of a block is, (T,), and how many turns each dataset had before it, (T, D), T = _TURNS."""
        before = turns_of(number * _TURNS, self.weights)
        after = turns_of((number + 1) * _TURNS, self.weights)
        shares = np.array([end - begin for begin, end in zip(before, after, strict=True)])
        in_order = np.repeat(np.arange(len(shares)), shares)
        datasets = in_order[permute_all(_TURNS, permutation_key(self._seed, number, _PATTERN))]
        is_turn = datasets[:, None] == np.arange(len(shares))
        return datasets, np.array(before) + np.cumsum(is_turn, axis=0) - is_turn

    def __reduce__(self) -> tuple[type["Mixture"], tuple[tuple[SampleOrder, ...], tuple[int, ...]]]:
        return Mixture, (self.orders, self.weights)


def turns_of(turns: int, weights: Sequence[int]) -> list[int]:
    """How many of the first `turns` turns each dataset has: sums to `turns`, never falls as they grow.

    Each takes the floor of its share of what the ones before it left, which is off its exact share by less turns than
    there are datasets.
    """
    counts, left = [], sum(weights)
    for weight in weights:
        counts.append(turns * weight // left)
        turns -= counts[-1]
        left -= weight
    return counts


def _whole_numbers(weights: Sequence[float]) -> tuple[int, ...]:
    # By their decimal form: 0.1 and 0.2 are 1 and 2, as the user meant.
    exact = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    return tuple(weight // math.gcd(*whole) for weight in whole)
