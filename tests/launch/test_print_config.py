from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch.config.schema import keys, members
from launch.recipe import Recipe, load_recipe
from shards.errors import ConfigError

FILE = """\
source: {kind: folder, path: /raw}
train:
  epochs: 3
  size: 96
optim:
  lr: 1e-3
"""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def section(text: str, name: str) -> list[str]:
    """The lines of one section of a printed config, without their padding."""
    lines = [" ".join(line.split()) if line[0] != " " else "  " + " ".join(line.split()) for line in text.splitlines()]
    start = lines.index(f"{name}:")
    rest = lines[start + 1 :]
    end = next((index for index, line in enumerate(rest) if not line.startswith(" ")), len(rest))
    return rest[:end]


def test_each_leaf_says_where_it_came_from() -> None:
    Path("c.yaml").write_text(FILE)
    text = load_recipe("c.yaml", ["train.steps=7", "train.seed=3", "source.kind=synthetic", "run=runs/a"]).text
    assert section(text, "train") == [
        "  steps: 7 # command line; replaces train.epochs (c.yaml:3)",
        "  epochs: null # default",
        "  batch_size: 8 # default",
        "  micro_batch_size: null # default",
        "  size: [96, 96] # c.yaml:4",
        "  seed: 3 # command line",
        "  threads: 0 # default",
        "  precision: fp32 # default",
        "  reduction: mean # default",
        "  channels_last: false # default",
        "  deterministic: false # default",
        "  compile: false # default",
    ]
    assert section(text, "source")[0] == "  kind: synthetic # command line; drops source.path (c.yaml:1)"
    assert "  lr: 0.001 # c.yaml:6" in section(text, "optim")
    assert text.splitlines()[0].split() == ["run:", "runs/a", "#", "command", "line"]
    assert "# data: not given" in text.splitlines()


def test_sections_and_keys_are_in_the_order_of_the_schema() -> None:
    text = load_recipe(None, ["train.steps=1", "data.train=x", "source.kind=synthetic"]).text
    tops = [line.split(":")[0] for line in text.splitlines() if not line.startswith(" ")]
    assert tops == list(Recipe.model_fields)


def test_missing_keys_are_shown_and_stay_missing() -> None:
    given = ["data.val=v", "source.path=p", "train.seed=1"]
    text = load_recipe(None, given).text
    assert section(text, "data")[:2] == ["  # train: missing", "  val: v # command line"]
    assert section(text, "source") == ["  path: p # command line", "  # kind: missing"]
    assert section(text, "train")[:2] == ["  # steps: missing", "  epochs: null # default"]
    Path("again.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"missing: run, data\.train, train\.steps"):
        load_recipe("again.yaml").recipe.run_config()
    completed = load_recipe("again.yaml", ["run=r", "data.train=t", "train.steps=2"]).recipe.run_config()
    assert (completed.data.val, completed.train.seed) == ("v", 1)


def test_provenance_names_every_leaf() -> None:
    Path("c.yaml").write_text(FILE)
    provenance = load_recipe("c.yaml", ["train.seed=3"]).provenance
    assert provenance["train.seed"] == "command line"
    assert provenance["train.size"] == "c.yaml:4"
    assert provenance["train.batch_size"] == "default"
    assert provenance["source.path"] == "c.yaml:1"
    leaves = {key for key, field in keys(Recipe).items() if not members(field)}
    assert set(provenance) <= leaves
    assert {"shards.match.max_side_px", "monitor.tensorboard", "out"} <= set(provenance)


def test_what_is_printed_is_a_config_of_the_same_recipe() -> None:
    Path("c.yaml").write_text(FILE)
    for overrides in (
        [],
        ["train.steps=7", "data={train: s3://b/c, val: null, augment: {flip_probability: 0}}"],
        ["source.kind=synthetic", "source.seed=9", "checkpoint.search=[/kaggle/input/*/run, 'a, b', '1e-4', null-ish]"],
        ["optim.lr=1e-30", "optim.betas=[0, 0.5]", "optim.milestones=[]", "shards=null", "model.residual='rectified'"],
        [
            "run=' # '",
            "out='null'",
            'data.train="tab\\there, \\"quoted\\" \\\\ \\u2028 \\U0001F600"',
            "train.seed=0x10",
        ],
    ):
        loaded = load_recipe("c.yaml", overrides)
        Path("again.yaml").write_text(loaded.text)
        again = load_recipe("again.yaml")
        assert again.recipe == loaded.recipe
        assert {origin.partition(":")[0] for origin in again.provenance.values()} == {"again.yaml"}
        assert [line.split(" # ")[0].rstrip() for line in again.text.splitlines()] == [
            line.split(" # ")[0].rstrip() for line in loaded.text.splitlines()
        ]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.lists(st.text(st.sampled_from("ab,:#[]{}'\"\\ -*&!|>%@`1.e\n\t")), max_size=3).map(tuple),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_subnormal=True),
)
def test_any_value_survives_printing(run: str, search: tuple[str, ...], lr: float) -> None:
    from launch.config.report import write_value

    given_values = [f"run={write_value(run)}", f"checkpoint.search={write_value(search)}", f"optim.lr={lr!r}"]
    loaded = load_recipe(None, given_values)
    assert (loaded.recipe.run, loaded.recipe.checkpoint.search, loaded.recipe.optim.lr) == (run, search, lr)
    Path("again.yaml").write_text(loaded.text, encoding="utf-8")
    assert load_recipe("again.yaml").recipe == loaded.recipe
