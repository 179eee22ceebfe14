"""The stream over mixtures, past unreadable samples, and with processes started in other ways."""

import logging
import multiprocessing
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data.config import DataConfig
from pipeline.data.loader import Batch, TrainStream
from pipeline.data.store import ShardStore
from shards.errors import ConfigError, ShardError
from shards.manifest import read_manifest
from shards.writer import DatasetWriter

from .flaky_server import flaky_server
from .small_dataset import make_sample, write_dataset

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

BIG, SMALL = 23, 7
SIZE = (32, 64)


def write_samples(folder: Path, samples: list[Any]) -> str:
    with DatasetWriter(str(folder), shard_bytes=60_000, config={"of": folder.name}) as writer:
        for sample in samples:
            writer.add("train", sample)
        writer.finish({})
    return str(folder)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("streams") / "big"
    write_dataset(folder, BIG)
    return str(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("streams") / "small"
    return write_samples(folder, [make_sample(100 + number) for number in range(SMALL)])


@pytest.fixture
def open_stream() -> Iterator[Any]:
    opened: list[TrainStream] = []

    def make(data: dict[str, Any], **changes: Any) -> TrainStream:
        settings = DataConfig(**{"num_workers": 0, "num_pairs": 50, "window": 8} | data)
        fields: dict[str, Any] = {"size_hw": SIZE, "seed": 3, "batch_size": 8, "micro_batch_size": None}
        opened.append(TrainStream(settings, **fields | {"rank": 0, "world_size": 1} | changes))
        return opened[-1]

    yield make
    for stream in opened:
        stream.close()


def take(stream: TrainStream, start: int, steps: int) -> list[Batch]:
    return [batch for step in islice(stream.steps(start), steps) for batch in step]


def rows(batches: list[Batch]) -> dict[int, tuple[Any, ...]]:
    """What stands at each position: dataset, sample, key, and the bytes of picture and pairs."""
    return {
        int(position): (
            int(batch["dataset"][n]),
            int(batch["sample"][n]),
            batch["keys"][n],
            batch["image"][n].numpy().tobytes(),
            batch["pairs_yx"][n].numpy().tobytes(),
        )
        for batch in batches
        for n, position in enumerate(batch["positions"])
    }


@pytest.fixture
def mixed(big: str, small: str) -> dict[str, Any]:
    return {"train": [{"url": big, "weight": 2}, {"url": small, "weight": 1}]}


def test_a_mixture_draws_by_weight_and_each_dataset_keeps_its_epochs(open_stream: Any, mixed: dict[str, Any]) -> None:
    stream = open_stream(mixed)
    found = rows(take(stream, 0, 32))
    assert stream.num_samples == BIG + SMALL
    drawn: list[list[int]] = [[], []]
    for position in range(256):
        dataset, sample, key, *_ = found[position]
        drawn[dataset].append(sample)
        assert key == f"s{sample + 100 * dataset:04d}"
    assert len(drawn[0]) == 170  # of 256, two thirds
    for samples, size in zip(drawn, (BIG, SMALL), strict=True):
        for epoch in range(len(samples) // size):
            assert sorted(samples[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_the_pictures_of_a_mixture_do_not_depend_on_processes_workers_or_start(
    open_stream: Any, mixed: dict[str, Any]
) -> None:
    whole = rows(take(open_stream(mixed), 0, 6))
    parts = [rows(take(open_stream(mixed, rank=rank, world_size=4), 0, 6)) for rank in range(4)]
    assert {position: row for part in parts for position, row in part.items()} == whole
    resumed = rows(take(open_stream(mixed | {"num_workers": 2}), 4, 2))
    assert resumed == {position: row for position, row in whole.items() if position >= 32}


def test_a_list_of_one_dataset_is_that_dataset(open_stream: Any, big: str) -> None:
    alone, listed = open_stream({"train": big}), open_stream({"train": [{"url": big, "weight": 3}]})
    assert alone.identity == listed.identity
    assert "fingerprint" in alone.identity
    assert rows(take(alone, 0, 4)) == rows(take(listed, 0, 4))


def test_the_identity_of_a_mixture_holds_datasets_and_ratios(open_stream: Any, big: str, small: str) -> None:
    def identity(*weights: float, limit: int | None = None) -> dict[str, Any]:
        train = [{"url": url, "weight": weight} for url, weight in zip((big, small), weights, strict=True)]
        found: dict[str, Any] = open_stream({"train": train, "limit": limit}).identity
        return found

    first = identity(2, 1)
    assert first["datasets"] == [
        {"fingerprint": ShardStore(url, "train").fingerprint, "num_samples": size, "weight": weight}
        for url, size, weight in ((big, BIG, 2), (small, SMALL, 1))
    ]
    assert first == identity(0.5, 0.25)
    assert first != identity(2, 1.01)
    limited = identity(2, 1, limit=10)
    assert limited["num_samples"] == 10 + SMALL  # the limit holds for each dataset
    assert [dataset["num_samples"] for dataset in limited["datasets"]] == [10, SMALL]


def test_a_dataset_listed_twice_is_refused(open_stream: Any, big: str, small: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.train\[2\]: the same dataset as data\.train\[0\]"):
        open_stream({"train": [{"url": big}, {"url": small}, {"url": big + "/"}]})


@pytest.mark.parametrize("num_workers", [1, 2, 3, 4])
def test_global_batches_are_the_same_with_any_workers_and_processes(
    open_stream: Any, big: str, num_workers: int
) -> None:
    whole = rows(take(open_stream({"train": big}), 1, 5))  # past the end of an epoch
    world = {1: 8, 2: 4, 3: 2, 4: 1}[num_workers]
    parts = [
        rows(take(open_stream({"train": big, "num_workers": num_workers}, rank=rank, world_size=world), 1, 5))
        for rank in {0, world - 1}
    ]
    assert {position: row for part in parts for position, row in part.items()}.items() <= whole.items()
    assert sum(map(len, parts)) == 40 * len({0, world - 1}) // world


def damage(source: str, folder: Path, shard: str, every: int = 1) -> tuple[str, set[int]]:
    """A copy of a dataset in which every so many-th picture of a shard has a flipped bit; also which samples."""
    copied = Path(shutil.copytree(source, folder))
    path = copied / shard
    raw = bytearray(path.read_bytes())
    starts = [at for at in range(len(raw)) if raw[at : at + 2] == b"\xff\xda"][::every]
    for start in starts:
        raw[start + 50] ^= 1
    path.write_bytes(raw)
    store, bad = ShardStore(str(copied), "train"), set()
    for sample in range(len(store)):
        try:
            store.read(sample)
        except ShardError:
            bad.add(sample)
    assert bad
    return str(copied), bad


def test_unreadable_samples_are_skipped_counted_and_named(
    open_stream: Any, big: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, bad = damage(big, tmp_path / "broken", "train-000001.tar")
    assert len(bad) < BIG // 2
    with caplog.at_level(logging.WARNING, logger="depthrank"):
        batches = take(open_stream({"train": broken, "on_bad_shard": "skip"}), 0, 9)
    whole, found = rows(take(open_stream({"train": big}), 0, 9)), rows(batches)
    replaced = {position for position, row in whole.items() if row[1] in bad}
    assert {position for position in whole if found[position] != whole[position]} == replaced
    assert not bad & {row[1] for row in found.values()}
    assert sum(batch["replaced"] for batch in batches) == len(replaced)
    assert "stands in" in caplog.messages[0] and "train-000001.tar: sample " in caplog.messages[0]
    assert caplog.messages[-1].endswith("counted only")
    assert len(caplog.messages) == 6
    # The same damage, the same stand-ins, whoever draws them and from where on; and not the same twice.
    resumed = rows(take(open_stream({"train": broken, "on_bad_shard": "skip", "num_workers": 2}), 5, 4))
    assert resumed == {position: row for position, row in found.items() if position >= 40}
    assert len({found[position][3] for position in replaced}) == len(replaced)


def test_a_dataset_of_which_nothing_can_be_read_is_an_error_even_then(
    open_stream: Any, small: str, tmp_path: Path
) -> None:
    broken, bad = damage(small, tmp_path / "broken", "train-000000.tar")
    stream = open_stream({"train": broken, "on_bad_shard": "skip", "limit": len(bad)})
    with pytest.raises(ShardError, match=r"train-000000\.tar: sample"):
        take(stream, 0, 1)


def test_a_picture_that_cannot_be_decoded_is_skipped_and_a_wrong_setting_is_not(
    open_stream: Any, tmp_path: Path
) -> None:
    samples = [make_sample(number, pairs=np.zeros((0, 5), np.int16)) for number in range(6)]
    samples[2] = make_sample(2, image=samples[2].image[:300])
    url = write_samples(tmp_path / "undecodable", samples)
    batches = take(open_stream({"train": url, "on_bad_shard": "skip"}), 0, 3)
    assert sum(batch["replaced"] for batch in batches) == 4  # once an epoch of six
    assert all("s0002" not in batch["keys"] for batch in batches)
    with pytest.raises(ShardError, match=r"s0002"):
        take(open_stream({"train": url}), 0, 1)
    with pytest.raises(ShardError, match=r"set data\.pairs to online"):
        take(open_stream({"train": url, "on_bad_shard": "skip", "pairs": "stored"}), 0, 1)


def test_without_dense_maps_the_pairs_are_the_same(open_stream: Any, big: str) -> None:
    dense, pairs = take(open_stream({"train": big}), 0, 2), take(open_stream({"train": big}, dense=False), 0, 2)
    assert dense[0].keys() - pairs[0].keys() == {"inverse_depth", "confidence"}
    assert rows(dense) == rows(pairs)


@pytest.mark.slow
def test_workers_can_be_spawned(open_stream: Any, big: str, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train = {"train": [{"url": big}, {"url": small}]}
    whole = rows(take(open_stream(train), 2, 2))
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])  # as on Windows
    stream = open_stream(train | {"num_workers": 1})
    assert rows(take(stream, 2, 2)) == whole


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unforeseen_error_names_the_sample(open_stream: Any, big: str, num_workers: int) -> None:
    stream = open_stream({"train": big, "num_workers": num_workers}, size_hw=(0, 0))
    with pytest.raises(Exception, match=rf"while preparing sample \d+ of {big}, position 0"):  # notes count too
        take(stream, 0, 1)


def test_memory_is_not_pinned_unless_asked_for(open_stream: Any, big: str) -> None:
    (batch,) = take(open_stream({"train": big}), 0, 1)
    assert not batch["image"].is_pinned()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_memory_is_pinned_for_a_gpu(open_stream: Any, big: str, num_workers: int) -> None:
    batches = take(open_stream({"train": big, "num_workers": num_workers}, pinned=True), 0, 6)
    assert all(batch["image"].is_pinned() for batch in batches)


def test_a_shard_that_is_not_there_at_the_start_is_an_error_with_skip_too(
    open_stream: Any, big: str, tmp_path: Path
) -> None:
    short = Path(shutil.copytree(big, tmp_path / "short"))
    (short / "train-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"1 of \d+ shards are missing or cut off: train-000001\.tar .*copy"):
        open_stream({"train": str(short), "on_bad_shard": "skip"})


@pytest.mark.parametrize("num_workers", [0, 2])
def test_fetched_bytes_are_those_that_the_server_sent(
    open_stream: Any, big: str, tmp_path: Path, num_workers: int
) -> None:
    pytest.importorskip("aiohttp", reason='http needs: pip install "depthrank[http]"')
    with flaky_server(Path(big), only="") as server:
        stream = open_stream({"train": server.url, "cache_dir": str(tmp_path), "num_workers": num_workers})
        take(stream, 0, 2 * BIG // 8)
        stream.close()
        manifest_bytes = (Path(big) / "manifest.json").stat().st_size
        assert stream.fetched_bytes == server.told()["whole_bytes"] - manifest_bytes
    split = read_manifest(big).splits["train"]
    assert stream.fetched_bytes == split.index.bytes + sum(shard.bytes for shard in split.shards)
