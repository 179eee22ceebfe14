import json
import subprocess
from pathlib import Path

import pytest

from .__main__ import commit
from .compare import compare, main, make_record, report
from .rows import Row, table


def row(name="loader", value=50.0, *, better="higher", reference_value=100.0, unit="pictures/s") -> Row:
    return Row(name, value, unit, "plain decoding", reference_value, better)


def record(path: Path, *rows: Row, **facts: object) -> str:
    path.write_text(json.dumps({"machine": "one", "versions": {}, **facts, "rows": [one.as_json() for one in rows]}))
    return str(path)


@pytest.mark.parametrize(
    ("better", "old", "new", "worse"),
    [
        ("higher", 50, 44.9, True),
        ("higher", 50, 45.1, False),
        ("higher", 50, 500, False),
        ("lower", 50, 55.6, True),
        ("lower", 50, 55.4, False),
        ("lower", 50, 5, False),
        ("higher", 50, 0, True),
        ("lower", 0, 0, False),
        ("lower", 0, 1, True),
        ("lower", 1, 0, False),
    ],
)
def test_a_loss_of_more_than_a_tenth_is_worse_whichever_way_is_better(better, old, new, worse) -> None:
    (change,) = compare([row(value=old, better=better)], [row(value=new, better=better)]).changes
    assert change.is_worse is worse


def test_ratios_count_and_not_figures() -> None:
    """A machine that is busy, and so four times slower in all, changes nothing."""
    (change,) = compare([row(value=80, reference_value=100)], [row(value=20, reference_value=25)]).changes
    assert change.gain == 1


def test_a_ratio_without_a_reference() -> None:
    assert row(value=3, reference_value=0).ratio == float("inf")
    assert row(value=0, reference_value=0).ratio == 1


def test_rows_of_one_side_are_named_and_not_compared() -> None:
    comparison = compare([row("a"), row("b")], [row("b"), row("c")])
    assert [change.name for change in comparison.changes] == ["b"]
    assert "only in the old record: a" in report(comparison) and "only in the new record: c" in report(comparison)


@pytest.mark.parametrize("other", [row(better="lower"), row(unit="s"), row()._replace(reference="nothing")])
def test_a_row_that_changed_its_meaning_is_refused(other) -> None:
    with pytest.raises(ValueError, match="it needs another name"):
        compare([row()], [other])


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two rows of one name: loader"):
        compare([row()], [row(), row()])


def test_a_row_survives_its_file() -> None:
    one = row(value=1 / 3)
    assert Row.from_json(json.loads(json.dumps(one.as_json()))).ratio == pytest.approx(one.ratio, rel=1e-4)
    assert "| loader | 0.3333 pictures/s | plain decoding | 100 | 0.00333 | higher |" in table([one])


def test_the_command_says_which_is_worse_and_exits_with_1(tmp_path, capsys) -> None:
    old = record(tmp_path / "old.json", row("good"), row("bad"), machine="one")
    new = record(tmp_path / "new.json", row("good", 51), row("bad", 30), machine="two")
    assert main([old, new]) == 1
    out = capsys.readouterr().out
    assert "| bad | 0.5 | 0.3 | 0.60 | WORSE |" in out and "| good | 0.5 | 0.51 | 1.02 |  |" in out
    assert "note: machine: one before, two now" in out
    assert main([new, old]) == 0


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"rows": [{"name": "x"}]}', '{"rows": []}'])
def test_what_is_no_record_is_one_message(tmp_path, capsys, text) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    assert main([str(bad), record(tmp_path / "good.json", row())]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_neither_file_nor_commit(capsys) -> None:
    assert main(["no-such-commit", "HEAD"]) == 2
    assert capsys.readouterr().err == "error: no-such-commit is neither a file nor a commit\n"


def test_a_commit_that_cannot_be_checked_out_is_a_mistake_and_no_traceback(tmp_path) -> None:
    with pytest.raises(ValueError, match="git made no worktree of no-such-commit"):
        make_record("no-such-commit", [], tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()


def test_a_record_is_stored_under_the_name_by_which_it_is_looked_for() -> None:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip("no git checkout")
    assert commit().removesuffix("-dirty") == asked.stdout.strip()


@pytest.mark.parametrize("word", ["failed", "left"])
def test_a_record_of_which_a_part_is_missing_is_no_record(tmp_path, capsys, word) -> None:
    path = tmp_path / "cut.json"
    record(path, row())
    path.write_text(json.dumps(json.loads(path.read_text()) | {word: ["loss"]}))
    assert main([str(path), str(path)]) == 2
    assert "not measured: loss" in capsys.readouterr().err


def test_of_a_commit_the_stored_record_is_taken(tmp_path, capsys) -> None:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip("no git checkout")
    record(tmp_path / f"{asked.stdout.strip()}-loader.json", row())
    assert main(["HEAD", "HEAD", "loader", "--out", str(tmp_path)]) == 0
    assert "| loader | 0.5 | 0.5 | 1.00 |  |" in capsys.readouterr().out
