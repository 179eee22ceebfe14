"""The notebook's own cells, run in containers as on Kaggle, session after session, with real training."""

import hashlib
import re
import tarfile
from pathlib import Path

import pytest
import yaml

from launch.kaggle.mounts import newest_step
from launch.kaggle.notebook import notebook_bytes
from launch.kaggle.settings import Settings
from launch.kaggle.upload import prepare_code, prepare_shards
from pipeline.train.metrics_log import read_metrics
from pipeline.train.status import read_status
from shards.writer import DatasetWriter

from ..train.test_trainer import make_sample
from .kaggle_machine import KaggleMachine, Version, skip_without_containers

pytestmark = pytest.mark.slow

STEPS = 120
RECIPE = {
    "run": "runs/elsewhere",
    "data": {"train": "elsewhere", "num_workers": 0, "num_pairs": 32},
    "model": {"encoder": "resnet18", "encoder_width": 8, "decoder_channels": 8},
    "optim": {"lr": 1e-3, "encoder_lr_ratio": 1.0},
    "train": {"steps": STEPS, "batch_size": 4, "size": 32, "threads": 1, "precision": "fp16"},
    "checkpoint": {"every_steps": 10},
    "monitor": {"log_every_steps": 5, "num_images": 2},
}
SLOWLY = "monitor.eval_every_steps=1"  # has no influence on the weights
TRAINS = "\ntrains "
HOUR = 3600


@pytest.fixture(scope="module")
def uploads(tmp_path_factory) -> Path:
    """What a user uploads: the program and a dataset of shards, and how Kaggle may have unpacked the latter."""
    folder = tmp_path_factory.mktemp("kaggle")
    skip_without_containers(tmp_path_factory.mktemp("probe"))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    prepare_code(folder / "code", "me/depthrank-code", recipes=[folder / "tiny.yaml"], wheels=[])
    with DatasetWriter(str(folder / "raw"), shard_bytes=100_000, config={}) as writer:
        for split, count in (("train", 11), ("val", 40)):
            for index in range(count):
                writer.add(split, make_sample(f"{split}-{index:02d}", index))
        writer.finish({})
    prepare_shards(folder / "shards", "me/web-shards", folder / "raw")
    prepare_shards(folder / "unpacked", "me/web-shards", folder / "raw")
    for tar in (folder / "unpacked").glob("*.tar"):
        with tarfile.open(tar) as archive:
            archive.extractall(tar.with_suffix(""), filter="data")
        tar.unlink()
    return folder


@pytest.fixture(scope="module")
def whole(uploads) -> Version:
    """A run that nothing interrupts."""
    machine = KaggleMachine(uploads / "whole")
    attached = {"web-shards": uploads / "shards", "depthrank-code": uploads / "code"}
    return machine.run(notebook(), attached, look_for=TRAINS)


def notebook(*overrides: str, **settings) -> bytes:
    return notebook_bytes(Settings(recipe="tiny.yaml", run="tiny", require_gpu=False, overrides=overrides, **settings))


def weights(version: Version) -> str:
    return hashlib.sha256((version.output / "runs" / "tiny" / "model.safetensors").read_bytes()).hexdigest()


def content(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def steps_logged(log: str) -> list[int]:
    return [int(step) for step in re.findall(r"^step (\d+)/", log, re.M)]


def test_three_sessions_end_as_one(uploads, whole, tmp_path) -> None:
    """Out of time, killed hard, and finished; the outputs attached in both layouts, the shards packed and unpacked."""
    assert whole.code == 0, whole.log
    assert read_status(whole.output / "runs" / "tiny").state == "finished"
    machine = KaggleMachine(tmp_path)
    seconds = 1.3 * whole.first_seen[TRAINS] + 5
    for _ in range(4):  # a busy machine needs longer for its start
        limit = f"session.max_hours={seconds / HOUR:.6f}"
        first = machine.run(
            notebook(limit, SLOWLY), {"web-shards": uploads / "shards", "depthrank-code": uploads / "code"}
        )
        assert first.code == 0, first.log
        stopped = read_status(first.output / "runs" / "tiny")
        if stopped.step:
            break
        seconds *= 2
    assert stopped.state == "stopped"
    assert 0 < stopped.step < STEPS - 40
    assert "counted from the start of the container" in first.log
    assert "is used up but for the time to save" in first.log
    assert "There is more to do. " in first.log and f"expect_step={stopped.step}" in first.log
    assert first.seconds < 3 * seconds + 90  # the page about the run, and saving the output

    kill_at = stopped.step // 10 * 10 + 25  # half-way between two saves
    second = machine.run(
        notebook("monitor.log_every_steps=1", expect_step=stopped.step),
        {
            "datasets/me/web-shards": uploads / "unpacked",
            "datasets/me/depthrank-code": uploads / "code",
            "depthrank": first.output,  # as older sessions mount it
        },
        watch=lambda log: f"\nstep {kill_at}/" in log,
    )
    assert second.code != 0, second.log
    assert "unpacked by Kaggle" in second.log
    assert f"start     step {stopped.step}\n" in second.log
    assert "log(s) of the earlier sessions carried over" in second.log
    assert "--- cell summary" not in second.log
    killed = read_status(second.output / "runs" / "tiny")
    assert (killed.state, killed.reason) == ("stopped", "was killed: nobody holds the run's lock")

    before = [content(first.output), content(second.output)]
    third = machine.run(
        notebook(expect_step=stopped.step + 1),
        {
            "datasets/me/web-shards": uploads / "shards",
            "datasets/me/depthrank-code": uploads / "code",
            "notebooks/me/depthrank": second.output,
            "depthrank-first": first.output,
        },
    )
    assert third.code == 0, third.log
    resumed = int(re.search(r"resumes from .*step_(\d+):", third.log)[1])
    assert stopped.step < resumed == newest_step(second.output / "runs" / "tiny")  # the newest of both
    assert "Finished. The network is" in third.log
    assert [content(first.output), content(second.output)] == before

    assert weights(third) == weights(whole)
    figures = {
        line["step"]: line["train/loss"]
        for line in read_metrics(third.output / "runs/tiny/metrics.jsonl")
        if "train/loss" in line
    }
    assert set(range(5, STEPS + 1, 5)) <= figures.keys()  # one curve over all three
    assert (third.output / "report.html").is_file()


def test_what_a_killed_version_had_may_be_lost(uploads, whole, tmp_path) -> None:
    """The version before it is still attached, and the run goes on from there to the same end."""
    machine = KaggleMachine(tmp_path)
    attached = {"web-shards": uploads / "shards", "depthrank-code": uploads / "code"}
    first = machine.run(notebook("monitor.log_every_steps=1"), attached, watch=lambda log: "\nstep 35/" in log)
    machine.run(
        notebook("monitor.log_every_steps=1"),
        {**attached, "notebooks/me/depthrank": first.output},
        watch=lambda log: "\nstep 55/" in log,
    )
    last = machine.run(notebook(expect_step=20), {**attached, "notebooks/me/depthrank": first.output})
    assert last.code == 0, last.log
    saved = newest_step(first.output / "runs" / "tiny")
    assert steps_logged(last.log)[0] in (saved - 5, saved + 5)  # the last save may not have been whole
    assert weights(last) == weights(whole)


def test_a_forgotten_input_and_a_full_output_are_found_before_training(uploads, tmp_path) -> None:
    attached = {"web-shards": uploads / "shards", "depthrank-code": uploads / "code"}
    forgotten = KaggleMachine(tmp_path / "forgotten").run(notebook(expect_step=100), attached)
    assert forgotten.code == 1
    assert (
        "error: expect_step=100, but the newest checkpoint of the run 'tiny' that is attached is of step 0"
        in forgotten.log
    )
    assert "--- cell train" not in forgotten.log
    full = KaggleMachine(tmp_path / "full", output_mb=200).run(notebook(), attached)
    assert full.code == 1
    assert re.search(r"error: .*working: the run may write 0\.3 GB .* and 0\.2 GB are left", full.log)
    assert "\nstep" not in full.log
    for version in (forgotten, full):
        assert "Traceback" not in version.log
