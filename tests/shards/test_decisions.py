import json
import pickle

import pytest

from shards import decisions as module
from shards.decisions import Decision, Decisions, read_decisions, write_decisions
from shards.errors import DataError, ShardError

GIVEN = {
    "format": "depthrank-decisions",
    "version": 1,
    "dataset": "ab" * 32,
    "decisions": [
        {"name": "b_L.jpg", "keep": True, "eyes": "swapped", "by": "person"},
        {"name": "a/\\udce9_L.jpg", "keep": False, "note": "a drawing"},
        {"name": "c_L.jpg", "keep": None, "eyes": "as_given"},
    ],
}


def write(tmp_path, content):
    path = tmp_path / "decisions.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_each_item_finds_its_decision(tmp_path):
    decisions = read_decisions(write(tmp_path, GIVEN))
    assert (decisions.of("b_L.jpg").keep, decisions.of("b_L.jpg").eyes) == (True, "swapped")
    assert decisions.of("a/\udce9_L.jpg").keep is False  # no UTF-8 on the disk; decided as it is shown
    assert (decisions.of("c_L.jpg").keep, decisions.of("c_L.jpg").eyes) == (None, "as_given")
    nobody = decisions.of("other_L.jpg")
    assert (nobody.keep, nobody.eyes, nobody.by) == (None, None, None)


def test_names_of_no_item_are_reported(tmp_path):
    decisions = read_decisions(write(tmp_path, GIVEN))
    assert decisions.unmatched(["c_L.jpg", "x.jpg"]) == ["a/\\udce9_L.jpg", "b_L.jpg"]
    assert decisions.unmatched(["c_L.jpg", "b_L.jpg", "a/\udce9_L.jpg"]) == []


def test_written_and_read_again_it_is_the_same_and_travels_to_other_processes(tmp_path):
    decisions = read_decisions(write(tmp_path, GIVEN))
    again = tmp_path / "again.json"
    write_decisions(str(again), decisions)
    read = read_decisions(str(again))
    assert read.dataset == decisions.dataset
    assert set(read.decisions) == set(decisions.decisions)
    assert [entry.name for entry in read.decisions] == sorted(entry.name for entry in decisions.decisions)
    assert pickle.loads(pickle.dumps(decisions)).of("b_L.jpg") == decisions.of("b_L.jpg")


def test_no_decisions_are_a_file_too(tmp_path):
    write_decisions(str(tmp_path / "none.json"), Decisions())
    assert read_decisions(str(tmp_path / "none.json")).decisions == ()


def test_the_digest_follows_what_changes_a_dataset_and_nothing_else():
    a, b = Decision(name="a", keep=True), Decision(name="b", eyes="swapped")
    digest = Decisions(decisions=(a, b)).digest
    assert Decisions(decisions=(b, a.model_copy(update={"by": "x", "note": "y"})), dataset="z").digest == digest
    for other in (a.model_copy(update={"keep": False}), a.model_copy(update={"eyes": "as_given"})):
        assert Decisions(decisions=(other, b)).digest != digest
    assert Decisions(decisions=(a,)).digest != digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "format: "),
        ({"version": 2}, "version: "),
        ({"surprise": 1}, "surprise: "),
        ({"decisions": {}}, "decisions: "),
        ({"decisions": [{"keep": True}]}, r"decisions\.0\.name: "),
        ({"decisions": [{"name": "", "keep": True}]}, r"decisions\.0\.name: "),
        ({"decisions": [{"name": "a", "keep": "yes"}]}, r"decisions\.0\.keep: "),
        ({"decisions": [{"name": "a", "keep": 1}]}, r"decisions\.0\.keep: "),
        ({"decisions": [{"name": "a", "eyes": "left"}]}, r"decisions\.0\.eyes: "),
        ({"decisions": [{"name": "a", "note": "x" * 1001}]}, r"decisions\.0\.note: "),
        ({"decisions": [{"name": "a", "drop": True}]}, r"decisions\.0\.drop: "),
        ({"decisions": [{"name": "a"}, {"name": "b"}, {"name": "a", "keep": True}]}, "a is decided twice; "),
    ],
)
def test_what_is_wrong_is_said(tmp_path, change, said):
    with pytest.raises(DataError, match=rf"decisions\.json: {said}"):
        read_decisions(write(tmp_path, GIVEN | change))


@pytest.mark.parametrize("content", ["", "[]", "nonsense", "[" * 100_000, '"\\ud800"', "1e5"])
def test_what_is_no_decisions_file_is_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"decisions\.json: .*expected \{"):
        read_decisions(write(tmp_path, content))


def test_a_missing_or_huge_file_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ShardError, match="no such file"):
        read_decisions(str(tmp_path / "none.json"))
    monkeypatch.setattr(module, "MAX_DECISIONS_BYTES", 10)
    with pytest.raises(ShardError, match="larger than 10 bytes"):
        read_decisions(write(tmp_path, GIVEN))
