from pathlib import Path

import pytest

from launch.config.overrides import parse_override
from launch.recipe import Loaded, load_recipe
from pipeline.train.config import TrainConfig
from shards.errors import ConfigError
from shards.sources.config import FolderSourceConfig, SyntheticSourceConfig

FILE = """\
run: runs/a
source:
  kind: folder
  path: /raw
  eyes: swapped
data:
  train: shards
  augment: {flip_probability: 0.25}
optim:
  lr: 1e-3
train:
  epochs: 3
session:
  max_hours: 8
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(FILE)

    def load(*overrides: str) -> Loaded:
        return load_recipe("c.yaml", overrides)

    return load


def refusal(load, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("optim.lr=3e-4", ("optim", "lr"), 3e-4),
        ("run=runs/b", ("run",), "runs/b"),
        ("train.size=[96, 128]", ("train", "size"), (96, 128)),
        ("a=null", ("a",), None),
        ('a="null"', ("a",), "null"),
        ("a=''", ("a",), ""),
        ("a=x=y", ("a",), "x=y"),
        ("a= b ", ("a",), "b"),
        ("a=on", ("a",), "on"),
        ("a='x #1'", ("a",), "x #1"),
        ("a=x#1", ("a",), "x#1"),
        ("a=3 # three", ("a",), 3),
        ("a=s3://b/c?d=e", ("a",), "s3://b/c?d=e"),
    ],
)
def test_values_are_read_as_in_a_file(text: str, path: tuple[str, ...], value: object) -> None:
    assert parse_override(text) == ([(path, value)], [])


def test_a_mapping_is_its_leaves() -> None:
    assert parse_override("a={b: 1, c: {d: [2]}}") == ([(("a", "b"), 1), (("a", "c", "d"), (2,))], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "command line: 'steps' is not a setting; write key=value"),
        ("=3", "command line: '=3' does not name a setting; write section.key=value"),
        ("optim..lr=3", "command line: 'optim..lr=3' does not name a setting; write section.key=value"),
        ("--optim.lr=3", "command line: '--optim.lr=3' is no option; settings have no dashes: optim.lr=3"),
        (
            "run=",
            "command line: run: no value given; write run=null for none, run='\"\"' for an empty text",
        ),
        ("run=a #b", "command line: run: YAML reads only 'a' of 'a #b'; quote the text"),
        ("run=[a", "command line: run: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        (
            "run=*a",
            "command line: run: aliases (*name) are not supported; write the value out, or quote a text with '*'",
        ),
        ("a={b: 1, b: 2}", "command line: a.b: given twice, first on line 1"),
        ("data.train.x=3", "command line: data.train.x: 'data.train' has a value and holds no settings"),
        ("run=\udcff", "command line: run: the character U+DCFF is not allowed in YAML"),
    ],
)
def test_refused_overrides(load, text: str, message: str) -> None:
    assert refusal(load, text) == message


def test_an_override_wins_over_the_file_and_the_last_over_the_first(load) -> None:
    recipe = load("optim.lr=1", "optim.lr=2e-4", "data.augment.flip_probability=1").recipe
    assert recipe.optim.lr == 2e-4
    assert recipe.data.augment.flip_probability == 1
    assert recipe.data.train == "shards"


def test_null_resets(load) -> None:
    loaded = load("session.max_hours=null", "optim=null")
    assert loaded.recipe.session.max_hours is None
    assert loaded.recipe.optim.lr == 1e-4
    assert loaded.provenance["session.max_hours"] == "command line"
    assert loaded.provenance["optim.lr"] == "default"


def test_an_override_of_an_exclusive_setting_replaces_the_other(load) -> None:
    loaded = load("train.steps=5")
    assert loaded.recipe.train == TrainConfig(steps=5)
    assert loaded.notes == ("command line: train.steps replaces train.epochs (c.yaml:12)",)
    assert load("train.epochs=null", "train.steps=5").recipe.train == TrainConfig(steps=5)
    assert load("train.steps=null").recipe.train == TrainConfig(epochs=3)


def test_exclusive_overrides_contradict_each_other(load) -> None:
    for first, second in (("steps", "epochs"), ("epochs", "steps")):
        message = refusal(load, f"train.{first}=5", f"train.{second}=2")
        assert message == (
            "command line: train.epochs: contradicts train.steps (command line); give exactly one of them"
        )


def test_another_source_drops_what_the_file_says_of_the_old_one(load) -> None:
    loaded = load("source.seed=7", "source.kind=synthetic")
    assert loaded.recipe.source == SyntheticSourceConfig(kind="synthetic", seed=7)
    assert loaded.notes == ("command line: source.kind drops source.path (c.yaml:4), source.eyes (c.yaml:5)",)


def test_the_same_source_keeps_what_the_file_says(load) -> None:
    loaded = load("source.kind=folder", "source.path=x")
    assert loaded.recipe.source == FolderSourceConfig(kind="folder", path="x", eyes="swapped")
    assert loaded.notes == ()


def test_overrides_alone_make_a_recipe() -> None:
    recipe = load_recipe(None, ["run=r", "data.train=d", "train.steps=1"]).recipe
    config = recipe.run_config()
    assert (config.run, config.data.train, config.train.steps) == ("r", "d", 1)
