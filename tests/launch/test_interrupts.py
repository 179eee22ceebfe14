"""Ctrl-C, as a terminal sends it to the whole group of processes: no traceback, code 130, nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch import shards, train
from launch.cli import run_command

ROOT = Path(__file__).parents[2]
RECIPE = """
out: {root}/shards
run: {root}/run
source: {{kind: synthetic, train: 12, val: 4, height_px: 64, width_px: 96}}
shards: {{workers: 2, match: {{align: false}}, pairs: {{num_pairs: 50}}}}
data: {{train: "{root}/shards", val: "{root}/shards", num_pairs: 50, num_workers: 0}}
model: {{encoder: resnet18, encoder_width: 8, decoder_channels: 8}}
train: {{steps: 2, batch_size: 2, size: 32, threads: 1}}
monitor: {{tensorboard: false}}
"""
PATIENCE_S = 300
CODES = {130, -signal.SIGINT}  # a shell shows 130 for both

Begun = Callable[[Path], bool]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, its shards, its finished run and an album of many pictures."""
    root = tmp_path_factory.mktemp("interrupts")
    (root / "recipe.yaml").write_text(RECIPE.format(root=root))
    assert run_command(shards.main, ["--config", f"{root}/recipe.yaml", "shards.workers=1"]) == 0
    assert run_command(train.main, ["--config", f"{root}/recipe.yaml"]) == 0
    (root / "album").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "album" / "0000.jpg")
    for number in range(1, 500):
        os.link(root / "album" / "0000.jpg", root / "album" / f"{number:04}.jpg")
    return root


def interrupted(argv: list[str], said: Path, begun: Callable[[], bool]) -> tuple[int, str]:
    """Code and words of a command that gets Ctrl-C once it has begun; nobody of its group may be left."""
    with said.open("w") as words:
        process = subprocess.Popen(
            [sys.executable, "-m", *argv],
            cwd=ROOT,
            stdout=words,
            stderr=words,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    deadline = time.monotonic() + PATIENCE_S
    try:
        while not begun():
            assert process.poll() is None, f"ended by itself with {process.returncode}: {said.read_text()}"
            assert time.monotonic() < deadline, f"has not begun: {said.read_text()}"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        while group_lives(process.pid):
            assert time.monotonic() < deadline, "some of its processes are left"
            time.sleep(0.1)
    finally:
        if group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return code, said.read_text()


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def lines_in(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


WORKING: dict[str, tuple[list[str], Callable[[Path, Path], bool]]] = {
    "shards": (
        ["launch.shards", "--config", "{root}/recipe.yaml", "out={tmp}/out", "source.train=3000"],
        lambda root, tmp: lines_in(tmp / "out" / ".packing.jsonl") > 1,
    ),
    "shards at once": (
        ["launch.shards", "--config", "{root}/recipe.yaml", "out={tmp}/out", "source.train=3000"],
        lambda root, tmp: (tmp / "out").exists(),
    ),
    "predict": (
        ["launch.predict", "--checkpoint", "{root}/run", "{root}/album", "--out", "{tmp}/depth"],
        lambda root, tmp: any((tmp / "depth").rglob("*.png")),
    ),
    "evaluate": (
        ["launch.evaluate", "--checkpoint", "{root}/run", "--data", "synthetic=5000", "--out", "{tmp}/out"],
        lambda root, tmp: " methods ..." in (tmp / "said").read_text(),
    ),
    "report": (
        ["launch.report", "{root}/run", "--out", "{tmp}/page.html", "--device", "cpu"],
        lambda root, tmp: ", on cpu" in (tmp / "said").read_text(),
    ),
    "export": (
        ["launch.export", "--checkpoint", "{root}/run", "--out", "{tmp}/out", "--onnx"],
        lambda root, tmp: "exporting to ONNX" in (tmp / "said").read_text(),
    ),
    "quickstart": (
        ["launch.quickstart", "--config", "{root}/recipe.yaml", "--out", "{tmp}/demo", "source.train=3000"],
        lambda root, tmp: lines_in(tmp / "demo" / "shards" / ".packing.jsonl") > 1,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKING)
def test_ctrl_c_at_work(name: str, root: Path, tmp_path: Path) -> None:
    argv, begun = WORKING[name]
    code, said = interrupted(
        [word.format(root=root, tmp=tmp_path) for word in argv], tmp_path / "said", lambda: begun(root, tmp_path)
    )
    assert code in CODES, said
    assert "Traceback" not in said
    assert "Error" not in said


STARTING = {
    "shards": ["--config", "{root}/recipe.yaml", "out={tmp}/out"],
    "train": ["--config", "{root}/recipe.yaml", "run={tmp}/run"],
    "evaluate": ["--data", "synthetic=100", "--out", "{tmp}/out"],
    "inspect": ["{root}/shards", "--verify"],
    "review": ["{root}/shards", "--out", "{tmp}/page"],
    "samples": ["--config", "{root}/recipe.yaml", "--out", "{tmp}/sheet.png"],
    "doctor": ["--offline"],
    "status": ["{root}/run"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTING)
def test_ctrl_c_while_a_command_imports_what_it_needs(name: str, root: Path, tmp_path: Path) -> None:
    argv = [f"launch.{name}", *(word.format(root=root, tmp=tmp_path) for word in STARTING[name])]
    start = time.monotonic()
    code, said = interrupted(argv, tmp_path / "said", lambda: time.monotonic() > start + 0.12)
    assert code in CODES, said
    assert "Traceback" not in said.partition("Fatal Python error: init_import_site")[0]  # before our first line
