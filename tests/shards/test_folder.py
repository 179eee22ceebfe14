import os
import pickle

import numpy as np
import pytest
from PIL import Image

from shards.errors import DecodeError, SourceError
from shards.names import printable
from shards.sources import Item, ReportsLeftovers, open_source
from shards.sources.config import FolderSourceConfig, SyntheticSourceConfig
from shards.sources.folder import FolderSource


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def source(root, **settings):
    return FolderSource(FolderSourceConfig(kind="folder", path=str(root), **settings))


def names(root, **settings):
    return [(item.name, item.partner) for item in source(root, **settings).items()]


def test_pairs_are_found_in_all_folders_and_sorted(tmp_path):
    touch(
        tmp_path, "b_L.jpg", "b_R.jpg", "a_A.png", "a_B.JPEG", "deep/er/c d_L.JPG", "deep/er/c d_R.jpg", "deep/b_L.png"
    )
    assert names(tmp_path) == [
        ("a_A.png", "a_B.JPEG"),
        ("b_L.jpg", "b_R.jpg"),
        ("deep/er/c d_L.JPG", "deep/er/c d_R.jpg"),
    ]
    assert all(item.split is None for item in source(tmp_path).items())


def test_what_belongs_to_no_pair_is_named(tmp_path):
    touch(
        tmp_path,
        "a_L.jpg",
        "a_R.jpg",
        "left_L.jpg",
        "right_R.jpg",
        "plain.jpg",
        "notes.txt",
        "._a_L.jpg",
        ".git/x_L.jpg",
    )
    touch(tmp_path, "two_L.jpg", "two_L.png", "two_R.jpg")
    folder = source(tmp_path)
    assert len(folder.items()) == 1
    assert folder.leftovers() == {
        "ambiguous": ["two_L.jpg", "two_L.png", "two_R.jpg"],
        "hidden": ["._a_L.jpg", ".git"],
        "matches_no_pattern": ["plain.jpg"],
        "no_partner": ["left_L.jpg", "right_R.jpg"],
    }
    assert isinstance(folder, ReportsLeftovers)


def test_own_patterns_and_extensions(tmp_path):
    touch(tmp_path, "im0 (1).tif", "im1 (1).tif", "x.jpg", "x_r.jpg", "x_L.jpg", "x_R.jpg")
    assert names(tmp_path, patterns=[("im0{name}", "im1{name}")], extensions=["tif"]) == [
        ("im0 (1).tif", "im1 (1).tif")
    ]
    folder = source(tmp_path, patterns=[("{name}", "{name}_r")])
    assert [(item.name, item.partner) for item in folder.items()] == [("x.jpg", "x_r.jpg")]
    assert folder.leftovers() == {"no_partner": ["x_L.jpg", "x_R.jpg"]}


def test_an_earlier_pattern_wins(tmp_path):
    touch(tmp_path, "a_L.jpg", "a_R.jpg", "a_X.jpg")
    assert names(tmp_path, patterns=[("{name}_L", "{name}_R"), ("{name}_L", "{name}_X")]) == [("a_L.jpg", "a_R.jpg")]


def test_pattern_characters_are_literal(tmp_path):
    touch(tmp_path, "a.L.jpg", "a.R.jpg", "bxL.jpg", "bxR.jpg")
    assert names(tmp_path, patterns=[("{name}.L", "{name}.R")]) == [("a.L.jpg", "a.R.jpg")]


def test_links_stay_inside(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "a_L.jpg", "a_R.jpg", "real/b.jpg")
    touch(outside, "secret_L.jpg", "secret_R.jpg")
    (root / "secret_L.jpg").symlink_to(outside / "secret_L.jpg")
    (root / "folder").symlink_to(outside)
    (root / "b_L.jpg").symlink_to(root / "real/b.jpg")
    touch(root, "b_R.jpg")
    folder = source(root)
    assert [item.name for item in folder.items()] == ["a_L.jpg", "b_L.jpg"]
    assert folder.leftovers()["link_leaves_folder"] == ["folder", "secret_L.jpg"]


def test_a_link_to_the_folder_itself_is_fine(tmp_path):
    touch(tmp_path / "real", "a_L.jpg", "a_R.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path / "link") == [("a_L.jpg", "a_R.jpg")]


def test_missing_folder_file_instead_and_empty_folder(tmp_path):
    with pytest.raises(SourceError, match=r"source\.path: .*nowhere does not exist"):
        source(tmp_path / "nowhere").items()
    touch(tmp_path, "file")
    with pytest.raises(SourceError, match="is no folder"):
        source(tmp_path / "file").items()
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="saw no files"):
        source(tmp_path / "empty").items()


def test_no_pairs_says_what_was_tried_and_seen_in_one_line(tmp_path):
    touch(tmp_path, "a_left.jpg", "a_right.jpg", "b_L.jpg", "readme.txt")
    with pytest.raises(SourceError) as caught:
        source(tmp_path).items()
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        str(tmp_path),
        "{name}_L/{name}_R",
        "{name}_A/{name}_B",
        ".jpeg",
        "3 x .jpg",
        "a_left.jpg",
        "no_partner: 1",
    ):
        assert part in message


def test_loading_keeps_clean_bytes_and_names_the_broken_file(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a_L.jpg", quality=95)
    Image.fromarray(rgb).save(tmp_path / "a_R.png")
    folder = source(tmp_path)
    pair = folder.load(folder.items()[0])
    assert pair.left_jpeg == (tmp_path / "a_L.jpg").read_bytes()
    assert pair.right_jpeg is None
    np.testing.assert_array_equal(pair.right, rgb)
    data = (tmp_path / "a_R.png").read_bytes()
    (tmp_path / "a_R.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DecodeError, match=r"a_R\.png"):
        folder.load(folder.items()[0])
    (tmp_path / "a_R.png").unlink()
    with pytest.raises(DecodeError, match=r"a_R\.png: No such file"):
        folder.load(Item("a_L.jpg", partner="a_R.png"))


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_names_that_are_no_utf8_can_be_loaded_and_printed(tmp_path):
    rgb = np.full((32, 32, 3), 100, dtype=np.uint8)
    for side in (b"L", b"R"):
        with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9_" + side + b".png"), "wb") as file:  # noqa: PTH118, PTH123
            Image.fromarray(rgb).save(file, "PNG")
    folder = source(tmp_path)
    (item,) = pickle.loads(pickle.dumps(folder)).items()
    assert folder.load(item).left.shape == (32, 32, 3)
    assert printable(item.name) == "caf\\udce9_L.png"
    printable(item.name).encode("utf-8")
    assert printable("a\nb\x1b[31m_L.png") == "a\\nb\\x1b[31m_L.png"


def test_open_source_knows_the_kinds(tmp_path):
    assert isinstance(open_source(FolderSourceConfig(kind="folder", path=str(tmp_path))), FolderSource)
    synthetic = open_source(SyntheticSourceConfig(kind="synthetic", train=2, val=1))
    assert [item.split for item in synthetic.items()].count("val") == 1
