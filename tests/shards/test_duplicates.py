import io
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from shards.duplicates import Look, groups, look, look_at
from shards.images import picture_box, read_picture
from shards.sources import open_source

from .stereo_scene import stereo_pair
from .wild_pictures import make_pictures, pack_config

BITS = 16
NUM_SCENES = 12


@pytest.fixture(scope="module")
def scenes():
    """Pictures of rectangles and textures, each another one."""
    found = []
    for seed in range(NUM_SCENES):
        rng = np.random.default_rng(seed)
        boxes = tuple((y, y + h, x, x + w, 5.0) for y, x, h, w in rng.integers(20, 130, (8, 4)))
        found.append(stereo_pair(180, 240, boxes=boxes, seed=seed)[0])
    return found


def jpeg(picture, quality):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return read_picture(buffer.getvalue(), draft_px=128)


def scaled(picture, factor):
    image = Image.fromarray(picture)
    return np.array(image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS))


def cropped(picture, share, rng):
    """Without `share` of its height and width, taken off at random sides."""
    height, width = picture.shape[:2]
    y, x = (int(rng.uniform(0, share) * side) for side in (height, width))
    return picture[y : y + height - int(share * height), x : x + width - int(share * width)]


def framed(picture):
    return cv2.copyMakeBorder(picture, 40, 40, 0, 0, cv2.BORDER_CONSTANT)


CHANGES = {
    "quality": lambda picture, rng: jpeg(picture, 30),
    "scale": lambda picture, rng: scaled(picture, 0.4),
    "crop": lambda picture, rng: jpeg(cropped(picture, 0.03, rng), 80),
    "letterbox": lambda picture, rng: framed(picture),
    "brightness": lambda picture, rng: (picture * 0.8 + 20).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_other_scenes_are_not(scenes, change):
    rng = np.random.default_rng(0)
    looks = [look(picture) for picture in scenes]
    copies = [look(CHANGES[change](picture, rng)) for picture in scenes]
    assert groups(looks, BITS) == []
    found = groups(looks + copies, BITS)
    assert set(map(tuple, found)) <= {(number, number + NUM_SCENES) for number in range(NUM_SCENES)}
    assert len(found) >= NUM_SCENES - 1


def brute_force(looks, max_bits):
    near = {
        frozenset((a, b))
        for a, one in enumerate(looks)
        for b, other in enumerate(looks[:a])
        if one is not None
        and other is not None
        and np.count_nonzero(one.bits != other.bits) <= max_bits
        and one.detail @ other.detail >= 0.7
    }
    found = [{number} for number in range(len(looks))]
    for pair in near:
        joined = set().union(*(group for group in found if group & pair))
        found = [group for group in found if not group & pair] + [joined]
    return sorted(sorted(group) for group in found if len(group) > 1)


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_those_of_a_plain_search(seed, monkeypatch):
    monkeypatch.setattr("shards.duplicates._BLOCK", 7)  # several blocks, and one that is not full
    rng = np.random.default_rng(seed)
    looks = []
    for number in range(60):
        if number % 3 and looks[-1] is not None:  # a neighbour of the one before, more or less near
            bits = looks[-1].bits ^ (rng.random(64) < 0.2)
            detail = looks[-1].detail + rng.normal(0, 0.07, 144).astype(np.float32)
        else:
            bits, detail = rng.random(64) < 0.5, rng.normal(0, 1, 144).astype(np.float32)
        looks.append(None if number % 11 == 5 else Look(bits, detail / np.linalg.norm(detail)))
    expected = brute_force(looks, 12)
    assert len(expected) > 3
    assert groups(looks, 12) == expected
    assert groups(looks[:1], 64) == groups([], 64) == groups([None, None], 64) == []


def test_flat_pictures_are_like_nothing():
    flat = [look(np.full((90, 120, 3), level, np.uint8)) for level in (0, 0, 128, 128, 255)]
    assert groups(flat, 24) == []


def test_many_pictures_are_compared_at_once():
    rng = np.random.default_rng(0)
    details = rng.normal(0, 1, (6000, 144)).astype(np.float32)
    details /= np.linalg.norm(details, axis=1, keepdims=True)
    looks = [Look(bits, detail) for bits, detail in zip(rng.random((6000, 64)) < 0.5, details, strict=True)]
    start = time.perf_counter()
    assert groups([*looks, looks[17]], BITS) == [[17, 6000]]
    assert time.perf_counter() - start < 10  # pair by pair this takes a minute


def test_an_item_is_judged_by_its_file_or_else_by_what_its_source_decodes(tmp_path):
    config = pack_config(make_pictures(tmp_path, num=1), tmp_path / "out")
    source = open_source(config.source)
    item = source.items()[0]
    from_file = look_at(item, config)
    assert from_file is not None
    decoded = look(source.load(item).left)
    assert np.count_nonzero(from_file.bits != decoded.bits) <= 6
    assert from_file.detail @ decoded.detail > 0.95
    (tmp_path / "p00_L.jpg").write_bytes(b"no picture")
    assert look_at(item, config) is None


@pytest.mark.data
def test_the_known_copies_among_wild_pictures_are_found_and_nothing_else(real_data):
    folder = real_data / "webstereo" / "crossview"
    config = pack_config(folder, "unused")
    items = open_source(config.source).items()
    found = groups([look_at(item, config) for item in items], config.shards.near_duplicate_bits)
    assert [[items[number].name.removesuffix("_L.jpg") for number in group] for group in found] == [
        ["5w9tlj", "firstBatch_5w9tlj"],
        ["5wa98g", "firstBatch_5wa98g"],
        ["Japan_cherry", "Japan_cherry_by_the_canal"],
        ["Japan_cherry_twist", "Japan_twistedCherry"],
        ["Japan_hole_in_the_fence", "Japan_rust"],
    ]


@pytest.mark.data
@pytest.mark.slow
def test_crops_of_wild_pictures_are_found(real_data):
    rng = np.random.default_rng(0)
    looks, copies = [], []
    for path in sorted((real_data / "webstereo" / "crossview").glob("*_L.jpg")):
        picture = read_picture(path)
        y, x, height, width = picture_box(picture)
        looks.append(look(jpeg(picture, 95)))
        copies.append(look(jpeg(cropped(picture[y : y + height, x : x + width], 0.04, rng), 75)))
    found = groups(looks + copies, BITS)
    group_of = {number: place for place, group in enumerate(found) for number in group}
    with_copy = [k for k in range(len(looks)) if k in group_of and group_of[k] == group_of.get(k + len(looks))]
    assert len(with_copy) >= 0.93 * len(looks)
