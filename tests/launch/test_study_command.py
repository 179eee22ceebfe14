import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch import shards, study
from launch.cli import run_command
from pipeline.study.plan import plan
from pipeline.train.status import read_status
from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene as unseen_scene

RECIPE = """
run: unused
out: unused
source: {kind: synthetic, train: 12, val: 6, height_px: 48, width_px: 64}
shards: {workers: 1, shard_bytes: 100000, match: {align: false}, pairs: {num_pairs: 60}}
data: {train: unused, val: unused, num_pairs: 50, num_workers: 0}
model: {encoder: resnet18, encoder_width: 8, decoder_channels: 8}
optim: {lr: 1e-3, encoder_lr_ratio: 1.0}
train: {steps: 3, batch_size: 2, size: 32, threads: 1}
checkpoint: {every_steps: 2}
monitor: {tensorboard: false, num_images: 0}
"""


def arguments(root: Path, *more: str) -> list[str]:
    (root / "recipe.yaml").write_text(RECIPE)
    page = ["--page", f"{root}/docs/study.md", "--truth", f"{root}/truth"]
    return ["--config", f"{root}/recipe.yaml", "--out", f"{root}/study", *page, *more]


def write_truth(root: Path) -> None:
    index = []
    for number in range(4):
        scene = unseen_scene(SyntheticSourceConfig(kind="synthetic", height_px=48, width_px=64), number)
        folder = root / "truth" / f"rooms{number % 2}" / str(number)
        folder.mkdir(parents=True)
        Image.fromarray(scene.left).save(folder / "left.png")
        Image.fromarray(np.rint(scene.disparity_px * 256).astype(np.uint16)).save(folder / "disparity.png")
        index.append({"scene": f"rooms{number % 2}/{number}", "kind": "stereo", "divisor": 256})
    (root / "truth" / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "losses,sise"], "--only sise: no such experiment (did you mean 'size'?)"),
        (["--max-hours", "0"], "--max-hours must be positive"),
        (["train.stepz=3"], "did you mean 'train.steps'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_mistake_is_one_message(tmp_path, capsys, words, message):
    assert run_command(study.main, [*arguments(tmp_path), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and "Traceback" not in said


def test_pictures_that_are_not_there_are_named_with_the_option_that_names_others(tmp_path, capsys):
    words = ["--out", f"{tmp_path}/study", "--pictures", f"{tmp_path}/pictures", "--truth", "none"]
    assert run_command(study.main, words) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/pictures" in said and "--pictures PATH" in said


def test_the_plan_trains_nothing_and_without_results_there_is_no_page(tmp_path, capsys):
    assert run_command(study.main, arguments(tmp_path, "--only", "losses", "--plan")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert lines[0].split() == ["new", "mae_s0", "on", "cleaned", "loss.name=mae", "train.seed=0"]
    assert run_command(study.main, arguments(tmp_path, "--page-only")) == 0
    assert "no run is judged yet" in capsys.readouterr().out
    assert not (tmp_path / "study").exists() and not (tmp_path / "docs").exists()


def test_shards_that_other_settings_made_are_not_trained_on(tmp_path, capsys):
    words = arguments(tmp_path, "--only", "size", "--max-hours", "1e-9", "source.train=2", "source.val=2")
    pack = ["--config", f"{tmp_path}/recipe.yaml", f"out={tmp_path}/study/shards/cleaned", "source.train=2"]
    assert run_command(shards.main, [*pack, "source.val=2", "shards.pairs.num_pairs=61"]) == 0
    capsys.readouterr()
    assert run_command(study.main, words) == 2
    said = capsys.readouterr().err
    assert "study/shards/cleaned was packed with other settings (shards.pairs.num_pairs)" in said
    assert "--out FOLDER" in said


def test_results_of_other_shards_are_not_mixed_with_new_ones(tmp_path, capsys):
    write_truth(tmp_path)
    words = arguments(tmp_path, "--only", "size", "source.val=2", "train.steps=2")
    assert run_command(study.main, [*words, "source.train=4"]) == 0
    without_source = [line for line in RECIPE.splitlines() if not line.startswith("source")]
    (tmp_path / "recipe.yaml").write_text("\n".join(without_source))
    words_without = [word for word in words if not word.startswith("source")]
    assert run_command(study.main, words_without) == 0  # who only trains on complete shards need not say of what
    arguments(tmp_path)
    shutil.rmtree(tmp_path / "study" / "shards")
    assert run_command(study.main, [*words, "source.train=5"]) == 2
    assert "these results are of other shards" in capsys.readouterr().err


def test_a_study_with_a_run_that_diverges_ends_with_exit_code_1(tmp_path, capsys):
    write_truth(tmp_path)
    words = arguments(tmp_path, "--only", "rate", "source.train=4", "source.val=2", "optim.lr=1e30")
    assert run_command(study.main, words) == 1
    assert "loss or gradients were not finite" in capsys.readouterr().out


@pytest.mark.slow
def test_a_small_study_from_pictures_to_page_stopped_and_killed_on_the_way(tmp_path, capsys):
    write_truth(tmp_path)
    words = arguments(tmp_path, "--only", "size")
    runs = plan("cpu", ["size"], lr=1e-3)

    assert run_command(study.main, [*words, "--max-hours", "1e-9"]) == 0  # no time for anything
    said = capsys.readouterr().out
    assert "6 runs are left" in said and "budget" in said

    killed = subprocess.Popen([sys.executable, "-m", "launch.study", *words], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    results = tmp_path / "study" / "cpu" / "results"
    while not (results / "half_s0.json").exists():
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    first = (results / "quarter_s0.json").read_bytes()
    assert not (tmp_path / "docs" / "study.md").exists()

    assert run_command(study.main, words) == 0
    assert "the study is complete" in capsys.readouterr().out
    assert (results / "quarter_s0.json").read_bytes() == first
    for run in runs:
        status = read_status(tmp_path / "study" / "cpu" / run.name)
        assert status.state == "finished" and status.step == 3
    page = (tmp_path / "docs" / "study.md").read_text()
    assert "Nothing: every planned run is trained and judged." in page
    assert page.count("![") == 1 and str(tmp_path) not in page
    assert (tmp_path / "docs" / "images" / "study_size.svg").read_text().startswith("<?xml")
    samples = {
        name: json.loads((results / f"{name}_s0.json").read_text())["train_samples"]
        for name in ("quarter", "half", "improved_ranking")
    }
    assert samples == {"quarter": 3, "half": 6, "improved_ranking": 12}

    shutil.rmtree(tmp_path / "docs")
    assert run_command(study.main, [*words, "--page-only"]) == 0
    assert (tmp_path / "docs" / "study.md").read_text() == page
