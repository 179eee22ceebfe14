import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data.config import AugmentConfig, DataConfig
from pipeline.data.loader import Batch, TrainStream, validation_samples
from pipeline.data.order import ORDER_VERSION
from pipeline.data.training_sample import training_picture
from shards.errors import ConfigError, DataError, ShardError
from shards.format import decode_jpeg
from shards.pairs import Tolerance, relations

from .small_dataset import make_sample, write_dataset

# Two workers on a machine of one core are slower, not wrong.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

ROOT = Path(__file__).parents[2]
SAMPLES = 23
SIZE = (32, 64)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loader") / "data"
    write_dataset(folder, SAMPLES)
    return folder


@pytest.fixture
def open_stream(dataset: Path) -> Iterator[Any]:
    opened: list[TrainStream] = []

    def make(data: dict[str, Any] | None = None, **changes: Any) -> TrainStream:
        settings = {"train": str(dataset), "num_workers": 0, "num_pairs": 50, "window": 8, **(data or {})}
        fields: dict[str, Any] = {"size_hw": SIZE, "seed": 3, "batch_size": 8, "micro_batch_size": None}
        fields |= {"rank": 0, "world_size": 1}
        opened.append(TrainStream(DataConfig(**settings), **fields | changes))
        return opened[-1]

    yield make
    for stream in opened:
        stream.close()


def take(stream: TrainStream, start: int, steps: int) -> list[list[Batch]]:
    return list(islice(stream.steps(start), steps))


def assert_same(found: Batch, wanted: Batch) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype, name
            assert torch.equal(found[name], value), name
        else:
            assert found[name] == value, name


def rows(batches: list[list[Batch]]) -> dict[int, dict[str, Any]]:
    """Every sample that was drawn, by its position in the stream."""
    return {
        int(position): {name: values[number] for name, values in batch.items() if name != "replaced"}
        for step in batches
        for batch in step
        for number, position in enumerate(batch["positions"])
    }


def assert_same_rows(found: dict[int, dict[str, Any]], wanted: dict[int, dict[str, Any]]) -> None:
    assert found.keys() == wanted.keys()
    for position, row in wanted.items():
        assert_same(found[position], row)


def test_a_batch_holds_what_the_contract_says(open_stream: Any) -> None:
    ((batch,),) = take(open_stream(), 0, 1)
    shapes = {name: (values.dtype, tuple(values.shape)) for name, values in batch.items() if hasattr(values, "dtype")}
    assert shapes == {
        "image": (torch.uint8, (8, 3, *SIZE)),
        "inverse_depth": (torch.float32, (8, *SIZE)),
        "confidence": (torch.uint8, (8, *SIZE)),
        "colour": (torch.float32, (8, 0)),
        "pairs_yx": (torch.int16, (8, 50, 4)),
        "relation": (torch.int8, (8, 50)),
        "valid": (torch.bool, (8, 50)),
        "view": (torch.int32, (8, 5)),
        "dataset": (torch.int64, (8,)),
        "sample": (torch.int64, (8,)),
        "positions": (torch.int64, (8,)),
    }
    assert batch.keys() - shapes.keys() == {"keys", "replaced"}
    assert batch["replaced"] == 0
    assert batch["dataset"].tolist() == [0] * 8
    assert batch["keys"] == [f"s{number:04d}" for number in batch["sample"].tolist()]
    assert batch["positions"].tolist() == list(range(8))
    assert torch.equal(batch["confidence"], 255 * (batch["inverse_depth"] > 0))
    assert 0 < batch["inverse_depth"].max() <= 1
    assert batch["valid"].all()
    assert 0.02 < (batch["confidence"] == 0).float().mean() < 0.5  # the unknown columns are there, and not everywhere


def test_every_sample_comes_once_an_epoch_across_its_borders(open_stream: Any) -> None:
    drawn = rows(take(open_stream(batch_size=5), 0, 14))
    samples = [int(drawn[position]["sample"]) for position in range(3 * SAMPLES)]
    for epoch in range(3):
        assert sorted(samples[epoch * SAMPLES : (epoch + 1) * SAMPLES]) == list(range(SAMPLES))
    assert samples[:SAMPLES] != samples[SAMPLES : 2 * SAMPLES]


def test_an_epoch_later_the_same_picture_looks_different(open_stream: Any) -> None:
    drawn = rows(take(open_stream(), 0, 6))
    by_sample: dict[int, list[torch.Tensor]] = {}
    for row in drawn.values():
        by_sample.setdefault(int(row["sample"]), []).append(row["image"])
    twice = [images for images in by_sample.values() if len(images) > 1]
    assert len(twice) > 10
    assert not any(torch.equal(*images[:2]) for images in twice)


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7])
def test_a_resumed_stream_continues_exactly(open_stream: Any, start: int) -> None:
    whole = take(open_stream(), 0, 8)
    for found, wanted in zip(take(open_stream(), start, 8 - start), whole[start:], strict=True):
        assert_same(found[0], wanted[0])


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_share_the_global_batch(open_stream: Any, world_size: int) -> None:
    whole = rows(take(open_stream(), 0, 4))
    parts: dict[int, dict[str, Any]] = {}
    for rank in range(world_size):
        mine = rows(take(open_stream(rank=rank, world_size=world_size), 0, 4))
        assert parts.keys().isdisjoint(mine)
        assert all(position % 8 % world_size == rank for position in mine)
        parts |= mine
    assert_same_rows(parts, whole)


@pytest.mark.parametrize(("micro", "sizes"), [(None, [8]), (3, [3, 3, 2]), (4, [4, 4]), (100, [8])])
def test_micro_batches_make_up_the_share(open_stream: Any, micro: int | None, sizes: list[int]) -> None:
    steps = take(open_stream(micro_batch_size=micro), 0, 3)
    assert [[len(batch["keys"]) for batch in step] for step in steps] == [sizes] * 3
    assert_same_rows(rows(steps), rows(take(open_stream(), 0, 3)))


def test_workers_change_nothing_and_the_global_generator_is_left_alone(open_stream: Any) -> None:
    plain = take(open_stream(), 1, 6)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for num_workers in (1, 3):
        for found, wanted in zip(take(open_stream({"num_workers": num_workers}), 1, 6), plain, strict=True):
            assert_same(found[0], wanted[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_identity_names_everything_that_decides_the_order(open_stream: Any) -> None:
    stream = open_stream({"limit": 11, "lanes": 2})
    assert stream.num_samples == 11
    assert stream.identity == {
        "order_version": ORDER_VERSION,
        "fingerprint": stream.identity["fingerprint"],
        "num_samples": 11,
        "limit": 11,
        "lanes": 2,
        "window": 8,
        "seed": 3,
        "batch_size": 8,
    }
    assert len(stream.identity["fingerprint"]) == 64
    assert set(open_stream({"limit": 11}).identity.items()) != set(stream.identity.items())
    assert {int(row["sample"]) for row in rows(take(stream, 0, 3)).values()} == set(range(11))


def test_online_pairs_follow_the_shown_disparity(open_stream: Any) -> None:
    flat = AugmentConfig(crop_scale_min=0.3)
    for row in rows(take(open_stream({"augment": flat}), 0, 3)).values():
        (y_a, x_a, y_b, x_b), relation = row["pairs_yx"].numpy().T.astype(int), row["relation"].numpy()
        codes = np.rint(row["inverse_depth"].numpy().astype(np.float64) * 65535)
        assert row["confidence"][y_a, x_a].all()
        assert row["confidence"][y_b, x_b].all()
        disparity = make_sample(int(row["sample"])).disparity
        assert disparity is not None
        low, high = np.percentile(disparity[disparity > 0], (2, 98))
        wanted = relations(codes[y_a, x_a], codes[y_b, x_b], Tolerance("range", 0.02), value_range=high - low)
        np.testing.assert_array_equal(relation, wanted)


def test_stored_pairs_stay_on_their_pixels(open_stream: Any) -> None:
    still = AugmentConfig(crop_scale_min=1, crop_aspect_max=4, flip_probability=0)
    kept = rows(take(open_stream({"pairs": "stored", "augment": still, "num_pairs": 70}, size_hw=(40, 56)), 0, 1))
    for row in kept.values():
        stored = make_sample(int(row["sample"]))
        assert int(row["valid"].sum()) == len(stored.pairs) == 60
        assert not row["valid"][60:].any()
        np.testing.assert_array_equal(row["pairs_yx"][:60], stored.pairs[:, :4])
        np.testing.assert_array_equal(row["relation"][:60], stored.pairs[:, 4])
    for row in rows(
        take(open_stream({"pairs": "stored", "augment": still, "num_pairs": 20}, size_hw=(40, 56)), 0, 1)
    ).values():
        stored_rows = {tuple(pair) for pair in make_sample(int(row["sample"])).pairs.tolist()}
        chosen = [
            (*pair, relation) for pair, relation in zip(row["pairs_yx"].tolist(), row["relation"].tolist(), strict=True)
        ]
        assert row["valid"].all()
        assert stored_rows.issuperset(chosen)


def picture_of(sample: Any, **settings: Any) -> Any:
    config = DataConfig(train="x", num_pairs=60, **settings)
    return training_picture(sample, config, SIZE, ("key",))


def test_a_picture_with_one_known_pixel_has_no_valid_pair() -> None:
    disparity = np.zeros((40, 56), dtype=np.uint16)
    disparity[3, 4] = 9
    shown = picture_of(make_sample(0, disparity=disparity))
    assert not shown.valid.any()
    assert shown.image.shape == (3, *SIZE)


def test_a_crop_that_shows_nothing_known_is_drawn_again() -> None:
    disparity = np.zeros((40, 56), dtype=np.uint16)
    disparity[:6, :8] = np.arange(1, 49).reshape(6, 8) * 100
    config = DataConfig(train="x", num_pairs=10, augment=AugmentConfig(crop_scale_min=0.1))
    for number in range(40):
        shown = training_picture(make_sample(0, disparity=disparity), config, SIZE, (number,))
        assert shown.valid.all()


def test_a_tolerance_by_ratio_is_taken_on_the_coded_values() -> None:
    disparity = np.full((40, 56), 1, dtype=np.uint16)
    disparity[:, 28:] = 101
    for offset, wanted in ((0.0, {-1, 0, 1}), (1e5, {0})):  # far from zero, a hundred codes are within the ratio
        meta = {"tolerance": {"kind": "ratio", "value": 0.02}, "coding": {"scale": 1.0, "offset": offset}}
        shown = picture_of(make_sample(0, disparity=disparity, meta=meta), augment=AugmentConfig(crop_scale_min=1))
        assert set(shown.relation.tolist()) == wanted


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"disparity": None}, {}, "set data.pairs to stored"),
        ({"pairs": np.zeros((0, 5), np.int16)}, {"pairs": "stored"}, "set data.pairs to online"),
        ({"meta": {}}, {}, "no tolerance"),
        ({"meta": {"tolerance": {"kind": "other", "value": 1}}}, {}, "no tolerance"),
        ({"meta": {"tolerance": {"kind": "ratio", "value": 0.02}}}, {}, "needs the coding"),
        ({"image": b"\xff\xd8\xff"}, {}, "sample s0000: jpg"),
    ],
)
def test_a_sample_without_what_the_pairs_need_is_told(changes: Any, settings: Any, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        picture_of(make_sample(0, **changes), **settings)


def test_an_ordinal_only_sample_trains_on_its_stored_pairs() -> None:
    shown = picture_of(make_sample(0, disparity=None), pairs="stored")
    assert shown.valid.any()
    assert not shown.confidence.any()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_sample_ends_the_stream_with_one_clear_line(
    dataset: Path, tmp_path: Path, open_stream: Any, num_workers: int
) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "data"))
    path = folder / "train-000001.tar"
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"\xff\xda") + 50] ^= 1
    path.write_bytes(raw)
    stream = open_stream({"train": str(folder), "num_workers": num_workers})
    with pytest.raises(ShardError) as caught:
        take(stream, 0, 4)
    message = str(caught.value)
    assert "train-000001.tar: sample " in message
    assert "sha256sum" in message
    assert "\n" not in message
    assert "worker" not in message


def test_the_processes_must_divide_the_batch(open_stream: Any) -> None:
    with pytest.raises(ConfigError, match="use 6 or 9"):
        open_stream(world_size=3)


def test_steps_can_be_asked_again_and_the_former_ones_end(open_stream: Any) -> None:
    stream = open_stream({"num_workers": 1})
    first = stream.steps(0)
    wanted = next(first)
    again = stream.steps(0)
    assert_same(next(again)[0], wanted[0])
    assert list(first) == []
    stream.close()
    assert list(again) == []


def test_validation_samples_are_shared_and_read_as_stored(dataset: Path) -> None:
    data = DataConfig(train=str(dataset), val=str(dataset))
    whole = [sample.key for sample in validation_samples(data, 0, 1)]
    assert whole == [f"s{number:04d}" for number in range(SAMPLES, SAMPLES + 5)]
    assert [sample.key for sample in validation_samples(data, 1, 2)] == whole[1::2]
    assert [sample.key for sample in validation_samples(data, 0, 2, 3)] == whole[:3:2]
    assert decode_jpeg(next(validation_samples(data, 0, 1)).image).shape == (40, 56, 3)
    with pytest.raises(ConfigError, match=r"data\.val"):
        list(validation_samples(DataConfig(train=str(dataset)), 0, 1))


TRAINER = """
import multiprocessing, signal, sys, time
from pipeline.data.config import DataConfig
from pipeline.data.loader import TrainStream

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
    stream = TrainStream(DataConfig(train=sys.argv[1], num_workers=2, num_pairs=50), size_hw=(32, 64), seed=3,
                         batch_size=8, micro_batch_size=None, rank=0, world_size=1)
    steps = stream.steps(0)
    next(steps)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    for line in sys.stdin:
        print(next(steps)[0]["positions"][0].item(), flush=True)
    if len(sys.argv) > 2:
        raise SystemExit  # without closing the stream
    stream.close()
"""


@pytest.fixture
def trainer(dataset: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process of its own that draws a step for every line it is given, and the ids of its two workers."""
    process = start_trainer(str(dataset))
    yield process, list(map(int, process.stdout.readline().split()))  # type: ignore[union-attr]
    process.kill()
    process.communicate()


def start_trainer(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", TRAINER, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(is_running, pids))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_signals_to_the_whole_job_reach_the_trainer_only_and_no_process_outlives_it(trainer: Any) -> None:
    process, workers = trainer
    server = parent_of(workers[0])
    assert len(workers) == 2
    assert server not in (1, process.pid)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        for pid in [*workers, server]:
            os.kill(pid, number)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "told\n"
    for step in range(1, 12):  # far more than had been prefetched
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{8 * step}\n"
    assert all(map(is_running, [*workers, server]))
    process.kill()
    process.wait()
    assert wait_gone([*workers, server], 20)
    assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_leaving_without_closing_does_not_hang(dataset: Path) -> None:
    process = start_trainer(str(dataset), "leave")
    out, err = process.communicate("\n", timeout=60)
    assert out.splitlines()[1] == "8"
    assert (process.returncode, err) == (0, "")


def started(stream: TrainStream) -> tuple[Iterator[list[Batch]], list[Any]]:
    """Steps of which the first has been taken, and the processes of its workers."""
    before = set(multiprocessing.active_children())
    steps = stream.steps(0)
    next(steps)
    return steps, [child for child in multiprocessing.active_children() if child not in before]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_killed_worker_is_a_clear_error(open_stream: Any) -> None:
    steps, (worker,) = started(open_stream({"num_workers": 1}))
    worker.kill()
    with pytest.raises(DataError, match=r"a loader process died.*lower data\.num_workers"):
        list(islice(steps, 10))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stops processes")
def test_closing_does_not_wait_for_stuck_workers_and_steps_can_be_asked_again(open_stream: Any) -> None:
    stream = open_stream({"num_workers": 2})
    steps, workers = started(stream)
    time.sleep(1)
    for worker in workers:
        os.kill(worker.pid, signal.SIGSTOP)
    for _ in range(5):  # what is ready: two of each worker, and one ahead; then the thread is stuck
        next(steps)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 3.5
    assert not any(worker.is_alive() for worker in workers)
    assert next(stream.steps(5))[0]["positions"].tolist() == list(range(40, 48))


def test_a_temporary_folder_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    code = "from pipeline.data.workers import worker_context; worker_context()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True
    )
    assert f"DataError: TMPDIR: {folder} is too long" in done.stderr
