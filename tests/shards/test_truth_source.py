import json
import struct

import numpy as np
import pytest
from pydantic import ValidationError

from shards.disparity import decode_values
from shards.errors import DecodeError, SourceError
from shards.maps import read_levels, read_pfm
from shards.sources.config import TruthSourceConfig
from shards.sources.patterns import group_files

from .labelled_collection import open_kind, pack_kind, write_levels, write_picture

HEIGHT, WIDTH = 24, 36


def pfm(values, order, scale="1", newline=b"\n"):
    """Written value by value, from the last row to the first."""
    height, width = len(values), len(values[0])
    sign = {"<": "-", ">": ""}[order]
    rows = b"".join(struct.pack(f"{order}f", value) for row in reversed(values) for value in row)
    return b"Pf" + newline + f"{width} {height}".encode() + newline + f"{sign}{scale}".encode() + newline + rows


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b" "])
def test_a_pfm_says_its_byte_order_and_starts_at_the_bottom(order, newline):
    values = [[1.5, float("inf"), -3.0], [4.0, 1e-20, 6.25]]
    np.testing.assert_array_equal(
        read_pfm(pfm(values, order, "0.003922", newline), name="x"), np.array(values, np.float32)
    )


def test_first_bytes_that_look_like_white_space_belong_to_the_values():
    number = struct.unpack("<f", b"\n\r\n ")[0]
    assert read_pfm(pfm([[number]], "<"), name="x")[0, 0] == number


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P5\n2 2\n255\n1234",
        b"PF\n1 1\n-1\n" + bytes(12),
        pfm([[1.0, 2.0]], "<")[:-1],
        pfm([[1.0, 2.0]], "<") + b"x",
        pfm([[1.0]], "<", "0"),
        pfm([[1.0]], "<", "1e999"),
        pfm([[1.0]], "<", "1-1"),
        b"Pf\n99999 99999\n-1\n",
        b"Pf\n0 5\n-1\n",
        b"Pf\n30000 30000\n-1\n",
    ],
)
def test_a_damaged_or_giant_pfm_is_refused(data):
    with pytest.raises(DecodeError, match=r"x\.pfm: "):
        read_pfm(data, name="x.pfm")


def test_levels_are_read_at_1_8_and_16_bit(tmp_path):
    for levels in (np.eye(5, 7, dtype=bool), np.arange(35, dtype=np.uint8), np.arange(35, dtype=np.uint16) * 1800):
        levels = levels.reshape(5, 7)
        write_levels(tmp_path / "map.png", levels)
        read = read_levels((tmp_path / "map.png").read_bytes(), name="map")
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read, levels)


def disparity(seed, low=40, high=4000):
    levels = np.random.default_rng(seed).integers(low, high, (HEIGHT, WIDTH)).astype(np.uint16)
    levels[:, -5:] = 0
    return levels


def check(sample, disparity):
    """Relations against a ratio of the disparity; it is unknown where it is 0 or infinite."""
    known = np.isfinite(disparity) & (disparity > 0)
    np.testing.assert_array_equal(sample.disparity > 0, known)
    found = set()
    for y_a, x_a, y_b, x_b, relation in sample.pairs.tolist():
        a, b = float(disparity[y_a, x_a]), float(disparity[y_b, x_b])
        if abs(max(a, b) / min(a, b) - 1.02) > 1e-4:
            assert relation == (0 if max(a, b) < 1.02 * min(a, b) else 1 if a < b else -1)
        found.add(relation)
    assert found == {-1, 0, 1}


def test_kitti_folders_are_stored_without_rounding(tmp_path):
    root = tmp_path / "training"
    write_picture(root / "image_2" / "000000_10.png", HEIGHT, WIDTH)
    write_picture(root / "image_2" / "000000_11.png", HEIGHT, WIDTH)
    write_picture(root / "image_2" / "000001_10.png", HEIGHT, WIDTH)
    write_levels(root / "disp_occ_0" / "000000_10.png", disparity(0))
    report, found = pack_kind("truth", root, tmp_path / "out", {"pairs": {"num_pairs": 900}}, divisor=256)
    assert report.examples == {"matches_no_pattern": ["image_2/000000_11.png"], "no_labels": ["image_2/000001_10.png"]}
    sample = found["train"]["image_2/000000_10.png"]
    assert sample.meta["coding"] == {"kind": "affine", "scale": 1 / 256, "offset": 0.0, "unit": "px"}
    np.testing.assert_array_equal(sample.disparity, disparity(0))
    check(sample, disparity(0) / 256)


@pytest.mark.parametrize(("name", "order"), [("disp0.pfm", "<"), ("disp0GT.pfm", ">")])
def test_middlebury_and_eth3d_folders(tmp_path, name, order):
    values = disparity(1).astype(np.float32) / 16 + np.float32(0.03)
    values[:3], values[:, -5:] = np.inf, 0
    write_picture(tmp_path / "raw" / "delivery_area_1l" / "im0.png", HEIGHT, WIDTH)
    write_picture(tmp_path / "raw" / "delivery_area_1l" / "im1.png", HEIGHT, WIDTH, 5)
    (tmp_path / "raw" / "delivery_area_1l" / name).write_bytes(pfm(values.tolist(), order))
    report, found = pack_kind("truth", tmp_path / "raw", tmp_path / "out", {"pairs": {"num_pairs": 900}})
    assert report.examples == {"matches_no_pattern": ["delivery_area_1l/im1.png"]}
    sample = found["train"]["delivery_area_1l/im0.png"]
    known = sample.disparity > 0
    decoded = decode_values(sample.disparity, sample.meta["coding"])
    assert np.abs(decoded - values)[known].max() <= values[known].max() / 65535
    check(sample, values)


def test_parallel_folders_by_own_patterns(tmp_path):
    write_picture(tmp_path / "two_view_training" / "a" / "im0.png", HEIGHT, WIDTH)
    (tmp_path / "two_view_training_gt" / "a").mkdir(parents=True)
    (tmp_path / "two_view_training_gt" / "a" / "disp0GT.pfm").write_bytes(pfm(disparity(2).tolist(), "<"))
    patterns = [["two_view_training/{name}/im0.png", "two_view_training_gt/{name}/disp0GT.pfm"]]
    items = open_kind("truth", tmp_path, patterns=patterns, split="val").items()
    assert [(item.name, item.split) for item in items] == [("two_view_training/a/im0.png", "val")]
    with pytest.raises(SourceError, match=r"no picture with a map among the 2 files of .*set source\.patterns"):
        open_kind("truth", tmp_path).items()


def test_an_index_gives_scenes_their_kind_and_divisor(tmp_path):
    root = tmp_path / "gt"
    for seed, scene in enumerate(("bowls/a", "bowls/b", "rooms/00")):
        stereo = scene.startswith("bowls")
        write_picture(root / scene / ("left.png" if stereo else "image.png"), HEIGHT, WIDTH, seed)
        write_levels(root / scene / ("disparity.png" if stereo else "depth.png"), disparity(seed))
    write_picture(root / "bowls" / "a" / "right.png", HEIGHT, WIDTH, 9)
    index = [
        {"scene": "rooms/00", "kind": "rgbd"},
        {"scene": "bowls/a", "kind": "stereo", "divisor": 8},
        {"scene": "bowls/gone", "kind": "stereo"},
    ]
    (root / "index.json").write_text(json.dumps(index))
    report, found = pack_kind("truth", root, tmp_path / "out", {"pairs": {"num_pairs": 900}})
    assert report.examples == {
        "missing": ["bowls/gone"],
        "not_in_the_index": ["bowls/a/right.png", "bowls/b/disparity.png", "bowls/b/left.png"],
    }
    assert found["train"]["bowls/a/left.png"].meta["coding"]["scale"] == 1 / 8
    check(found["train"]["bowls/a/left.png"], disparity(0) / 8)
    depth = disparity(2).astype(float)
    y_a, x_a, y_b, x_b, relation = found["train"]["rooms/00/image.png"].pairs.T
    farther = depth[y_a, x_a] > 1.03 * depth[y_b, x_b]
    assert farther.any() and (relation[farther] == 1).all()
    by_pattern = open_kind("truth", root, index=None).items()
    assert [item.name for item in by_pattern] == ["bowls/a/left.png", "bowls/b/left.png"]
    (root / "index.json").write_text('[{"scene": "../a", "kind": "stereo"}]')
    with pytest.raises(SourceError, match=r"source\.path: index\.json: entry 0\.scene"):
        open_kind("truth", root).items()


def test_groups_need_each_file_once():
    names = ["A/im0.png", "A/disp0.pfm", "x/A/IM0.PNG", "x/A/disp0.pfm", "B/im0.png", "b/im0.png", "b/disp0.pfm"]
    groups, leftovers = group_files(names, [("{name}/im0.png", "{name}/disp0.pfm")])
    assert [group.files for group in groups] == [
        ("A/im0.png", "A/disp0.pfm"),
        ("b/im0.png", "b/disp0.pfm"),
        ("x/A/IM0.PNG", "x/A/disp0.pfm"),
    ]
    assert leftovers == {"no_labels": ["B/im0.png"]}
    doubled = ["A/im0.png", "A/IM0.png", "A/disp0.pfm"]
    assert group_files(doubled, [("{name}/im0.png", "{name}/disp0.pfm")]) == ([], {"ambiguous": sorted(doubled)})


@pytest.mark.parametrize("pattern", ["im0.png", "{name}/{name}.png", "/{name}.png", "../{name}.png", "a\\{name}.png"])
def test_patterns_are_checked(pattern):
    with pytest.raises(ValidationError, match=r"exactly one \{name\}"):
        TruthSourceConfig(kind="truth", path="x", patterns=((pattern, "{name}.pfm"),))


@pytest.mark.data
def test_real_truth_is_labelled_as_an_independent_reading_says(real_data, tmp_path):
    from PIL import Image

    source = open_kind("truth", real_data / "gt")
    items = source.items()
    assert len(items) == 32
    for item in items[::8]:
        picture = source.load(item)
        stored = np.asarray(Image.open(real_data / "gt" / item.labels[0])).astype(np.float64)
        values = decode_values(picture.codes, picture.coding)
        known = stored > 0
        np.testing.assert_array_equal(np.isfinite(values), known)
        expected = 1 / stored[known] if "nyu" in item.name else stored[known]
        ratio = values[known] / expected
        np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-3)
