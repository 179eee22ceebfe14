import cv2
import numpy as np
import pytest

from shards.config import MatchConfig
from shards.match import match
from shards.sky import find_sky

from .stereo_scene import texture, truth_scenes

SIZE = 180, 240
HORIZON = 80
BLUE = ((95, 145, 205), (145, 182, 230))
OVERCAST = ((215, 217, 222), (228, 229, 232))


def scene(top, bottom, horizon=HORIZON, size=SIZE):
    """A gradient from `top` to `bottom` above a textured ground, and the place of the gradient."""
    height, width = size
    picture = texture(height, width, 4).astype(np.float32)
    share = np.linspace(0, 1, horizon)[:, None, None]
    picture[:horizon] = (1 - share) * np.array(top) + share * np.array(bottom)
    above = np.zeros(size, dtype=bool)
    above[:horizon] = True
    return np.clip(picture, 0, 255).astype(np.uint8), above


def ground(above, far_px=2.0, near_px=20.0):
    """Disparity of a floor that comes nearer from the horizon down; unknown above it."""
    rows = np.linspace(far_px, near_px, above.shape[0])[:, None] * np.ones(above.shape[1])
    return np.where(above, np.nan, rows).astype(np.float32)


def matched_above(disparity, above, value_px, share=1.0):
    """Some of the pixels above, from the left border on, are known, at one value."""
    known = above & (np.arange(above.shape[1]) < share * above.shape[1])
    return np.where(known, np.float32(value_px), disparity)


@pytest.mark.parametrize("size", [(180, 240), (540, 720), (100, 240), (400, 200)], ids=str)
@pytest.mark.parametrize("witness_px", [None, 0.0, 2.0])
def test_a_blue_sky_above_the_ground_is_found(size, witness_px):
    picture, above = scene(*BLUE, horizon=round(0.45 * size[0]), size=size)
    disparity = ground(above)
    if witness_px is not None:
        disparity = matched_above(disparity, above, witness_px, share=0.2)
    sky = find_sky(picture, disparity)
    assert sky.shape == size
    assert sky.dtype == bool
    assert sky[above].mean() > 0.85
    assert not sky[~above].any()


def test_the_sky_of_a_matched_map_of_another_size_than_the_picture():
    picture, above = scene(*BLUE)
    smaller = cv2.resize(ground(above), (120, 90), interpolation=cv2.INTER_NEAREST)
    sky = find_sky(picture, smaller)
    assert sky.shape == (90, 120)
    assert sky[:35].mean() > 0.8
    assert not sky[42:].any()


def test_a_bright_ceiling_above_a_farther_wall_is_none():
    picture, above = scene(*OVERCAST)
    disparity = ground(above, far_px=4.0, near_px=6.0)  # the wall; the ceiling comes nearer
    assert not find_sky(picture, matched_above(disparity, above, 12.0, share=0.3)).any()


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_a_blue_wall_in_the_foreground_is_none(share):
    picture, above = scene(*BLUE)
    assert not find_sky(picture, matched_above(ground(above), above, 19.0, share=share)).any()


def test_clouds_need_witnesses_and_a_blue_sky_only_none_against_it():
    picture, above = scene(*OVERCAST)
    disparity = ground(above)
    assert not find_sky(picture, disparity).any()
    assert not find_sky(picture, matched_above(disparity, above, 1.0, share=0.01)).any()
    sky = find_sky(picture, matched_above(disparity, above, 1.0, share=0.2))
    assert sky[above].mean() > 0.85
    assert not sky[~above].any()


def test_nothing_is_found_below_nor_inside():
    picture, above = scene(*BLUE)
    upside_down, disparity = picture[::-1].copy(), ground(above)[::-1].copy()
    assert not find_sky(upside_down, disparity).any()
    pond = scene(*BLUE)[0]
    pond[120:170, 40:200] = BLUE[0]
    known = ground(above)
    known[120:170, 40:200] = np.nan
    assert not find_sky(pond, known)[HORIZON:].any()
    framed = picture.copy()
    framed[:3] = texture(3, SIZE[1], 9)
    assert not find_sky(framed, ground(above)).any()  # it no longer hangs from the border


@pytest.mark.parametrize("colours", [((8, 8, 14), (10, 10, 22)), ((40, 45, 60), (30, 35, 60))])
def test_a_night_is_none(colours):
    picture, above = scene(*colours)
    assert not find_sky(picture, matched_above(ground(above), above, 0.0, share=0.3)).any()


@pytest.mark.parametrize("colours", [((220, 190, 120), (240, 210, 140)), ((180, 60, 50), (190, 70, 60))])
def test_warm_and_red_walls_are_none(colours):
    picture, above = scene(*colours)
    assert not find_sky(picture, matched_above(ground(above), above, 0.0, share=0.3)).any()


def test_textured_blue_and_a_small_patch_are_none():
    picture, above = scene(*BLUE)
    rough = picture.astype(int) + (np.random.default_rng(0).normal(0, 60, (*SIZE, 1)) * above[..., None]).astype(int)
    assert find_sky(np.clip(rough, 0, 255).astype(np.uint8), ground(above)).mean() < 0.02
    patch = texture(*SIZE, 4).astype(np.uint8)
    patch[:10, 100:125] = BLUE[0]
    assert not find_sky(patch, ground(np.zeros(SIZE, bool))).any()


def test_mirroring_the_picture_mirrors_its_sky():
    picture, above = scene(*BLUE)
    picture[20:HORIZON, 30:70] = texture(HORIZON - 20, 40, 8)
    sky = find_sky(picture, ground(above))
    reflected = find_sky(picture[:, ::-1].copy(), ground(above)[:, ::-1].copy())[:, ::-1]
    assert (sky ^ reflected).mean() < 0.01
    assert not sky[22 : HORIZON - 2, 32:68].any()
    assert sky[5:15].mean() > 0.9


def test_maps_without_anything_known_and_tiny_pictures():
    picture, above = scene(*BLUE)
    empty = np.full(SIZE, np.nan, np.float32)
    assert not find_sky(picture, empty)[~above].any()
    for size in ((1, 1), (2, 9), (9, 2)):
        assert find_sky(np.full((*size, 3), 200, np.uint8), np.full(size, np.nan, np.float32)).shape == size


@pytest.mark.data
def test_no_sky_in_rooms(real_data):
    """The Middlebury scenes are all indoors; their own truth, and what is matched, speak against a sky."""
    found, num_rooms = {}, 0
    for name, left, right, truth in truth_scenes(real_data):
        if not name.startswith("middlebury"):
            continue
        num_rooms += 1
        share = find_sky(left, np.where(truth > 0, truth, np.nan).astype(np.float32)).mean()
        if share > 0:
            found[name] = round(float(share), 4)
        if name.endswith(("Plastic", "Lampshade1", "Midd1")):  # large bare walls
            matched = match(left, right, MatchConfig(max_side_px=320))
            small = matched.left.picture
            assert not find_sky(small, matched.left.disparity_px).any(), name
    assert num_rooms == 27
    assert not found
