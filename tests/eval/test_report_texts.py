"""What the report says in words: private things, settings, tables of evaluations."""

import pytest

from pipeline.eval.report.evaluation import tables_of
from pipeline.eval.report.privacy import public
from pipeline.eval.report.settings import settings_of
from pipeline.train.config import RunConfig


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/jane/runs/web", "…/web"),
        ("/home/Jane Doe/my runs/web", "…/web"),
        ("~jane/data", "…/data"),
        ("C:\\Users\\jane\\web", "…/web"),
        ("file:///home/jane/web", "…/web"),
        ("run=/home/jane/web data.train=/data/x/shards", "run=…/web data.train=…/shards"),
        ("python -m x 'run=/home/jane/my runs/web'", "python -m x 'run=…/web'"),
        ("/home/jane/a.json: damaged", "…/a.json: damaged"),
        ("s3://key:secret@host/web?token=abc", "s3://host/web"),
        ("runs/web", "runs/web"),
        ("../shared/data", "../shared/data"),
        ("3 / 4 of images/s and 1/2", "3 / 4 of images/s and 1/2"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
    ],
)
def test_paths_lose_their_folders_and_urls_their_secrets(text, shown):
    assert public(text) == shown


def test_text_is_bounded():
    assert len(public("x" * 10**6)) < 2100


def test_settings_that_differ_from_their_defaults_are_told_from_the_others():
    config = RunConfig.model_validate(
        {"run": "/home/jane/web", "data": {"train": "a"}, "train": {"steps": 9}, "optim": {"lr": 3e-4}}
    )
    settings = {setting.key: setting for setting in settings_of(config.model_dump(mode="json"))}
    assert {key for key, setting in settings.items() if setting.is_changed} == {
        "run",
        "data.train",
        "train.steps",
        "optim.lr",
    }
    assert (settings["optim.lr"].value, settings["optim.lr"].default) == ("0.0003", "0.0001")
    assert (settings["run"].value, settings["train.size"].value) == ("…/web", "[384, 384]")
    assert settings_of({"optim": {"unknown": 1}})[0].is_changed


def test_a_record_with_intervals_becomes_a_table_with_published_figures_and_differences():
    def figure(method, value, low, high, metric="whdr_x"):
        return {"method": method, "set": "nyu", "metric": metric, "value": value, "low": low, "high": high}

    figures = [figure("ours", 0.25, 0.2, 0.3), figure("lower is nearer", 0.5, None, None)]
    figures += [figure("ours", 0.1234, None, None, "abs_rel_aligned")]
    part = {
        "data": "gt=/home/jane/gt",
        "kind": "gt",
        "metrics": ["whdr_x", "abs_rel_aligned"],
        "pictures": {"nyu": 4},
        "figures": figures,
        "differences": [{**figure("ours", -0.25, -0.3, -0.2), "other": "lower is nearer", "verdict": "better"}],
        "published": [{"set": "nyu", "method": "FastDepth", "values": [17.8], "setting": "in-domain", "source": "S"}],
        "notes": ["a note"],
        "unjudged": ["x.png"],
    }
    first, *rest = tables_of({"benchmarks": [part], "whdr_percent": {"ours": {"nyu": 25.0}}, "seed": 0})
    assert first.title == "gt=…/gt"
    assert [(row.name, row.cells) for row in first.rows] == [
        ("nyu (4 pictures)", ["", ""]),
        ("ours", ["25.0 [20.0, 30.0]", "0.123"]),
        ("lower is nearer", ["50.0", "–"]),
        ("FastDepth, in-domain", ["17.80", ""]),
    ]
    notes = "\n".join(first.notes)
    for said in ("-25.0 [-30.0, -20.0], better", "a note", "1 picture without an unequal pair", "published: S"):
        assert said in notes
    assert [table.notes for table in rest] == [["seed: 0"]]


def test_a_record_of_another_form_is_shown_as_it_stands():
    record = {"whdr_percent": {"ours": {"a": 21.61, "b": None}, "centre": {"a": 40.0}}, "pictures": {"a": 7}, "s": 0.5}
    table, flat, facts = tables_of(record)
    assert (table.title, table.headings) == ("whdr percent", ["", "a", "b"])
    assert [(row.name, row.cells) for row in table.rows] == [("ours", ["21.61", "–"]), ("centre", ["40.00", ""])]
    assert [(row.name, row.cells) for row in flat.rows] == [("pictures", ["7"])]
    assert facts.notes == ["s: 0.5"]


@pytest.mark.parametrize(
    "record",
    [
        {"benchmarks": [{}]},
        {"benchmarks": [{"figures": [3, {"set": {}, "value": "x"}], "metrics": [None], "pictures": [], "settings": 3}]},
        {"benchmarks": [{"differences": [{"value": True}], "published": [{"values": 3}, 4]}]},
        {"benchmarks": 3, "x": {"a": {"b": {"c": [1, {"d": None}]}}}},
        {"x": [], "y": [[1]], "z": {}},
    ],
)
def test_a_damaged_record_is_no_error(record):
    tables_of(record)
