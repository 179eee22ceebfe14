import json

import numpy as np
import pytest
from PIL import Image

from pipeline.eval.truth import TruthFolder, read_map
from shards.errors import DataError, DecodeError


def write_scene(folder, scene, values, *, image_name="left.png", map_name="disparity.png", image_hw=None):
    place = folder / scene
    place.mkdir(parents=True)
    height, width = image_hw or values.shape
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(place / image_name)
    Image.fromarray(values).save(place / map_name)


def write_index(folder, entries):
    (folder / "index.json").write_text(json.dumps(entries))


@pytest.fixture
def folder(tmp_path):
    write_scene(tmp_path, "bowls/a", np.array([[0, 8], [16, 24]], np.uint8))
    write_scene(
        tmp_path,
        "rooms/00",
        np.array([[0, 500], [1000, 4000]], np.uint16),
        image_name="image.png",
        map_name="depth.png",
    )
    write_index(
        tmp_path,
        [{"scene": "bowls/a", "kind": "stereo", "divisor": 8}, {"scene": "rooms/00", "kind": "rgbd", "divisor": 1000}],
    )
    return tmp_path


def test_disparity_is_inverse_depth_and_depth_is_inverted(folder):
    stereo, rgbd = TruthFolder(folder)
    assert (stereo.name, stereo.set_name, rgbd.set_name) == ("bowls/a", "bowls", "rooms")
    np.testing.assert_array_equal(stereo.inverse_depth, np.array([[np.nan, 1], [2, 3]], np.float32))
    np.testing.assert_allclose(rgbd.inverse_depth * 1000, [[np.nan, 2], [1, 0.25]], rtol=1e-6)
    assert stereo.image.shape == (2, 2, 3)
    assert stereo.inverse_depth.dtype == rgbd.inverse_depth.dtype == np.float32


def test_a_folder_can_be_read_again(folder):
    truth = TruthFolder(folder)
    assert len(truth) == len(list(truth)) == len(list(truth)) == 2


@pytest.mark.parametrize(
    "scene", ["../a", "/etc/passwd", "a/../../b", "", "a//b", "a/./b", "C:/x", "a\\..\\b", "a\0b", 5, None]
)
def test_names_that_leave_the_folder_are_refused(folder, scene):
    write_index(folder, [{"scene": scene, "kind": "stereo", "divisor": 8}])
    with pytest.raises(DataError, match=r"index\.json: entry 0\.scene"):
        TruthFolder(folder)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "at least 1"),
        ({"scene": "a"}, "list"),
        ([{"scene": "a", "kind": "lidar"}], "0.kind"),
        ([{"scene": "a", "kind": "stereo", "divisor": 0}], "0.divisor"),
        ([{"scene": "a", "kind": "stereo", "divisor": float("nan")}], "0.divisor"),
        ([{"scene": "a", "kind": "rgbd"}, {"scene": "a", "kind": "rgbd"}], "twice"),
    ],
)
def test_a_malformed_index_is_one_clear_line(tmp_path, entries, message):
    write_index(tmp_path, entries)
    with pytest.raises(DataError) as caught:
        TruthFolder(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path / "index.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ufeff[]"])
def test_an_index_that_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DataError, match="index"):
        TruthFolder(tmp_path)


def test_a_missing_folder_index_scene_or_map_is_named(folder):
    with pytest.raises(DataError, match="no such folder"):
        TruthFolder(folder / "nowhere")
    with pytest.raises(DataError, match=r"no index\.json"):
        TruthFolder(folder / "bowls")
    (folder / "bowls" / "a" / "disparity.png").unlink()
    with pytest.raises(DecodeError, match=r"disparity\.png"):
        list(TruthFolder(folder))
    (folder / "rooms" / "00" / "image.png").unlink()
    write_index(folder, [{"scene": "rooms/00", "kind": "rgbd"}])
    with pytest.raises(DecodeError, match=r"image\.png"):
        list(TruthFolder(folder))


def test_sizes_must_agree(tmp_path):
    write_scene(tmp_path, "a", np.ones((4, 6), np.uint8), image_hw=(4, 5))
    write_index(tmp_path, [{"scene": "a", "kind": "stereo"}])
    with pytest.raises(DataError, match="the picture has 5x4 pixels, its map 6x4"):
        list(TruthFolder(tmp_path))


def test_damaged_colour_or_giant_maps_are_refused(tmp_path):
    path = tmp_path / "map.png"
    Image.fromarray(np.ones((40, 60), np.uint16) * 700).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DecodeError, match="cannot be read"):
        read_map(path)
    path.write_bytes(b"not a png")
    with pytest.raises(DecodeError, match="cannot be read"):
        read_map(path)
    Image.fromarray(np.ones((4, 6, 3), np.uint8)).save(path)
    with pytest.raises(DecodeError, match="of mode RGB"):
        read_map(path)
    # A header that claims 60000 x 60000 pixels is refused before memory is taken.
    header = bytearray(whole)
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    path.write_bytes(header)
    with pytest.raises(DecodeError):
        read_map(path)
