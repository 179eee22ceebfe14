"""`data.train` as a list: read, overridden, printed, refused, and stored without credentials."""

from pathlib import Path

import pytest

from launch.recipe import load_recipe
from launch.train import _without_credentials
from pipeline.data.config import DataConfig, DatasetConfig
from pipeline.train.config import RunConfig, TrainConfig
from pipeline.train.provenance import settings_to_keep
from shards.errors import ConfigError

FILE = """\
run: r
data:
  train:
    - url: s3://bucket/a?token=1
      weight: 2
    - {url: b}
train: {steps: 1}
"""
GIVEN = ["run=r", "train.steps=1"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def line_of(text: str, key: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"  {key}: "))


def test_a_list_is_read_printed_and_read_again() -> None:
    Path("c.yaml").write_text(FILE)
    loaded = load_recipe("c.yaml")
    data = loaded.recipe.run_config().data
    assert data.datasets == (DatasetConfig(url="s3://bucket/a?token=1", weight=2), DatasetConfig(url="b", weight=1))
    wanted = '[{url: "s3://bucket/a?token=1", weight: 2.0}, {url: b, weight: 1.0}]'
    assert line_of(loaded.text, "train").split("  # ")[0].rstrip() == f"  train: {wanted}"
    Path("again.yaml").write_text(loaded.text)
    assert load_recipe("again.yaml").recipe == loaded.recipe


def test_an_override_replaces_the_whole_value() -> None:
    Path("c.yaml").write_text(FILE)
    listed = load_recipe("c.yaml", ["data.train=[{url: x, weight: 0.5}, {url: y, weight: 3}]"])
    assert listed.recipe.run_config().data.datasets == (
        DatasetConfig(url="x", weight=0.5),
        DatasetConfig(url="y", weight=3),
    )
    assert line_of(listed.text, "train").endswith("# command line")
    assert load_recipe("c.yaml", ["data.train=x"]).recipe.run_config().data.datasets == (DatasetConfig(url="x"),)


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ("[{url: a, weight: 0}]", ["data.train[0].weight: must be > 0, got 0"]),
        ("[{url: a}, {url: b, weight: x}]", ["data.train[1].weight: needs a number, got 'x'"]),
        ("[{url: a, weight: .inf}]", ["data.train[0].weight: must be a finite number, got inf"]),
        (
            "[{urll: a, weight: 2}]",
            ["data.train[0].url: missing", "data.train[0].urll: unknown key; known here: url, weight"],
        ),
        ("[a]", ["data.train[0]: is a section of settings (url, weight), not 'a'"]),
        ("[]", ["data.train: needs a dataset of shards: a folder or URL, or a list of {url, weight}"]),
        ("3", ["data.train: needs a text, got 3 (to mean the text, write '\"3\"')"]),
    ],
)
def test_mistakes_name_the_item(value: str, messages: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(None, [*GIVEN, f"data.train={value}"], needs=RunConfig)
    assert [line.strip().removeprefix("command line: ") for line in str(caught.value).splitlines()][
        -len(messages) :
    ] == (messages)
    assert len(str(caught.value).splitlines()) == len(messages) + (len(messages) > 1)


def test_an_item_cannot_be_overridden_alone() -> None:
    with pytest.raises(ConfigError, match=r"'data\.train' has a value and holds no settings"):
        load_recipe(None, [*GIVEN, "data.train=[{url: a}]", "data.train.weight=3"])


def test_no_credentials_of_a_list_are_stored() -> None:
    urls = ["s3://user:secret@host/a?token=secret", "b"]
    data = DataConfig(train=tuple(DatasetConfig(url=url) for url in urls))
    kept = settings_to_keep(RunConfig(run="r", data=data, train=TrainConfig(steps=1)))
    assert kept["data"]["train"] == [{"url": "s3://host/a", "weight": 1.0}, {"url": "b", "weight": 1.0}]
    command = _without_credentials(f"data.train=[{{url: '{urls[0]}', weight: 2}}, {{url: b}}]")
    assert command == "data.train=[{url: s3://host/a, weight: 2}, {url: b}]"
    assert _without_credentials(f"data.train={urls[0]}") == "data.train=s3://host/a"
    assert _without_credentials("train.size=[96, 128]") == "train.size=[96, 128]"
