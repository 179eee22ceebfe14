"""Which sample stands at which position of the endless training stream: one pure function of integers.

Position g belongs to epoch g // N and is place j = g % N of it. Per epoch the shards are permuted and laid end to end,
a row of N samples. The row is cut into lanes, the longer ones first; position j is lane j % lanes, place j // lanes.
Within a lane, samples are permuted inside windows. World size, ranks and workers do not enter.

The permutations are Feistel networks with cycle walking, keyed by (seed, epoch, ...), in 64-bit integer arithmetic of
our own: the same on every machine and with every library version, exact, and O(1) without a table.

    order = SampleOrder([1000, 1000, 870], seed=0, lanes=1, window=4096)
    epoch, sample = order.locate(123_456)
    next_shards = order.coming_shards(123_456)
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shards.errors import ConfigError

__all__ = ["ORDER_VERSION", "SampleOrder", "permutation_key", "permute", "permute_all", "rank_slots"]

ORDER_VERSION = 1
"""Changes when the same settings would give another order."""
_Word = TypeVar("_Word", int, NDArray[Any])
_MASK = (1 << 64) - 1
_ROUNDS = 6
_MIN_HALF_BITS = 3  # a network on fewer bits reaches too few of the permutations of a handful of elements
_FEW = 256  # below this, plain integers are faster than numpy's cost a call
_SHARDS, _WINDOW, _STAND_IN = 1, 2, 4  # what a key is for, a part of it; 3 is the mixture's
_WINDOWS = 64  # whose networks are kept
_PLACES = 1024  # looked at in one go for the coming shards
_NEAR = 8  # stand-ins that are looked for nearby


class SampleOrder:
    """The order of one dataset. Immutable; memory is O(shards).

    Args:
        shard_sizes: (S,) samples of each shard in index order; their sum N is the length of an epoch.
        seed: 0 or more.
        lanes: Independent rows that an epoch is cut into.
        window: Samples are permuted inside windows of this many.

    Raises:
        ValueError: No samples, or a number out of range.
    """

    def __init__(self, shard_sizes: Sequence[int] | NDArray[np.int64], *, seed: int, lanes: int, window: int) -> None:
        sizes = np.asarray(shard_sizes, dtype=np.int64)
        if sizes.ndim != 1 or (sizes < 0).any() or sizes.sum() < 1:
            raise ValueError("shard_sizes must be a list of sizes with at least one sample in all")
        if seed < 0 or lanes < 1 or window < 1:
            raise ValueError(f"seed {seed} must be >= 0, lanes {lanes} and window {window} >= 1")
        self._sizes = sizes
        self._starts = np.cumsum(sizes) - sizes
        self.num_samples = int(sizes.sum())
        self.seed, self.lanes, self.window = seed, lanes, window
        self._epoch_row = lru_cache(maxsize=2)(self._lay_out)  # two: a batch can cross the border of an epoch
        self._window_schedule = lru_cache(maxsize=2 * min(lanes, _WINDOWS))(self._schedule_window)

    def locate(self, position: int) -> tuple[int, int]:
        """Epoch and sample (row number in the index) at a position of the stream, 0 or more."""
        if position < 0:
            raise ValueError(f"position {position} must be >= 0")
        epoch, place = divmod(position, self.num_samples)
        lane, place = place % self.lanes, place // self.lanes
        lane_start, lane_length = self._lane(lane)
        window, place = divmod(place, self.window)
        window_start = window * self.window
        size = min(self.window, lane_length - window_start)
        row = lane_start + window_start + _walk(place, size, *self._window_schedule(size, epoch, lane, window))
        return epoch, self._sample_at(epoch, row)

    def stand_in(self, epoch: int, sample: int, attempt: int) -> int:
        """The sample that is tried in place of an unreadable one: a draw for each attempt, counted from 1.

        The first few are of the other shards in its window, which are at hand when it is needed (where its shard fills
        the window, of the shards around); the later ones are any of the dataset.
        """
        draw = permutation_key(self.seed, epoch, _STAND_IN, sample, attempt)
        shards, ends = self._epoch_row(epoch)
        shard = int(np.searchsorted(self._starts, sample, side="right")) - 1
        last = int(ends[np.flatnonzero(shards == shard)[0]])
        first = last - int(self._sizes[shard])
        begin, end = self._window_around(first + sample - int(self._starts[shard]))
        if first <= begin and end <= last:
            begin, end = max(0, first - self.window), min(self.num_samples, last + self.window)
        first, last = max(first, begin), min(last, end)
        others = end - begin - (last - first)
        if attempt > _NEAR or not others:
            return draw % self.num_samples
        row = begin + draw % others
        return self._sample_at(epoch, row if row < first else row + last - first)

    def coming_shards(self, position: int, ranks: Sequence[int] = (0,), world_size: int = 1) -> Iterator[int]:
        """Shards in the order in which they are first needed, from a position on: epoch after epoch, without end.

        Nothing is computed before it is asked for.

        Args:
            position: Where the stream stands, 0 or more.
            ranks: Only the positions that these processes take count, those of one machine, say.
            world_size: Number of processes that share the batches (see `rank_slots`).
        """
        epoch, first = divmod(position, self.num_samples)
        for later in count(epoch):
            # Every batch is a multiple of the world size, so a rank has the positions of one residue.
            residues = [(rank - later * self.num_samples) % world_size for rank in ranks]
            yield from self._shards_of_epoch(later, first if later == epoch else 0, residues, world_size)

    def _shards_of_epoch(self, epoch: int, first: int, residues: list[int], modulus: int) -> Iterator[int]:
        """Shards by first use at the places `first`... of an epoch that leave one of the residues."""
        shards, ends = self._epoch_row(epoch)
        common = math.gcd(self.lanes, modulus)
        lanes = [lane for lane in range(self.lanes) if any((lane - residue) % common == 0 for residue in residues)]
        seen = self._sizes[shards] == 0
        begin, longest = first // self.lanes, -(-self.num_samples // self.lanes)
        while begin < longest:
            end = min(begin + _PLACES, (begin // self.window + 1) * self.window, longest)
            found = [self._first_uses(epoch, lane, begin, end, seen, ends) for lane in lanes]
            places, slots = (np.concatenate(part) for part in zip(*found, strict=True))
            wanted = places >= first
            if modulus > 1:
                wanted &= np.isin(places % modulus, residues)
            places, slots = places[wanted], slots[wanted]
            slots, where = np.unique(slots[np.argsort(places)], return_index=True)
            for slot in slots[np.argsort(where)].tolist():
                if not seen[slot]:
                    seen[slot] = True
                    yield int(shards[slot])
            begin = end

    def _first_uses(
        self, epoch: int, lane: int, begin: int, end: int, seen: NDArray[np.bool_], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the epoch that places begin..end of a lane are, in one window, and the slots of their shards.

        Nothing where all shards of the window are `seen`.
        """
        nothing = np.empty(0, dtype=np.int64)
        start, length = self._lane(lane)
        window = begin // self.window
        size = min(self.window, length - window * self.window)
        within = np.arange(begin, min(end, length), dtype=np.int64)
        row = start + window * self.window
        slots = slice(np.searchsorted(ends, row, "right"), np.searchsorted(ends, row + size) + 1)
        if not within.size or seen[slots].all():
            return nothing, nothing
        key = permutation_key(self.seed, epoch, _WINDOW, lane, window)
        rows = row + _permute_many(within - window * self.window, size, key)
        return within * self.lanes + lane, np.searchsorted(ends, rows, "right").astype(np.int64)

    def _schedule_window(self, size: int, epoch: int, lane: int, window: int) -> tuple[int, list[int]]:
        """The network that permutes a window, of which `size` places are there."""
        return _schedule(size, permutation_key(self.seed, epoch, _WINDOW, lane, window))

    def _lane(self, lane: int) -> tuple[int, int]:
        """Where a lane begins in the row, and its length."""
        quotient, longer = divmod(self.num_samples, self.lanes)
        return lane * quotient + min(lane, longer), quotient + (lane < longer)

    def _window_around(self, row: int) -> tuple[int, int]:
        """Where the window of a place of the row begins and ends in the row."""
        quotient, longer = divmod(self.num_samples, self.lanes)
        in_longer = row // (quotient + 1)
        lane = in_longer if in_longer < longer else (row - longer) // quotient
        start, length = self._lane(lane)
        begin = (row - start) // self.window * self.window
        return start + begin, start + min(begin + self.window, length)

    def _sample_at(self, epoch: int, row: int) -> int:
        """Row number in the index of what stands at a place of an epoch's row."""
        shards, ends = self._epoch_row(epoch)
        slot = int(ends.searchsorted(row, side="right"))
        shard = int(shards[slot])
        return int(self._starts[shard]) + row - int(ends[slot]) + int(self._sizes[shard])

    def _lay_out(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The shards of an epoch in their order, and where each ends in the row."""
        shards = permute_all(len(self._sizes), permutation_key(self.seed, epoch, _SHARDS))
        return shards, np.cumsum(self._sizes[shards])

    def __reduce__(self) -> tuple[Callable[..., "SampleOrder"], tuple[NDArray[np.int64], int, int, int]]:
        return _make_order, (self._sizes, self.seed, self.lanes, self.window)


def _make_order(sizes: NDArray[np.int64], seed: int, lanes: int, window: int) -> SampleOrder:
    return SampleOrder(sizes, seed=seed, lanes=lanes, window=window)


def permute(index: int, size: int, key: int) -> int:
    """Image of `index` under the permutation of range(size) that belongs to a 64-bit key."""
    return _walk(index, size, *_schedule(size, key))


def _walk(index: int, size: int, half_bits: int, round_keys: list[int]) -> int:
    """Image of `index` under a network that covers range(size): it is passed until it gives a place of the range."""
    if size == 1:
        return 0
    while True:
        index = _feistel(index, half_bits, round_keys)
        if index < size:
            return index


def permute_all(size: int, key: int) -> NDArray[np.int64]:
    """`[permute(i, size, key) for i in range(size)]` at once, int64 (size,)."""
    if size < _FEW:
        return np.array([permute(index, size, key) for index in range(size)], dtype=np.int64)
    return _permute_many(np.arange(size), size, key)


def _permute_many(indices: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """`[permute(i, size, key) for i in indices]` at once, int64."""
    if size == 1:
        return np.zeros(len(indices), dtype=np.int64)
    half_bits, round_keys = _schedule(size, key)
    images = _feistel(indices.astype(np.uint64), half_bits, round_keys)
    outside = np.flatnonzero(images >= size)
    while outside.size:
        images[outside] = _feistel(images[outside], half_bits, round_keys)
        outside = outside[images[outside] >= size]
    return images.astype(np.int64)


def rank_slots(batch_size: int, rank: int, world_size: int) -> range:
    """Slots of a global batch that a rank takes: every `world_size`-th, from `rank` on.

    Raises:
        ConfigError: The batch cannot be shared evenly; names the nearest sizes that can.
    """
    if batch_size % world_size:
        below, above = batch_size // world_size * world_size, -(-batch_size // world_size) * world_size
        nearest = f"{below} or {above}" if below else str(above)
        raise ConfigError(
            f"train.batch_size: {batch_size} samples cannot be shared evenly by {world_size} processes; use {nearest}, "
            "or another number of processes"
        )
    return range(rank, batch_size, world_size)


def _schedule(size: int, key: int) -> tuple[int, list[int]]:
    """Bits of each half of the network that covers `size`, and a key for each round."""
    half_bits = max(_MIN_HALF_BITS, ((size - 1).bit_length() + 1) // 2)
    return half_bits, [_mix(key + round_number) for round_number in range(1, _ROUNDS + 1)]


def _feistel(value: _Word, half_bits: int, round_keys: list[int]) -> _Word:
    """One pass of a balanced Feistel network on 2 * half_bits bits; a bijection whatever the round function."""
    half = (1 << half_bits) - 1
    left, right = value >> half_bits, value & half
    for round_key in round_keys:
        left, right = right, left ^ (_mix(right ^ round_key) & half)
    return left << half_bits | right


def permutation_key(*parts: int) -> int:
    """A 64-bit key of integers, each of which may have any size; what a permutation is for is a part of it."""
    key = len(parts)
    for part in parts:
        while part > _MASK:
            key, part = _mix(key ^ (part & _MASK)), part >> 64
        key = _mix(key ^ part)
    return key


def _mix(x: _Word) -> _Word:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014), on integers or uint64 arrays."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
