"""Every recipe in configs/ says what it is for, is read without a mistake, and trains a step on tiny data of its kind.

The data is made here in the layout that the recipe expects; a recipe of a kind of source that is new needs a maker.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from launch import shards, train
from launch.cli import run_command
from launch.recipe import Recipe, load_recipe
from model import DepthNet
from pipeline.train.config import RunConfig
from shards.config import PackConfig
from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene as unseen_scene

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "configs").rglob("*.yaml"))
NAMES = [path.stem for path in RECIPES]


def trains(recipe: Recipe) -> bool:
    """Whether it is for training; others are for packing alone."""
    return recipe.data is not None or recipe.run is not None


def head_of(path: Path) -> list[str]:
    """The comment at the top of a recipe, without its signs."""
    lines = path.read_text().splitlines()
    return [line.removeprefix("#").strip() for line in lines[: [line[:1] == "#" for line in lines].index(False)]]


def read(path: Path, *overrides: str) -> Recipe:
    return load_recipe(str(path), overrides).recipe


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture and disparity in px of a rendered scene of 96 x 128."""
    made = unseen_scene(SyntheticSourceConfig(kind="synthetic", height_px=96, width_px=128), number)
    return made.left, made.disparity_px


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, "JPEG" if path.suffix == ".thumb" else None, quality=92)


def make_folder(root: Path, recipe: Recipe) -> None:
    for number in range(6):
        made = unseen_scene(SyntheticSourceConfig(kind="synthetic", height_px=288, width_px=384), number)
        save(root / f"view{number}_L.jpg", made.left)
        save(root / f"view{number}_R.jpg", made.right)


def make_combined(root: Path, recipe: Recipe) -> None:
    for number in range(6):
        made = unseen_scene(SyntheticSourceConfig(kind="synthetic", height_px=288, width_px=384), number)
        save(root / f"view{number}_sbs.jpg", np.hstack([made.left, made.right]))


def make_redweb(root: Path, recipe: Recipe) -> None:
    for number in range(6):
        picture, disparity = scene(number)
        save(root / "Imgs" / f"{number}.jpg", picture)
        save(root / "RDs" / f"{number}.png", (255 - 255 * disparity / disparity.max()).astype(np.uint8))


def make_hrwsi(root: Path, recipe: Recipe) -> None:
    for number in range(6):
        picture, disparity = scene(number)
        below = root / ("val" if number > 3 else "train")
        save(below / "imgs" / f"{number}.jpg", picture)
        save(below / "gts" / f"{number}.png", (255 * disparity / disparity.max()).astype(np.uint8))
        save(below / "valid_masks" / f"{number}.png", np.full(disparity.shape, 255, np.uint8))


def make_diw(root: Path, recipe: Recipe) -> None:
    for split, numbers in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 7))):
        lines = []
        for number in numbers:
            name = f"./DIW_train_val/{number}.thumb"
            save(root / name, scene(number)[0])
            lines += [name, f"80,{10 + number},20,100,<,128,96"]
        (root / f"DIW_{split}.csv").write_text("\n".join(lines) + "\n")


MAKERS: dict[str, Callable[[Path, Recipe], None]] = {
    "folder": make_folder,
    "combined": make_combined,
    "redweb": make_redweb,
    "hrwsi": make_hrwsi,
    "diw": make_diw,
    "synthetic": lambda root, recipe: None,
}


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_the_head_says_what_to_expect_of_what_machine(path: Path) -> None:
    head = head_of(path)
    assert re.search(r"train|fine-tune", " ".join(head[:3]), re.IGNORECASE), "it begins with what it trains"
    for heading in ("Expected", "Hardware") if trains(read(path)) else ("What", "Hardware"):
        assert any(line.startswith(heading) for line in head), f"a line '# {heading}   ...' is missing"


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_it_is_read_without_a_mistake_by_the_commands_that_it_is_for(path: Path) -> None:
    recipe = read(path)
    assert trains(recipe) or recipe.source is not None
    if trains(recipe):
        assert load_recipe(str(path), needs=RunConfig).recipe.run_config().run
    if recipe.source is not None:
        assert load_recipe(str(path), needs=PackConfig).recipe.pack_config().out


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_what_it_packs_is_what_it_trains_on(path: Path) -> None:
    recipe = read(path)
    if recipe.source is not None and recipe.data is not None:
        assert recipe.out in {dataset.url for dataset in recipe.data.datasets}


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_it_packs_and_trains_a_step_on_tiny_data_of_its_kind(path: Path, tmp_path: Path, capsys) -> None:
    recipe = read(path)
    kind = recipe.source.kind if recipe.source is not None else "synthetic"
    MAKERS[kind](tmp_path / "raw", recipe)
    settings = [f"out={tmp_path}/shards", "shards.workers=1", "shards.val_share=0.4", "shards.near_duplicate_bits=0"]
    if kind == "synthetic":
        settings += ["source.kind=synthetic", "source.train=6", "source.val=2"]
    else:
        settings += [f"source.path={tmp_path}/raw"]
    if kind in {"folder", "combined"}:
        settings += ["source.eyes=as_given", "source.min_side_px=64"]
    assert run_command(shards.main, ["--config", str(path), *settings]) == 0
    assert " samples in " in capsys.readouterr().out
    if not trains(recipe):
        return

    small = [
        f"run={tmp_path}/run",
        f"data.train={tmp_path}/shards",
        f"data.val={tmp_path}/shards",
        "data.num_workers=0",
        "model.encoder_weights=none",
        "train.size=64",
        "train.threads=1",
        "train.batch_size=2",
        "train.micro_batch_size=null",
        "train.precision=fp32",
        "train.compile=false",
        "optim.warmup_steps=0",
    ]
    if recipe.checkpoint.init_from is not None:
        torch.manual_seed(0)
        net = DepthNet.from_config(recipe.model.model_copy(update={"encoder_weights": "none"}))
        net.save_pretrained(tmp_path / "before")
        small.append(f"checkpoint.init_from={tmp_path}/before")
    assert run_command(train.main, ["--config", str(path), *small, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("plan: ") or "\nplan: " in said
    assert re.search(r"loss of the step taken: \d+\.\d+", said)
    assert not (tmp_path / "run").exists()


def test_every_kind_of_source_of_the_recipes_has_a_maker() -> None:
    kinds = {recipe.source.kind for recipe in map(read, RECIPES) if recipe.source is not None}
    assert kinds <= set(MAKERS)
