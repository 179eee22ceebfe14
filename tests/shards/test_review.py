import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from shards.errors import RunError
from shards.preview import preview_strip
from shards.review import write_review
from shards.review_entries import Entry

HOSTILE = "<img src=x onerror=alert(1)>\u2028</script><script>alert(2)</script>-->.jpg"
STRIP = preview_strip(np.full((40, 50, 3), 90, dtype=np.uint8), None, None)


def entries(count):
    return [Entry(f"{i}_L.jpg", "train", None, "as_given", {}, STRIP, (40, 150)) for i in range(count)]


def data_of(page):
    script = (page.parent / "data.js").read_text("ascii")
    head, _, body = script.partition(" = ")
    assert head == "globalThis.depthrankReview" and body.endswith(";\n")
    return script, json.loads(body[:-2])


def test_the_page_holds_each_pair_once_in_order(tmp_path):
    figures = {"eyes_z": 1.1, "alignment": {"yaw": 0.5}, "matched_hw": [3, 4]}
    shown = [
        Entry("a_L.jpg", "train", None, "swapped", {"consistent_share": 0.6}, STRIP, (40, 150)),
        Entry("b_L.jpg", None, "eyes_undecided", "undecided", figures, STRIP, (40, 150)),
        Entry("c_L.jpg", None, "unreadable"),
    ]
    summary = write_review(tmp_path / "deep" / "page", "album", "f" * 64, shown, {"min_known_share": 0.5})
    assert (summary.accepted, dict(summary.rejected), summary.without_picture) == (
        1,
        {"eyes_undecided": 1, "unreadable": 1},
        1,
    )
    _, data = data_of(summary.page)
    assert (data["title"], data["dataset"]) == ("album", "f" * 64)
    a, b, c = data["pairs"]
    assert a == {
        "name": "a_L.jpg",
        "split": "train",
        "reason": None,
        "eyes": "swapped",
        "doubt": 0.8,
        "why": "known",
        "figures": {"consistent_share": 0.6},
        "image": "images/000000.jpg",
        "strip_hw": [40, 150],
    }
    assert (b["doubt"], b["why"]) == (1.0, "eyes")
    assert b["figures"] == {"eyes_z": 1.1, "alignment.yaw": 0.5, "matched_hw": "[3, 4]"}
    assert (c["reason"], c["doubt"], "image" in c) == ("unreadable", 0.0, False)
    images = sorted((summary.page.parent / "images").iterdir())
    assert [image.name for image in images] == ["000000.jpg", "000001.jpg"]
    assert images[1].read_bytes() == STRIP


def test_nothing_hostile_leaves_its_string(tmp_path):
    figures = {"<b>": "</script>", "deep": {"<i>": ["<u>"]}}
    summary = write_review(tmp_path, HOSTILE, "f", [Entry(HOSTILE, None, HOSTILE, HOSTILE, figures)], {})
    script, data = data_of(summary.page)
    assert "<" not in script and script.isascii()
    assert data["pairs"][0]["name"] == HOSTILE and data["title"] == HOSTILE.replace("\u2028", "\\u2028")
    assert summary.page.read_text().count("<script") == 5  # the page itself holds no data


def test_the_page_refers_to_files_beside_it_and_to_nothing_else(tmp_path):
    page = write_review(tmp_path, "t", "f", entries(1), {}).page
    found = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.extend(value for name, value in attributes if name in ("src", "href"))
            assert not any(name.startswith("on") or name == "style" for name, _ in attributes)

    Links().feed(page.read_text("utf-8"))
    assert sorted(found) == sorted(path.name for path in tmp_path.iterdir() if path.is_file() and path != page)
    assert re.search(r"default-src 'none'", page.read_text("utf-8"))
    for path in tmp_path.glob("*.*"):
        assert not re.search(rb"https?://|innerHTML|outerHTML|insertAdjacent|\beval\b", path.read_bytes())


def test_a_page_is_replaced_and_leaves_nothing_of_the_former_one(tmp_path):
    out = tmp_path / "page"
    write_review(out, "t", "f", entries(5), {})
    (out / "decisions-t.json").write_text("a person's work")
    (out / "images" / "notes.txt").write_text("too")
    page = write_review(out, "t", "f", entries(2), {}).page
    assert [pair["name"] for pair in data_of(page)[1]["pairs"]] == ["0_L.jpg", "1_L.jpg"]
    assert sorted(path.name for path in (out / "images").iterdir()) == ["000000.jpg", "000001.jpg", "notes.txt"]
    assert (out / "decisions-t.json").read_text() == "a person's work"


def test_a_page_that_failed_half_way_is_not_one_and_can_be_written_again(tmp_path):
    out = tmp_path / "page"
    write_review(out, "t", "f", entries(3), {})

    def failing():
        yield from entries(1)
        raise RunError("the dataset is damaged")

    with pytest.raises(RunError, match="damaged"):
        write_review(out, "t", "f", failing(), {})
    assert not (out / "index.html").exists()
    assert len(data_of(write_review(out, "t", "f", entries(3), {}).page)[1]["pairs"]) == 3


def test_other_people_s_folders_are_left_alone(tmp_path):
    (tmp_path / "style.css").write_text("body { color: red }")
    with pytest.raises(RunError, match="no review page; name another folder with --out"):
        write_review(tmp_path, "t", "f", entries(1), {})
    with pytest.raises(RunError, match="a file is in the way"):
        write_review(tmp_path / "style.css", "t", "f", entries(1), {})
    assert [path.name for path in tmp_path.iterdir()] == ["style.css"]
