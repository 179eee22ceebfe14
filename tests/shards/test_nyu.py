import struct
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from shards.disparity import decode_values
from shards.errors import DecodeError, SourceError

from .labelled_collection import open_kind, pack_kind, write_levels, write_picture

FOLDER = "795_NYU_MITpaper_train_imgs"
TRAIN_LIST = "750_train_from_795_NYU_MITpaper_train_imgs_800_points_resize_240_320.csv"
VAL_LIST = "45_validate_from_795_NYU_MITpaper_train_imgs_800_points_resize_240_320.csv"


@pytest.fixture
def lists(tmp_path):
    root = tmp_path / "data"
    for seed, name in enumerate(("1", "2", "3", "4")):
        write_picture(root / FOLDER / f"{name}.png", 24, 32, seed)
    (root / TRAIN_LIST).write_text(
        "a header,that,says nothing\n"
        f"./{FOLDER}/1.png,1,3\n1,1,24,32,>\n5,6,7,8,<\n3,4,9,2,=\n"
        f"./{FOLDER}/2.png,2,2\n1,1,24,32,>\n"
        f"./{FOLDER}/3.png,3,2\n2,2,25,1,>\n8,8,4,4,<\n"
        f"./{FOLDER}/9.png,4,1\n1,1,2,2,>\n"
        f"./{FOLDER}/1.png,5,1\n1,1,2,2,>\n"
        f"./{FOLDER}/2.png,6,many\n1,1,2,2,>\n1,1,2,2,>\n"
    )
    (root / VAL_LIST).write_text(f"header\r\n./{FOLDER}/4.png,1,1\r\n4,4,8,8,=\r\n")
    return root


def test_ordinal_lists_count_from_one_and_know_equal(lists, tmp_path):
    report, found = pack_kind("nyu_ordinal", lists, tmp_path / "out")
    assert {name: sample.pairs.tolist() for name, sample in found["train"].items()} == {
        f"{FOLDER}/1.png": [[0, 0, 23, 31, 1], [4, 5, 6, 7, -1], [2, 3, 8, 1, 0]],
        f"{FOLDER}/3.png": [[7, 7, 3, 3, -1]],
    }
    assert found["train"][f"{FOLDER}/3.png"].meta["figures"]["pairs_outside"] == 1
    assert found["val"][f"{FOLDER}/4.png"].pairs.tolist() == [[3, 3, 7, 7, 0]]
    assert report.rejected == {
        "too_few_points": 1,
        "no_picture": 1,
        "named_twice": 1,
        "malformed_line": 1,
        "unlabelled": 1,
    }
    assert report.examples["malformed_line"] == [f"{TRAIN_LIST}:15"]
    assert report.examples["unlabelled"] == [f"{FOLDER}/2.png"]


def test_points_of_another_size_move_with_the_picture(lists, tmp_path):
    _, found = pack_kind("nyu_ordinal", lists, tmp_path / "out", points_hw=[48, 64])
    # 1-based 24, 32 is zero-based 23, 31 of 48 x 64; half of it is (23.5 / 2, 31.5 / 2) - 0.5 = (11.25, 15.25)
    assert found["train"][f"{FOLDER}/1.png"].pairs[0].tolist() == [0, 0, 11, 15, 1]


def test_one_list_alone_and_a_missing_one(lists):
    items = open_kind("nyu_ordinal", lists, train_list=None).items()
    assert [(item.name, item.split) for item in items] == [(f"{FOLDER}/4.png", "val")]
    with pytest.raises(SourceError, match=r"one list 654\*\.csv is needed"):
        open_kind("nyu_ordinal", lists, val_list="654*.csv").items()
    with pytest.raises(ValidationError, match="both null"):
        open_kind("nyu_ordinal", lists, train_list=None, val_list=None)


def test_a_list_or_line_of_another_format_is_told(lists):
    (lists / VAL_LIST).write_text(f"header\n./{FOLDER}/4.png,1,2\n4,4,8,8,~\n4,x,8,8,>\n")
    source = open_kind("nyu_ordinal", lists, train_list=None)
    with pytest.raises(DecodeError, match=r"4\.png in .*: '4,4,8,8,~' is not y,x,y,x"):
        source.load(source.items()[0])
    (lists / VAL_LIST).write_text("./a.thumb\n1,2,3,4,>,5,6\n")
    with pytest.raises(SourceError, match=r"csv:2: malformed_line; this is no ordinal list of NYUDv2"):
        open_kind("nyu_ordinal", lists, train_list=None).items()
    (lists / VAL_LIST).write_text(f"header\n./{FOLDER}/4.png,1,100001\n4,4,8,8,=\n")
    with pytest.raises(SourceError, match="csv:2: too_many_points"):
        open_kind("nyu_ordinal", lists, train_list=None).items()


def depth_mm(seed, height=30, width=40):
    rng = np.random.default_rng(seed)
    depth = rng.integers(700, 9999, (height, width)).astype(np.uint16)
    depth[:4] = 0
    return depth


def check_relations(sample, depth):
    found = set()
    for y_a, x_a, y_b, x_b, relation in sample.pairs.tolist():
        a, b = float(depth[y_a, x_a]), float(depth[y_b, x_b])
        assert min(a, b) > 0
        if abs(max(a, b) / min(a, b) - 1.02) > 2e-3:  # nearer to the bound, the 16 bits of 1 / depth decide
            assert relation == (0 if max(a, b) < 1.02 * min(a, b) else 1 if a > b else -1)
        found.add(relation)
    assert found == {-1, 0, 1}


def test_png_depth_becomes_inverse_depth_with_a_true_zero(tmp_path):
    root = tmp_path / "nyu"
    for seed, name in enumerate(("a", "b")):
        write_picture(root / "rgb" / f"{name}.png", 30, 40, seed)
        write_levels(root / "depth" / f"{name}.png", depth_mm(seed))
    write_levels(root / "depth" / "c.png", depth_mm(3))
    report, found = pack_kind("nyu_rgbd", root, tmp_path / "out", {"pairs": {"num_pairs": 800}})
    assert report.rejected == {"no_picture": 1}
    sample = found["train"]["rgb/b.png"]
    depth = depth_mm(1)
    np.testing.assert_array_equal(sample.disparity > 0, depth > 0)
    inverse = decode_values(sample.disparity, sample.meta["coding"])[4:]
    np.testing.assert_allclose(inverse, 1000 / depth[4:], rtol=2e-4)
    assert sample.meta["coding"]["unit"] == "1/m"
    check_relations(sample, depth)


@pytest.fixture
def mat(tmp_path):
    """The official layout, transposed as MATLAB does, and what it holds."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 30, 40, 3), dtype=np.uint8)
    depths = np.stack([depth_mm(seed) for seed in range(3)]).astype(np.float32) / 1000
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images.transpose(0, 3, 2, 1), compression="gzip")
        file.create_dataset("depths", data=depths.transpose(0, 2, 1))
        file.create_dataset("labels", data=np.zeros(3))
    return path, images, depths


def test_the_official_mat_file(mat, tmp_path):
    path, images, depths = mat
    source = open_kind("nyu_rgbd", path, split="train")
    items = source.items()
    assert [(item.name, item.split) for item in items] == [(f"{number:06d}", "train") for number in range(3)]
    picture = source.load(items[2])
    np.testing.assert_array_equal(picture.image, images[2])
    with np.errstate(divide="ignore"):
        expected = np.where(depths[2] > 0, 1 / depths[2], np.nan)
    np.testing.assert_allclose(decode_values(picture.codes, picture.coding), expected, rtol=2e-4)
    _, found = pack_kind("nyu_rgbd", path, tmp_path / "out", {"pairs": {"num_pairs": 400}})
    check_relations(found["train"]["000001"], depths[1])


def test_a_mat_file_of_another_layout_is_refused(mat, tmp_path):
    import h5py

    path = mat[0]
    with h5py.File(path, "a") as file:
        del file["depths"]
        file["depths"] = h5py.ExternalLink("other.mat", "depths")
    with pytest.raises(SourceError, match="has no table depths"):
        open_kind("nyu_rgbd", path).items()
    with h5py.File(path, "a") as file:
        del file["depths"]
        (tmp_path / "secret").write_bytes(struct.pack("<3600f", *range(3600)))
        file.create_dataset("depths", (3, 40, 30), "f4", external=[(str(tmp_path / "secret"), 0, 14400)])
    with pytest.raises(SourceError, match="has no table depths"):
        open_kind("nyu_rgbd", path).items()
    with h5py.File(path, "a") as file:
        del file["depths"]
        file["depths"] = np.zeros((3, 40, 31), np.float32)
    with pytest.raises(SourceError, match="do not fit together"):
        open_kind("nyu_rgbd", path).items()
    path.write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(SourceError, match=r"is no MATLAB 7\.3"):
        open_kind("nyu_rgbd", path).items()
    with pytest.raises(SourceError, match="there is none of that name"):
        open_kind("nyu_rgbd", tmp_path / "gone.mat").items()


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SourceError, match=r"pip install 'depthrank\[mat\]'"):
        open_kind("nyu_rgbd", tmp_path / "nyu_depth_v2_labeled.mat").items()


def test_no_depth_at_all_says_what_was_tried(tmp_path):
    write_picture(tmp_path / "a.png", 8, 8)
    with pytest.raises(SourceError, match=r"tried rgb/\{name\}\.png \+ depth/\{name\}\.png"):
        open_kind("nyu_rgbd", tmp_path).items()
