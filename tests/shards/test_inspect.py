from pathlib import Path

import numpy as np
import pytest

from shards.contact_sheet import ContactSheet
from shards.errors import ShardError
from shards.format import Sample
from shards.inspect import Inspection, describe, inspect_dataset
from shards.writer import DatasetWriter

from .small_dataset import photo, small_sample, write_dataset


def test_figures_are_those_of_a_plain_count(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", range(12), rejects={"flat": 3, "too_small": 5})
    calls: list[tuple[int, int]] = []
    found = inspect_dataset(str(tmp_path / "set"), progress=lambda done, total: calls.append((done, total)))
    samples = [small_sample(number) for number in range(12)]
    assert found.samples == 12
    assert calls == [(done, 12) for done in range(1, 13)]
    assert sorted(found.sizes_hw) == [(40, 60)] * 6 + [(48, 64)] * 6
    assert found.known_shares == [0.75] * 11
    relations = [relation for sample in samples for relation in sample.pairs[:, 4].tolist()]
    assert found.relations == {value: relations.count(value) for value in (-1, 0, 1)}
    assert found.equal_shares == pytest.approx([1 / 3] * 10)
    assert found.distances_px[5] == found.distances_px.sum() == len(relations)  # from 0, 0 to 3, 4
    assert found.without == {"disparity": 1, "confidence": 12, "pairs": 2}
    assert found.kinds["eyes"] == {"swapped": 4, "as_given": 8}
    assert found.kinds["tolerance"] == {"range 0.02": 12}


def test_the_text_says_it_all(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", range(12), rejects={"flat": 3, "too_small": 5})
    text = describe(inspect_dataset(str(tmp_path / "set")))
    for part in (
        "train ",
        "val ",
        "long side    median 62 px, 5–95 %: 60–64, all: 60–64",
        "sizes        60 × 40: 6, 64 × 48: 6",
        "known        median 75 %",
        "pairs        60 stored: A farther 33.3 %, equal 33.3 %, A nearer 33.3 %",
        "distance     median 5 px, 5–95 %: 5–5, all: 5–5 between the two points",
        "eyes         as_given: 8, swapped: 4",
        "tolerance    range 0.02: 12",
        "sampler      random: 12",
        "source       folder: 12",
        "without      disparity: 1, pairs: 2",
        "left out     too_small: 5, flat: 3",
    ):
        assert part in text
    rows = [line.split() for line in text.splitlines()[2:4]]
    assert [row[:3] for row in rows] == [["train", "9", "5"], ["val", "3", "2"]]


def test_a_limit_looks_at_samples_of_every_split_evenly_spread(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", range(40))
    found = inspect_dataset(str(tmp_path / "set"), limit=8)
    assert found.samples == 8
    assert "figures of 8 of the 40 samples" in describe(found)
    one = inspect_dataset(str(tmp_path / "set"), limit=1)
    assert one.samples == 2  # one of each split


def test_ordinal_samples_without_a_word_in_their_json(tmp_path: Path) -> None:
    pairs = np.array([[0, 0, 1, 1, 1]], dtype=np.int16)
    with DatasetWriter(str(tmp_path / "set"), shard_bytes=1 << 20, config={}) as writer:
        writer.add("train", Sample("a", photo(1), {"eyes": ["a"], "tolerance": 3, "sampler": {"x": 1}}, pairs=pairs))
        writer.add("train", Sample("b", photo(2), {"eyes": "\x1b[31m" + "x" * 500}, pairs=pairs))
        writer.finish({})
    text = describe(inspect_dataset(str(tmp_path / "set")))
    assert "no disparity: ordinal labels only" in text
    assert "\x1b" not in text and max(map(len, text.splitlines())) < 400
    assert "tolerance    3: 1, not given: 1" in text


def test_distances_have_the_percentiles_of_their_counts(tmp_path: Path) -> None:
    found = Inspection("x", write_dataset(tmp_path / "set"))
    draws = np.random.default_rng(0).integers(0, 500, 40_000)
    found.distances_px[:500] = np.bincount(draws, minlength=500)
    line = next(line for line in describe(found).splitlines() if "distance" in line)
    p5, median, p95 = (round(float(np.percentile(draws, q))) for q in (5, 50, 95))
    assert f"median {median} px, 5–95 %: {p5}–{p95}, all: 0–499" in line


def test_the_sheet_is_offered_every_sample(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", range(6))
    sheet, by_hand = ContactSheet(), ContactSheet()
    inspect_dataset(str(tmp_path / "set"), sheet=sheet)
    for number in range(6):
        by_hand.offer(small_sample(number))
    assert sheet.render() == by_hand.render()


def test_damage_stops_it_with_the_name_of_the_sample(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    data = bytearray((tmp_path / "set" / "train-000000.tar").read_bytes())
    data[520] ^= 1
    (tmp_path / "set" / "train-000000.tar").write_bytes(data)
    with pytest.raises(ShardError, match=r"train-000000\.tar: sample 0 of train: .*--verify"):
        inspect_dataset(str(tmp_path / "set"))
