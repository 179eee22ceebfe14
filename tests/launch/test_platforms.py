"""What works without the parts that Windows or macOS lack, and where computing goes on a Mac.

No such system was at hand: an interpreter from which these parts were taken stands in for them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from model import DepthNet, ModelConfig
from pipeline.data.cache import ShardCache
from pipeline.eval.device import choose_device
from pipeline.eval.inference import Inference
from pipeline.eval.predict import Predictor
from pipeline.train.config import RunConfig
from pipeline.train.machine import open_machine
from pipeline.train.status import read_status
from shards import posix
from shards.errors import ConfigError, RunError
from shards.posix import O_READ, read_at

from .test_export import RECIPE
from .test_until_finished import status_text

ROOT = Path(__file__).parents[2]


def run_lacking(system: str, commands: list[list[str]]) -> list[tuple[int, str, str]]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("lacking.py")), system],
        input=json.dumps(commands),
        env={**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [(code, out, err) for code, out, err in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture
def place(tmp_path):
    """A recipe, a network and a picture."""
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(root=tmp_path))
    net = DepthNet.from_config(ModelConfig(encoder="resnet18", encoder_width=8, decoder_channels=8))
    net.save_pretrained(tmp_path / "net", size_hw=(32, 32))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    return tmp_path


@pytest.mark.slow
def test_without_what_windows_lacks_all_but_training_works_and_that_says_so(place):
    recipe = ["--config", f"{place}/recipe.yaml"]
    results = run_lacking(
        "windows",
        [
            ["shards", *recipe],
            ["inspect", f"{place}/shards", "--verify"],
            ["evaluate", "--checkpoint", f"{place}/net", "--data", f"shards={place}/shards"],
            ["predict", "--checkpoint", f"{place}/net", f"{place}/photo.png", "--out", f"{place}/depth"],
            ["samples", *recipe, "--out", f"{place}/sheet.png"],
            ["export", "--checkpoint", f"{place}/net", "--out", f"{place}/hub", "--license", "mit"],
            ["push", "--checkpoint", f"{place}/hub", "--repo", "owner/name", "--dry-run"],
            ["train", *recipe],
            ["train", *recipe, "--dry-run"],
        ],
    )
    *working, train, dry_run = results
    assert [code for code, _, _ in working] == [0] * 7, [err for _, _, err in working]
    assert list((place / "depth").iterdir())
    for code, _, err in (train, dry_run):
        assert code == 2
        assert err == (
            "error: training needs the file locks and signals of Linux or macOS, which Windows does not have; there, "
            "use WSL 2\n"
        )
    assert not (place / "run").exists()


@pytest.mark.slow
def test_without_what_macos_lacks_training_works_too_with_loader_processes(place):
    recipe = ["--config", f"{place}/recipe.yaml"]
    results = run_lacking(
        "macos", [["shards", *recipe], ["train", *recipe, "data.num_workers=1"], ["status", f"{place}/run"]]
    )
    assert [code for code, _, _ in results] == [0, 0, 0], [err for _, _, err in results]
    assert read_status(place / "run").state == "finished"


def test_without_locks_a_running_run_cannot_be_told_from_a_killed_one_and_nothing_is_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(posix, "_fcntl", None)
    (tmp_path / "status.json").write_text(status_text("running", 3))
    with pytest.raises(RunError, match="no file locks, so it cannot be told"):
        read_status(tmp_path)
    (tmp_path / "status.json").write_text(status_text("finished", 9))
    assert read_status(tmp_path).state == "finished"
    with pytest.raises(OSError, match="no file locks"):
        posix.lock(0)
    with pytest.raises(ConfigError, match="s3://bucket/shards: a cache of shards needs the file locks"):
        ShardCache("s3://bucket/shards", tmp_path, budget_bytes=1)


def test_bytes_are_read_at_their_place_with_and_without_pread(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(bytes(range(100)))
    descriptor = os.open(tmp_path / "file", O_READ)
    expected = [read_at(descriptor, 7, offset) for offset in (90, 3, 97)]
    monkeypatch.delattr(os, "pread")
    assert (
        [read_at(descriptor, 7, offset) for offset in (90, 3, 97)]
        == expected
        == [
            bytes(range(90, 97)),
            bytes(range(3, 10)),
            bytes(range(97, 100)),
        ]
    )
    os.close(descriptor)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected", "reason"),
    [
        (True, True, "cuda", "a CUDA device is available"),
        (False, True, "mps", "an Apple GPU is available"),
        (False, False, "cpu", "neither a CUDA device nor an Apple GPU is available"),
    ],
)
def test_prediction_takes_the_best_device_there_is(monkeypatch, cuda, mps, expected, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == (torch.device(expected), reason)


def test_an_apple_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device mps: torch finds no Apple GPU here; give auto or cpu"):
        choose_device("mps")


def test_training_says_why_it_leaves_an_apple_gpu_alone(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    config = RunConfig.model_validate({"run": "r", "data": {"train": "x"}, "train": {"steps": 1}})
    machine = open_machine(config)
    machine.close()
    assert machine.device.type == "cpu"
    assert "device: cpu (an Apple GPU has no float64" in "\n".join(map(str, machine.choices))


class NoFloat64(TorchDispatchMode):
    """Refuses what an Apple GPU cannot hold."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            assert not (isinstance(value, torch.Tensor) and value.dtype == torch.float64), function
        return result


@pytest.mark.parametrize("name", ["redweb", "sgr", "midas"])
def test_a_prediction_needs_no_number_that_an_apple_gpu_lacks(name):
    net = DepthNet.from_config(
        ModelConfig(name=name, encoder="resnet18" if name != "sgr" else "resnet50", encoder_width=8, decoder_channels=8)
    )
    net.size_hw = (64, 64)
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    with NoFloat64():
        assert Predictor(net, "cpu", inference=Inference(flip=True))(image).shape == (50, 70)
