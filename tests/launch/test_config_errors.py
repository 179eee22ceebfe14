from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, field_validator, model_validator

from launch.config import resolve
from launch.recipe import Recipe, load_recipe
from model.config import Section
from pipeline.train.config import RunConfig, TrainConfig
from shards.config import PackConfig
from shards.errors import ConfigError
from shards.sources.config import SyntheticSourceConfig


class Circle(Section):
    kind: Literal["circle"]
    radius: float = Field(gt=0)


class Box(Section):
    kind: Literal["box"]
    sides: tuple[int, int] = (1, 1)
    corners: Literal["sharp", "round"] = "sharp"


class Inner(Section):
    share: float = Field(0.5, ge=0, le=1)
    count: int = Field(4, ge=2, multiple_of=2)
    word: str = "w"
    switch: bool = False
    names: tuple[str, ...] = ()
    points: tuple[tuple[int, int], ...] = ()
    limit: int | None = Field(None, ge=1)
    ranks: tuple[Annotated[int, Field(ge=1)], ...] = ()

    @field_validator("word")
    @classmethod
    def _short(cls, word: str) -> str:
        if len(word) > 5:
            raise ValueError(f"{word!r} is longer than 5 letters")
        return word


class Outer(Section):
    exclusive: ClassVar[tuple[str, str]] = ("metres", "feet")
    metres: float | None = None
    feet: float | None = None
    name: str
    inner: Inner = Inner()

    @model_validator(mode="after")
    def _one_length(self) -> "Outer":
        if (self.metres is None) == (self.feet is None):
            raise ValueError("never shown: the front end says more")
        if self.name == "nobody":
            raise ValueError("nobody has no length")
        return self


class Toy(Section):
    title: str | None = None
    shape: Annotated[Circle | Box, Field(discriminator="kind")] | None = None
    inner: Inner = Inner()
    outer: Outer | None = None


class ToyCommand(Section):
    title: str
    shape: Annotated[Circle | Box, Field(discriminator="kind")]
    outer: Outer
    inner: Inner = Inner()


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def mistakes(text: str, *overrides: str, needs: type[Section] | None = None, schema: type[Section] = Toy) -> list[str]:
    """Lines of the error that a file causes; none where it is right."""
    Path("c.yaml").write_text(text)
    try:
        resolve(schema, "c.yaml", overrides, needs=needs)
    except ConfigError as error:
        lines = str(error).split("\n")
        if len(lines) == 1:
            return lines
        assert lines[0] == f"{len(lines) - 1} mistakes in the settings"
        assert all(line.startswith("  ") for line in lines[1:])
        return [line[2:] for line in lines[1:]]
    return []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inner: {share: 1.5}", "inner.share: must be ≥ 0, ≤ 1, got 1.5"),
        ("inner: {share: -1}", "inner.share: must be ≥ 0, ≤ 1, got -1"),
        ("shape: {kind: circle, radius: 0}", "shape.radius: must be > 0, got 0"),
        ("inner: {count: 3}", "inner.count: must be ≥ 2, a multiple of 2, got 3"),
        ("inner: {limit: 0}", "inner.limit: must be ≥ 1, got 0"),
        ("inner: {ranks: [1, 0]}", "inner.ranks[1]: must be greater than or equal to 1, got 0"),
        ("inner: {share: .nan}", "inner.share: must be a finite number, got nan"),
        ("inner: {share: 1e999}", "inner.share: must be a finite number, got inf"),
        ("inner: {points: [[1, .inf]]}", "inner.points[0][1]: must be a finite number, got inf"),
        ("inner: {share: big}", "inner.share: needs a number, got 'big'"),
        ("inner: {share: true}", "inner.share: needs a number, got true"),
        ("inner: {count: four}", "inner.count: needs a whole number, got 'four'"),
        ("inner: {count: 4.0}", "inner.count: needs a whole number, got 4.0 (write 4)"),
        ("inner: {count: 4.5}", "inner.count: needs a whole number, got 4.5"),
        ("inner: {count: 1_000}", "inner.count: needs a whole number, got '1_000' (write 1000, without quotes or '_')"),
        ("inner: {count: null}", "inner.count: needs a whole number, got null"),
        ("inner: {count: [4]}", "inner.count: needs a whole number, got [4]"),
        ("inner: {switch: on}", "inner.switch: needs true or false, got 'on' (write true)"),
        ("inner: {switch: No}", "inner.switch: needs true or false, got 'No' (write false)"),
        ("inner: {switch: 1}", "inner.switch: needs true or false, got 1"),
        ("inner: {word: 12}", 'inner.word: needs a text, got 12 (to mean the text, write "12")'),
        ("inner: {word: true}", 'inner.word: needs a text, got true (to mean the text, write "true")'),
        ("inner: {word: abcdef}", "inner.word: 'abcdef' is longer than 5 letters"),
        ("inner: {names: a}", "inner.names: needs a list of texts, got 'a' (write [a, b])"),
        ("inner: {names: [a, 2]}", 'inner.names[1]: needs a text, got 2 (to mean the text, write "2")'),
        ("inner: {points: [[1, 2], [3]]}", "inner.points[1]: needs a list of 2 whole numbers, got [3]"),
        ("inner: {points: [[1, 2], 3]}", "inner.points[1]: needs a list of 2 whole numbers, got 3 (write [a, b])"),
        ("shape: {kind: box, sides: [1, 2, 3]}", "shape.sides: needs a list of 2 whole numbers, got [1, 2, 3]"),
        ("shape: {kind: box, sides: [1]}", "shape.sides: needs a list of 2 whole numbers, got [1]"),
        (
            "shape: {kind: box, sides: {a: 1}}",
            "shape.sides: needs a list of 2 whole numbers, got {a: 1} (write [a, b])",
        ),
        ("shape: {kind: box, sides: [1, x]}", "shape.sides[1]: needs a whole number, got 'x'"),
        (
            "shape: {kind: box, corners: rond}",
            "shape.corners: 'rond' is not one of sharp, round (did you mean 'round'?)",
        ),
        (
            "shape: {kind: box, corners: 4}",
            "shape.corners: needs one of the texts 'sharp', 'round', got 4 (to mean the text, write \"4\")",
        ),
        ("shape: {kind: bux}", "shape.kind: 'bux' is not one of circle, box (did you mean 'box'?)"),
        ("shape: {kind: 3}", "shape.kind: needs one of the texts 'circle', 'box', got 3"),
        ("shape: 5", "shape: is a section of settings, not 5"),
        (
            "inner: [1]",
            "inner: is a section of settings (share, count, word, switch, names, points, limit, ranks), not [1]",
        ),
        ("inner: {shar: 1}", "inner.shar: unknown key (did you mean 'inner.share'?)"),
        ("innner: {share: 1}", "innner: unknown key (did you mean 'inner'?)"),
        ("share: 1", "share: unknown key (did you mean 'inner.share'?)"),
        ("inner: {radius: 1}", "inner.radius: unknown key (did you mean 'shape.radius'?)"),
        ("inner.share: 1", "inner.share: unknown key; in a file, write 'share:' indented below 'inner:'"),
        ("qqqq: 1", "qqqq: unknown key; known here: title, shape, inner, outer"),
        ("shape: {kind: box, qqqq: 1}", "shape.qqqq: unknown key; known here: kind, sides, corners"),
        ("shape: {kind: box, radius: 1}", "shape.radius: unknown key; it belongs to shape.kind=circle"),
        (
            "outer: {name: a, metres: 1, feet: 3}",
            "outer.feet: contradicts outer.metres (c.yaml:1); give exactly one of them",
        ),
        ("outer: {name: nobody, metres: 1}", "outer: nobody has no length"),
        ("outer: {name: a, feet: 1, inner: {limit: x}}", "outer.inner.limit: needs a whole number, got 'x'"),
    ],
)
def test_one_mistake_is_one_line(text: str, message: str) -> None:
    assert mistakes(text + "\n") == [f"c.yaml:1: {message}"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("title=5", "title: needs a text, got 5 (to mean the text, write '\"5\"')"),
        ("inner.shar=1", "inner.shar: unknown key (did you mean 'inner.share'?)"),
        ("inner=5", "inner: is a section of settings (share, count, word, switch, names, points, limit, ranks), not 5"),
        ("shape.kind=null", "shape.kind: needs one of the texts 'circle', 'box', got null"),
        ("shape.kind=bux", "shape.kind: 'bux' is not one of circle, box (did you mean 'box'?)"),
    ],
)
def test_mistakes_on_the_command_line_say_so(override: str, message: str) -> None:
    assert mistakes("shape: {kind: box}\n", override) == [f"command line: {message}"]


def test_all_mistakes_at_once_by_line_and_the_command_line_last() -> None:
    text = """\
title: 7
inner:
  share: 2
  share: 0.5
  word: &w abc
  cuont: 4
shape:
  kind: box
  sides: [1, 2, 3]
outer:
  feet: 1
  metres: 2
"""
    assert mistakes(text, "inner.limit=x", "oops", needs=ToyCommand) == [
        'c.yaml:1: title: needs a text, got 7 (to mean the text, write "7")',
        "c.yaml:3: inner.share: must be ≥ 0, ≤ 1, got 2",
        "c.yaml:4: inner.share: given twice, first on line 3",
        "c.yaml:5: inner.word: anchors (&name) are not supported; quote a text that starts with '&'",
        "c.yaml:6: inner.cuont: unknown key (did you mean 'inner.count'?)",
        "c.yaml:9: shape.sides: needs a list of 2 whole numbers, got [1, 2, 3]",
        "c.yaml:10: outer.name: missing; set it in the file or give outer.name=VALUE",
        "c.yaml:11: outer.feet: contradicts outer.metres (c.yaml:12); give exactly one of them",
        "command line: 'oops' is not a setting; write key=value",
        "command line: inner.limit: needs a whole number, got 'x'",
    ]


def test_what_a_command_needs_is_named_completely_and_only_for_it() -> None:
    assert mistakes("", needs=ToyCommand) == [
        "c.yaml: title: missing; set it in the file or give title=VALUE",
        "c.yaml: shape.kind: missing, one of circle, box; set it in the file or give shape.kind=VALUE",
        "c.yaml: outer.name: missing; set it in the file or give outer.name=VALUE",
        "c.yaml: outer.metres: missing; give exactly one of outer.metres and outer.feet",
    ]
    incomplete = "title: t\nshape:\n  kind: circle\nouter:\n  inner: {share: 1}\n"
    assert mistakes(incomplete, needs=ToyCommand) == [
        "c.yaml:2: shape.radius: missing; set it in the file or give shape.radius=VALUE",
        "c.yaml:4: outer.metres: missing; give exactly one of outer.metres and outer.feet",
        "c.yaml:4: outer.name: missing; set it in the file or give outer.name=VALUE",
    ]
    assert mistakes(incomplete) == []
    assert mistakes(incomplete, "shape.radius=1", "outer.name=n", "outer.feet=3", needs=ToyCommand) == []


def test_very_many_mistakes_are_cut() -> None:
    lines = mistakes_of_many(200)
    assert lines[0] == "200 mistakes in the settings"
    assert len(lines) == 52
    assert lines[-1] == "  … and 150 more"


def mistakes_of_many(number: int) -> list[str]:
    Path("c.yaml").write_text("".join(f"k{index}: 1\n" for index in range(number)))
    with pytest.raises(ConfigError) as caught:
        resolve(Toy, "c.yaml")
    return str(caught.value).split("\n")


def test_the_texts_are_free_of_pydantic() -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(None, ["optim.lr=-1", "train.steps=1", "train.size=[33, 32]", "source.kind=x", "loss.nam=y"])
    text = str(caught.value).lower()
    assert len(text.split("\n")) == 5
    for word in ("pydantic", "http", "value error", "input", "instance", "validation"):
        assert word not in text


def test_the_project_recipe_in_one_golden_text() -> None:
    Path("c.yaml").write_text(
        "optim:\n  lr: 0\n  schedule: cosin\ntrain:\n  steps: 100\n  size: 100\ndata:\n  val: x\n"
        "session:\n  stop_file: a/b\nsource:\n  kind: fodler\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe("c.yaml", ["train.stepz=3"], needs=RunConfig)
    assert (
        str(caught.value)
        == """\
8 mistakes in the settings
  c.yaml:2: optim.lr: must be > 0, got 0
  c.yaml:3: optim.schedule: 'cosin' is not one of constant, step, poly, cosine (did you mean 'cosine'?)
  c.yaml:6: train.size: [100, 100]: both sides must be positive multiples of 32
  c.yaml:7: data.train: missing; set it in the file or give data.train=VALUE
  c.yaml:10: session.stop_file: 'a/b' must be a plain file name
  c.yaml:12: source.kind: 'fodler' is not one of folder, combined, redweb, hrwsi, diw, nyu_ordinal, nyu_rgbd, \
da2k, truth, synthetic (did you mean 'folder'?)
  c.yaml: run: missing; set it in the file or give run=VALUE
  command line: train.stepz: unknown key (did you mean 'train.steps'?)"""
    )


def test_one_number_for_two_sides_is_refused_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(None, ["train.size=true", "train.steps=1"])
    assert str(caught.value) == "command line: train.size: needs a list of 2 whole numbers, got true"


def test_run_and_pack_configs_name_everything_that_is_missing() -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe().run_config()
    assert str(caught.value) == "missing: run, data.train, train.steps; set them in the config file or give KEY=VALUE"
    with pytest.raises(ConfigError) as caught:
        Recipe().pack_config()
    assert str(caught.value) == "missing: out, source.kind; set them in the config file or give KEY=VALUE"


def test_a_command_takes_its_part_of_the_recipe() -> None:
    given = [
        "out=o",
        "source.kind=synthetic",
        "shards.workers=3",
        "run=r",
        "data.train=o",
        "train.steps=2",
        "optim.lr=1",
    ]
    recipe = load_recipe(None, given).recipe
    pack = recipe.pack_config()
    assert isinstance(pack, PackConfig)
    assert (pack.out, pack.source, pack.shards.workers) == ("o", SyntheticSourceConfig(kind="synthetic"), 3)
    run = recipe.run_config()
    assert isinstance(run, RunConfig)
    assert (run.run, run.train, run.optim.lr) == ("r", TrainConfig(steps=2), 1.0)


def test_an_empty_section_means_its_defaults() -> None:
    Path("c.yaml").write_text("optim:\nshards:\n  match:\nsource:\ntrain:\n")
    assert load_recipe("c.yaml").recipe == Recipe()


def test_every_section_of_the_commands_is_in_the_recipe() -> None:
    for command in (RunConfig, PackConfig):
        for name, field in command.model_fields.items():
            assert name in Recipe.model_fields
            if not field.is_required():
                assert Recipe.model_fields[name].default == field.default


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["train.size=32", "train.micro_batch_size=1"], "train.size: at 32 x 32"),
        (["optim.fused=true", "train.precision=fp16"], "optim.fused: with train.precision fp16"),
    ],
)
def test_a_rule_between_sections_is_a_mistake_like_any_other(overrides: list[str], told: str) -> None:
    given = ["run=r", "data.train=d", "train.steps=1", *overrides]
    with pytest.raises(ConfigError, match=f"^{told}"):
        load_recipe(None, given, needs=RunConfig).recipe.run_config()
