"""The README, walked from top to bottom: each of its commands is run, in a copy of the project with made pictures.

What a reader brings (PICTURES, TRUTH, photo.jpg …) is rendered; networks and runs are made small by settings that are
added behind the command. Only what needs another machine is not run, and named here.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene as unseen_scene

from .command_lines import commands
from .markdown import ROOT, blocks

README = ROOT / "README.md"
NOT_RUN = {"git", "cd", "sbatch", "make setup"}
COPIED = ("model", "shards", "pipeline", "launch", "configs", "Makefile", "pyproject.toml")
SMALL_DATA = ["shards.workers=1", "shards.val_share=0.4", "source.eyes=as_given", "shards.pairs.num_pairs=50"]
SMALL_SCENES = ["shards.workers=1", "source.train=4", "source.val=2", "source.height_px=96", "source.width_px=128"]
SMALL_RUN = [
    "train.steps=2",
    "train.size=64",
    "train.batch_size=2",
    "train.threads=1",
    "train.precision=fp32",
    "data.num_workers=0",
    "data.num_pairs=50",
    "model.encoder=resnet18",
    "model.encoder_weights=none",
    "model.decoder_channels=16",
    "optim.warmup_steps=0",
]
SMALL_DEMO = ["source.train=8", "source.val=2", "train.steps=2", "checkpoint.every_steps=2", "optim.warmup_steps=0"]
SMALLER = {
    "launch.shards configs/scenes.yaml": SMALL_SCENES,
    "launch.shards configs/webstereo.yaml": SMALL_DATA,
    "launch.train": SMALL_RUN,
    "launch.quickstart": [*SMALL_DEMO, "shards.workers=1", "train.batch_size=2", "data.num_pairs=50"],
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project beside what the README's reader is told to bring."""
    root = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    config = SyntheticSourceConfig(kind="synthetic", height_px=288, width_px=384)
    truth = []
    for number in range(6):
        scene = unseen_scene(config, number)
        for name, picture in (("L", scene.left), ("R", scene.right)):
            save(root / "PICTURES" / f"view{number}_{name}.jpg", picture)
        if number < 2:
            save(root / f"TRUTH/rooms/{number}/left.png", scene.left)
            save(root / f"TRUTH/rooms/{number}/disparity.png", np.round(scene.disparity_px * 64).astype(np.uint16))
            save(root / f"album/{number}.jpg", scene.left)
            truth.append({"scene": f"rooms/{number}", "kind": "stereo", "divisor": 64})
    save(root / "photo.jpg", scene.left)
    (root / "TRUTH" / "index.json").write_text(json.dumps(truth))
    return root


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=95)


def run(root: Path, argv: list[str]) -> str:
    """Run a command of the README in the copy, made small, with this environment's programs."""
    here = Path(sys.executable).parent
    argv = [placed(word, root) for word in argv]
    module = next((argv[at + 1] for at, word in enumerate(argv[:-1]) if word == "-m"), "")
    recipe = next((argv[at + 1] for at, word in enumerate(argv[:-1]) if word == "--config"), "")
    done = subprocess.run(
        [*argv, *SMALLER.get(module, SMALLER.get(f"{module} {recipe}", []))],
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": str(root),
            "PATH": f"{here}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",  # two processes need two GPUs, or none
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"$ {' '.join(argv)}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def placed(word: str, root: Path) -> str:
    """A word of a command with the places of other machines moved into the copy."""
    word = word.replace("/kaggle/input/web-shards", f"{root}/runs/web-shards").replace("/kaggle/", f"{root}/kaggle/")
    return word.removeprefix(".venv/bin/")


def expanded(words: list[str], root: Path) -> list[list[str]]:
    """The commands of ours behind `make TARGET`, without those that install."""
    if words[0] != "make":
        return [words]
    asked = subprocess.run(["make", "-n", *words[1:]], cwd=root, capture_output=True, text=True, check=True)
    found = [inner for _, inner in commands(asked.stdout) if "-m" in inner]
    return [inner for inner in found if inner[inner.index("-m") + 1].startswith("launch.")]


@pytest.mark.slow
def test_every_command_of_the_readme_works(checkout: Path) -> None:
    not_run = set()
    for block in blocks(README):
        if block.language == "sh":
            for _, words in commands(block.text):
                start = next((start for start in NOT_RUN if " ".join(words).startswith(start)), None)
                if start is not None:
                    not_run.add(start)
                    continue
                for command in expanded(words, checkout):
                    run(checkout, command)
        elif "walk" in block.marks:
            run(checkout, ["python", "-c", block.text])
    assert not_run == NOT_RUN
    for made in (
        "runs/demo/report.png",
        "runs/demo/results.json",
        "runs/web-shards/contact_sheet.jpg",
        "review-web-shards/index.html",
        "runs/webstereo/model.safetensors",
        "runs/webstereo/evaluation/results.json",
        "runs/webstereo/report.html",
        "depth/photo.colour.png",
        "depth/0.inverse_depth.png",
        "webstereo-hub/model.onnx",
        "kaggle/working/webstereo/model.safetensors",
    ):
        assert (checkout / made).is_file(), made
