import json

import pytest

from shards.errors import SourceError

from .labelled_collection import open_kind, pack_kind, write_picture


def pair(h1, w1, h2, w2, closer="point1"):
    return {"point1": [h1, w1], "point2": [h2, w2], "closer_point": closer}


@pytest.fixture
def da2k(tmp_path):
    root = tmp_path / "DA-2K"
    for seed, name in enumerate(("indoor/a.jpg", "adverse_style/b.png", "other/c.jpg", "indoor/bad.jpg")):
        write_picture(root / "images" / name, 40, 60, seed)
    annotations = {
        "./images/indoor/a.jpg": [pair(0, 0, 39, 59), pair(5, 6, 7, 8, "point2"), pair(40, 0, 1, 1)],
        "images/adverse_style/b.png": [pair(1, 2, 3, 4)],
        "images/other/c.jpg": [pair(9, 9, 9, 9)],
        "images/indoor/bad.jpg": [{"point1": [1, 2]}],
        "images/aerial/gone.jpg": [pair(1, 2, 3, 4)],
    }
    (root / "annotations.json").write_text(json.dumps(annotations))
    return root


def test_points_count_from_zero_and_the_closer_one_is_nearer(da2k, tmp_path):
    report, found = pack_kind("da2k", da2k, tmp_path / "out")
    assert report.accepted == {"val": 2}
    assert {name: sample.pairs.tolist() for name, sample in found["val"].items()} == {
        "images/indoor/a.jpg": [[0, 0, 39, 59, -1], [5, 6, 7, 8, 1]],
        "images/adverse_style/b.png": [[1, 2, 3, 4, -1]],
    }
    indoor = found["val"]["images/indoor/a.jpg"].meta
    assert indoor["figures"]["pairs_outside"] == 1
    assert indoor["about"] == {"scene": "indoor"}
    assert found["val"]["images/adverse_style/b.png"].meta["about"] == {"scene": "adverse_style"}
    assert report.examples == {
        "malformed_labels": ["images/indoor/bad.jpg"],
        "no_picture": ["images/aerial/gone.jpg"],
        "unlabelled": ["images/indoor/bad.jpg"],
        "no_pairs": ["images/other/c.jpg"],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is no list of DA-2K"),
        ('{"a.jpg": 5}', "is no list of DA-2K"),
        ('{"a.jpg": []}', "names 1 pictures, none of which"),
    ],
)
def test_a_list_of_another_format_is_one_clear_error(da2k, text, message):
    (da2k / "annotations.json").write_text(text)
    with pytest.raises(SourceError, match=message):
        open_kind("da2k", da2k).items()


def test_it_may_be_trained_on_where_that_is_said(da2k):
    assert {item.split for item in open_kind("da2k", da2k, split="train").items()} == {"train"}
    with pytest.raises(SourceError, match=r"one list labels\.json is needed"):
        open_kind("da2k", da2k, annotations="labels.json").items()
