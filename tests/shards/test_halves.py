import numpy as np
import pytest
from PIL import Image

from shards.frames import border_box, common_box
from shards.halves import equalise
from shards.images import read_picture

from .stereo_scene import texture


def picture(height, width, seed=0):
    return texture(height, width, seed).astype(np.uint8)


def test_equal_pictures_stay_as_they_are():
    left, right = picture(60, 80), picture(60, 80, 1)
    halves = equalise(left, right)
    assert halves.left is left and halves.right is right
    assert halves.left_box == halves.right_box == (0, 0, 60, 80) and halves.right_scale == 1


@pytest.mark.parametrize("cut", [((0, 0), (3, 0)), ((0, 5), (3, 0)), ((2, 4), (0, 0)), ((1, 0), (0, 1))])
def test_a_few_rows_and_columns_are_cropped_about_the_centre(cut):
    whole = picture(200, 300)
    left, right = (whole[: 200 - rows, : 300 - columns] for rows, columns in cut)
    halves = equalise(left, right)
    assert (
        halves.left.shape == halves.right.shape == (200 - max(cut[0][0], cut[1][0]), 300 - max(cut[0][1], cut[1][1]), 3)
    )
    assert halves.right_scale == 1
    for given, kept, (y, x, height, width) in (
        (left, halves.left, halves.left_box),
        (right, halves.right, halves.right_box),
    ):
        np.testing.assert_array_equal(kept, given[y : y + height, x : x + width])
        assert 0 <= (given.shape[0] - height) - 2 * y <= 1 and 0 <= (given.shape[1] - width) - 2 * x <= 1


@pytest.mark.parametrize("factor", [0.5, 0.8, 0.97, 1.6, 3.0])
def test_of_one_aspect_the_partner_is_scaled_and_the_reference_kept(factor):
    left = np.array(Image.fromarray(picture(20, 30)).resize((300, 200), Image.Resampling.BICUBIC))
    size = (round(300 * factor), round(200 * factor))
    right = np.array(Image.fromarray(left).resize(size, Image.Resampling.BICUBIC))
    halves = equalise(left, right)
    assert halves.left is left
    assert halves.right.shape == left.shape and halves.right_scale == pytest.approx(1 / factor, rel=0.005)
    assert np.abs(halves.right.astype(int) - left)[5:-5, 5:-5].mean() < 4


@pytest.mark.parametrize("shape", [(200, 200), (180, 300), (300, 200), (200, 340), (40, 60)])
def test_what_differs_much_is_no_pair(shape):
    assert equalise(picture(200, 300), picture(*shape)) is None


def framed(colour, inner=(60, 80), box=(12, 9, 15, 20), seed=0):
    top, bottom, left, right = box
    out = np.empty((inner[0] + top + bottom, inner[1] + left + right, 3), dtype=np.uint8)
    out[:] = colour
    out[top : top + inner[0], left : left + inner[1]] = picture(*inner, seed)
    return out


@pytest.mark.parametrize("colour", [(255, 255, 255), (128, 128, 128), (236, 228, 196), (8, 8, 8), (60, 20, 20)])
def test_borders_of_any_colour_are_found(colour):
    assert border_box(framed(colour, (120, 160), (12, 9, 15, 20))) == (12, 15, 120, 160)
    assert common_box(framed(colour), framed(colour, seed=1)) == (14, 17, 56, 76)


def test_a_dot_in_the_border_does_not_hide_it():
    rgb = framed((0, 0, 0), (120, 160), (30, 9, 15, 20))
    rgb[10:16, 90:96] = 255
    assert border_box(rgb) == (30, 15, 120, 160)


def test_borders_within_borders_and_sides_of_only_one_picture():
    inside = framed((240, 230, 200), (120, 160), (8, 8, 8, 8))
    outside = np.full((156, 196, 3), 255, dtype=np.uint8)
    outside[10:146, 10:186] = inside
    assert common_box(outside, outside) == (20, 20, 116, 156)
    left, right = (
        framed((255, 255, 255), (120, 160), (10, 10, 12, 0)),
        framed((255, 255, 255), (120, 160), (10, 10, 0, 12)),
    )
    assert common_box(left, right) == (12, 14, 116, 144)


def test_what_has_one_colour_without_a_straight_edge_is_content():
    studio = np.full((120, 160, 3), 250, dtype=np.uint8)
    studio[50:90, 60:110] = picture(40, 50)
    sky = np.full((120, 160, 3), 225, dtype=np.uint8)
    for column in range(160):  # a skyline
        sky[40 + int(25 * np.sin(column / 20)) :, column] = picture(120, 160)[
            40 + int(25 * np.sin(column / 20)) :, column
        ]
    fade = picture(120, 160).astype(float)
    fade[:60] = 255 - (255 - fade[:60]) * np.linspace(0, 1, 60)[:, None, None] ** 2
    for rgb in (studio, sky, fade.astype(np.uint8), np.full((50, 50, 3), 255, np.uint8)):
        assert border_box(rgb) == (0, 0, *rgb.shape[:2])


def test_a_picture_without_frame_is_whole():
    assert common_box(picture(60, 80), picture(60, 80, 1)) == (0, 0, 60, 80)


@pytest.mark.data
def test_real_borders_are_found_and_real_skies_kept(real_data):
    mixed = real_data / "webstereo" / "mixed"
    rgb = read_picture(mixed / "wpw_woodland_path_A.jpg")
    y, x, height, width = border_box(rgb)
    assert (y, x) == pytest.approx((17, 17), abs=3) and height < rgb.shape[0] - 25 and width < rgb.shape[1] - 10
    crossview = real_data / "webstereo" / "crossview"
    for path in sorted(crossview.glob("Japan_*_L.jpg")):
        left, right = read_picture(path), read_picture(path.with_name(path.name.replace("_L", "_R")))
        if left.shape == right.shape:
            assert common_box(left, right)[2] > 0.5 * left.shape[0]
