"""The promises of the order for every small case; in `make test` a part of them, evenly spread."""

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.data.loader import _positions
from pipeline.data.order import SampleOrder, permutation_key, permute_all, rank_slots

SIZES = range(1, 201)
LANES = range(1, 17)
WINDOWS = (1, 2, 7, 16, 64, 300)


def uneven_shards(n: int, kind: int) -> list[int]:
    """One shard, shards of one sample, uneven ones with empty ones between, or about ten of the same size."""
    if kind == 0:
        return [n]
    if kind == 1:
        return [1] * n
    if kind == 2:
        return [0, n // 7, 0, 0, n - n // 7 - n // 2, n // 2, 0]
    return [len(part) for part in np.array_split(np.arange(n), 10)]


def cases(stride: int) -> Iterator[SampleOrder]:
    number = 0
    for n in SIZES:
        for lanes in LANES:
            for window in WINDOWS:
                if number % stride == 0:
                    yield SampleOrder(uneven_shards(n, number // stride % 4), seed=number, lanes=lanes, window=window)
                number += 1


def reference_epoch(sizes: list[int], seed: int, lanes: int, window: int, epoch: int) -> list[int]:
    """An epoch written down as the design says it: shards end to end, cut into lanes, windows shuffled, interleaved."""
    firsts = np.cumsum(sizes) - sizes
    row: list[int] = []
    for shard in permute_all(len(sizes), permutation_key(seed, epoch, 1)):
        row += range(firsts[shard], firsts[shard] + sizes[shard])
    queues = []
    for lane, part in enumerate(np.array_split(np.array(row), lanes)):  # it too makes the longer parts the first
        windows = [part[start : start + window] for start in range(0, len(part), window)]
        queues.append(
            [
                int(piece[place])
                for number, piece in enumerate(windows)
                for place in permute_all(len(piece), permutation_key(seed, epoch, 2, lane, number))
            ]
        )
    return [queues[place % lanes][place // lanes] for place in range(len(row))]


def check_epochs(order: SampleOrder, epochs: tuple[int, ...]) -> None:
    n = order.num_samples
    for epoch in epochs:
        located = [order.locate(position) for position in range(epoch * n, (epoch + 1) * n)]
        assert all(found == epoch for found, _ in located)
        samples = [sample for _, sample in located]
        assert sorted(samples) == list(range(n)), (n, order.lanes, order.window)


def test_each_sample_comes_exactly_once_an_epoch() -> None:
    for order in cases(stride=101):
        check_epochs(order, (0, 3))


@pytest.mark.slow
def test_each_sample_comes_exactly_once_an_epoch_in_every_case() -> None:
    for order in cases(stride=1):
        check_epochs(order, (0,))


@pytest.mark.parametrize("stride", [397, pytest.param(29, marks=pytest.mark.slow)])
def test_the_order_is_the_one_written_down(stride: int) -> None:
    for number, order in enumerate(cases(stride)):
        n, sizes = order.num_samples, uneven_shards(order.num_samples, number % 4)
        epoch = number % 5
        wanted = reference_epoch(sizes, order.seed, order.lanes, order.window, epoch)
        assert [order.locate(position)[1] for position in range(epoch * n, (epoch + 1) * n)] == wanted


def shares(batch_size: int, world_size: int, micro: int, steps: range) -> list[list[int]]:
    """Positions of the global batches of some steps, put together from what each process is handed."""
    slots = [rank_slots(batch_size, rank, world_size) for rank in range(world_size)]
    streams = [_positions(steps.start, batch_size, mine, micro) for mine in slots]
    batches = []
    for _ in steps:
        parts = []
        for stream, mine in zip(streams, slots, strict=True):
            share: list[int] = []
            while len(share) < len(mine):
                share += next(stream)
            assert len(share) == len(mine)
            parts.append(share)
        batches.append([parts[slot % world_size][slot // world_size] for slot in range(batch_size)])
    return batches


def test_global_batches_are_the_same_for_any_world_size_micro_batch_and_start() -> None:
    for batch_size in range(1, 25):
        wanted = np.arange(12 * batch_size).reshape(12, batch_size).tolist()
        for world_size in (size for size in range(1, 9) if batch_size % size == 0):
            for micro in range(1, batch_size // world_size + 1):
                assert shares(batch_size, world_size, micro, range(12)) == wanted
        for start in range(12):
            assert shares(batch_size, 1, batch_size, range(start, 12)) == wanted[start:]


def test_a_stream_can_be_resumed_at_every_position() -> None:
    settings = {"seed": 4, "lanes": 3, "window": 8}
    sizes = [13, 0, 20, 8]
    order = SampleOrder(sizes, **settings)
    whole = [order.locate(position) for position in range(3 * 41)]
    for start in range(len(whole)):
        resumed = SampleOrder(sizes, **settings)  # a new session remembers nothing
        assert [resumed.locate(position) for position in range(start, min(start + 4, len(whole)))] == whole[
            start : start + 4
        ]
