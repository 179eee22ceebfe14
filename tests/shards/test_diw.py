import numpy as np
import pytest

from shards.errors import SourceError
from shards.sources.diw import parse_pair

from .labelled_collection import open_kind, pack_kind, write_picture

TRAIN = """\
./DIW_train_val/far.thumb
2,3,40,50,>,64,48
./DIW_train_val/near.thumb
1,1,48,64,<   ,64,48
./DIW_train_val/equal.thumb
2,3,40,50,=,64,48
./DIW_train_val/unlabelled.thumb
./DIW_train_val/same.thumb
9,9,9,9,>,64,48
9,9,9,9,>,64,48
./DIW_train_val/outside.thumb
49,3,40,50,>,64,48
./DIW_train_val/zero.thumb
0,3,40,50,>,64,48
./DIW_train_val/gone.thumb
2,3,40,50,>,64,48
./DIW_train_val/far.thumb
2,3,40,50,<,64,48
./DIW_train_val/words.thumb
two,3,40,50,>,64,48
./DIW_train_val/odd.thumb
2,3,40,50,?,64,48
./DIW_train_val/half.thumb
4,6,80,100,>,128,96
"""
NAMES = ["far", "near", "equal", "unlabelled", "same", "outside", "zero", "words", "odd", "half"]


@pytest.fixture
def diw(tmp_path):
    root = tmp_path / "DIW"
    for seed, name in enumerate(NAMES):
        write_picture(root / "DIW_train_val" / f"{name}.thumb", 48, 64, seed)
    write_picture(root / "DIW_train_val" / "checked.thumb", 30, 20, seed=90)
    write_picture(root / "DIW_test" / "exam.thumb", 30, 20, seed=91)
    lists = root / "DIW_Annotations"
    lists.mkdir()
    (lists / "DIW_train.csv").write_text(TRAIN)
    (lists / "DIW_val.csv").write_bytes(b"\xef\xbb\xbf./DIW_train_val/checked.thumb\r\n30,20,1,1,<,20,30\r\n")
    (lists / "DIW_test.csv").write_text("./DIW_test/exam.thumb\n5,6,7,8,>,20,30\n")
    return root


def test_good_lines_become_items_in_their_splits(diw):
    items = open_kind("diw", diw).items()
    assert [(item.name, item.split) for item in items] == [
        ("DIW_train_val/checked.thumb", "val"),
        ("DIW_train_val/far.thumb", "train"),
        ("DIW_train_val/half.thumb", "train"),
        ("DIW_train_val/near.thumb", "train"),
    ]


def test_the_test_list_is_read_only_where_it_is_asked_for(diw):
    items = open_kind("diw", diw, splits=["test"]).items()
    assert [(item.name, item.split) for item in items] == [("DIW_test/exam.thumb", "val")]


def test_every_line_in_vain_is_named_with_its_reason(diw):
    leftovers = open_kind("diw", diw).leftovers()
    unlabelled = leftovers.pop("unlabelled")
    line = "DIW_Annotations/DIW_train.csv:{}".format
    assert leftovers == {
        "equal_relation": [line(6)],
        "no_labels": [line(7)],
        "same_point": [line(9)],
        "labels_without_picture": [line(10)],
        "point_outside": [line(12), line(14)],
        "no_picture": [line(15)],
        "named_twice": [line(17)],
        "malformed_line": [line(20)],
        "unknown_relation": [line(22)],
    }
    assert "DIW_test/exam.thumb" in unlabelled
    assert "DIW_train_val/far.thumb" not in unlabelled


def test_points_count_from_one_y_first_and_greater_is_farther(diw, tmp_path):
    report, found = pack_kind("diw", diw, tmp_path / "out")
    assert report.accepted == {"train": 3, "val": 1}
    assert {name: sample.pairs.tolist() for name, sample in found["train"].items()} == {
        "DIW_train_val/far.thumb": [[1, 2, 39, 49, 1]],
        "DIW_train_val/near.thumb": [[0, 0, 47, 63, -1]],
        "DIW_train_val/half.thumb": [[1, 2, 39, 49, 1]],  # a copy at half the stated size
    }
    assert found["val"]["DIW_train_val/checked.thumb"].pairs.tolist() == [[29, 19, 0, 0, -1]]
    sample = found["train"]["DIW_train_val/far.thumb"]
    assert sample.disparity is None
    assert sample.meta["sampler"] == {"name": "given"}
    assert not {"tolerance", "coding"} & sample.meta.keys()
    assert sample.image == (diw / "DIW_train_val" / "far.thumb").read_bytes()


def test_a_picture_of_another_shape_is_rejected(diw, tmp_path):
    write_picture(diw / "DIW_train_val" / "far.thumb", 64, 48)
    report, found = pack_kind("diw", diw, tmp_path / "out")
    assert report.examples["size_mismatch"] == ["DIW_train_val/far.thumb"]
    assert "DIW_train_val/far.thumb" not in found["train"]


def test_lists_may_name_the_pictures_of_another_machine(diw):
    path = diw / "DIW_Annotations" / "DIW_test.csv"
    path.write_text("/home/somebody/DIW_test/exam.thumb\n5,6,7,8,>,20,30\n/etc/../exam.thumb\n5,6,7,8,>,20,30\n")
    source = open_kind("diw", diw, splits=["test"])
    assert [item.name for item in source.items()] == ["DIW_test/exam.thumb"]
    assert source.leftovers()["no_picture"] == ["DIW_Annotations/DIW_test.csv:3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,field,count\n./a.png,1,2\n1,2,3,4,>\n",
            r"DIW_test\.csv:1: labels_without_picture; .*two lines a picture",
        ),
        ("./DIW_test/exam.thumb\n1,2,3,4\n", r"DIW_test\.csv:2: malformed_line"),
        ("\n", r"DIW_test\.csv: empty"),
        ("./elsewhere/x.thumb\n5,6,7,8,>,20,30\n", "holds none of the pictures"),
    ],
)
def test_a_list_of_another_format_is_one_clear_error(diw, text, message):
    (diw / "DIW_Annotations" / "DIW_test.csv").write_text(text)
    with pytest.raises(SourceError, match=message):
        open_kind("diw", diw, splits=["test"]).items()


def test_a_missing_or_doubled_list_is_named(diw):
    (diw / "DIW_test.csv").write_text("x")
    with pytest.raises(SourceError, match=r"one list DIW_test\.csv .* there is several: DIW_Annotations/DIW_test\.csv"):
        open_kind("diw", diw, splits=["test"]).items()
    (diw / "DIW_Annotations" / "DIW_val.csv").unlink()
    with pytest.raises(SourceError, match=r"DIW_val\.csv .* none; lists seen: DIW_Annotations/DIW_test\.csv"):
        open_kind("diw", diw).items()


def test_numbers_are_bounded_and_rounded():
    assert parse_pair(b"2.5,3.4,40,50,>x,64,48") == ((2, 2, 39, 49), 1, (48, 64))
    for line in (b"nan,3,40,50,>,64,48", b"2,3,40,50,>,1e9,48", b"2,3,40,50,>,64,-1", b"2,3,40,50,>,inf,48", b""):
        with pytest.raises(ValueError, match="malformed_line"):
            parse_pair(line)
    with pytest.raises(ValueError, match="unknown_relation"):
        parse_pair(b"2,3,40,50,,64,48")


def test_a_long_list_is_read_in_linear_time(tmp_path):
    root = tmp_path / "DIW"
    write_picture(root / "p" / "0.thumb", 30, 20)
    lines = "".join(f"./p/{number}.thumb\n5,6,7,8,>,20,30\n" for number in range(20_000))
    (root / "DIW_val.csv").write_text(lines)
    source = open_kind("diw", root, splits=["val"])
    assert len(source.items()) == 1
    assert len(source.leftovers()["no_picture"]) == 19_999
    np.testing.assert_array_equal(source.load(source.items()[0]).pairs, [[4, 5, 6, 7, 1]])
