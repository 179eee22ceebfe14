"""How well windows shuffle beside a full permutation, what a position costs, and the first batch after a resume.

Shuffling is judged by an epoch of 100,000 samples in shards of 1,000. A stored order has local structure (pictures of
one source lie side by side), so beside the displacement it says how much of that structure is left.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.config import DataConfig
from pipeline.data.loader import TrainStream
from pipeline.data.order import SampleOrder
from tests.data.small_dataset import write_dataset

from .rows import Row

SHARDS, SHARD_SAMPLES = 100, 1000
WINDOWS = (1, 256, 1024, 4096, 16_384, 100_000)
BATCH = 32
STORED, STORED_BATCH, ROUNDS = 2000, 8, 8
PLACES = (0.0, 0.1, 0.5, 0.9)
"""Where a run is resumed, as a share of ten epochs."""


def run() -> dict[str, object]:
    """Print the tables and return their figures."""
    return {"shuffle": shuffle_table(), "locate_us": locate_table(), "first_batch": first_batch_table()}


def rows(record: dict[str, object]) -> list[Row]:
    us, first = record["locate_us"], record["first_batch"]
    return [
        Row("order: a position of 1e8 samples", us["100000000"], "us", "of 1e4 samples", us["10000"], "lower"),
        *(
            Row(f"order: first batch at 90 %, {name}", times["90 %"], "s", "a fresh run's", times["0 %"], "lower")
            for name, times in first.items()
        ),
    ]


def shuffle_table() -> dict[str, dict[str, float]]:
    """Mean displacement, neighbours that stay, and batch mates of one shard, for each window."""
    n = SHARDS * SHARD_SAMPLES
    orders = {
        f"{window}": np.array(
            [
                sample
                for _, sample in map(
                    SampleOrder([SHARD_SAMPLES] * SHARDS, seed=0, lanes=1, window=window).locate, range(n)
                )
            ]
        )
        for window in WINDOWS
    }
    orders["full permutation"] = np.random.default_rng(0).permutation(n)
    print("| window | mean displacement | neighbours that stay | pairs of a batch from one shard |")
    print("|---|---|---|---|")
    found = {}
    for name, order in orders.items():
        figures = shuffle_figures(order)
        found[name] = {key: round(value, 6) for key, value in figures.items()}
        print(f"| {name} | " + " | ".join(f"{100 * value:.3g} %" for value in figures.values()) + " |")
    return found


def shuffle_figures(order: NDArray[np.int64]) -> dict[str, float]:
    """Figures of one epoch, `order[place]` being the sample there; each as a share."""
    n = len(order)
    shards = (order // SHARD_SAMPLES)[: n // BATCH * BATCH].reshape(-1, BATCH)
    same = (shards[:, :, None] == shards[:, None, :]).sum() - shards.size
    return {
        "displacement": float(np.abs(order - np.arange(n)).mean()) / n,
        "neighbours": float((np.diff(order) == 1).mean()),
        "one_shard": float(same) / (shards.size * (BATCH - 1)),
    }


def locate_table() -> dict[str, float]:
    """Microseconds of processor time a position, and of the first one of an epoch, which lays out the shards."""
    found = {}
    for samples in (10**4, 10**6, 10**8):
        order = SampleOrder(np.full(samples // SHARD_SAMPLES, SHARD_SAMPLES), seed=0, lanes=1, window=4096)
        first = microseconds(order, [0])
        rest = microseconds(order, list(range(1, samples, samples // 5000)))
        found[f"{samples}"], found[f"{samples} first"] = round(rest, 1), round(first)
        print(f"{samples} samples: {rest:.1f} us a position, {first / 1e3:.1f} ms for the first of an epoch")
    return found


def microseconds(order: SampleOrder, positions: list[int]) -> float:
    begin = time.process_time()
    for position in positions:
        order.locate(position)
    return (time.process_time() - begin) / len(positions) * 1e6


def first_batch_table() -> dict[str, dict[str, float]]:
    """Seconds from opening the stream to its first batch at several places of a run, without and with workers."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "shards"
        write_dataset(out, STORED)
        last = 10 * STORED // STORED_BATCH
        for num_workers in (0, 2):
            seconds: dict[float, list[float]] = {place: [] for place in PLACES}
            first_batch_seconds(str(out), 0, num_workers)  # starts the server from which the workers come
            for number in range(ROUNDS):
                turn = number % len(PLACES)
                for place in PLACES[turn:] + PLACES[:turn]:
                    seconds[place].append(first_batch_seconds(str(out), int(place * last), num_workers))
            medians = {f"{100 * place:.0f} %": statistics.median(values) for place, values in seconds.items()}
            ratio = medians["90 %"] / medians["0 %"]
            told = ", ".join(f"{place}: {value:.3f} s" for place, value in medians.items())
            print(f"first batch with {num_workers} workers, resumed at {told}; 90 % / fresh = {ratio:.2f}")
            found[f"{num_workers} workers"] = {name: round(value, 4) for name, value in medians.items()} | {
                "ratio": round(ratio, 3)
            }
    return found


def first_batch_seconds(url: str, step: int, num_workers: int) -> float:
    data = DataConfig(train=url, num_workers=num_workers, num_pairs=100)
    begin = time.perf_counter()
    stream = TrainStream(
        data, size_hw=(64, 64), seed=0, batch_size=STORED_BATCH, micro_batch_size=None, rank=0, world_size=1
    )
    next(stream.steps(step))
    taken = time.perf_counter() - begin
    stream.close()
    return taken
