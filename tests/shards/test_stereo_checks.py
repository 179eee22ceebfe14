import cv2
import numpy as np
import pytest

from shards.images import read_picture
from shards.stereo_checks import looks_anaglyph, looks_equirectangular, share_in_common, shifted_shares

from .stereo_scene import stereo_pair, texture


def scene(seed):
    return tuple(cv2.resize(eye, (480, 360)) for eye in stereo_pair(seed=seed)[:2])


@pytest.mark.parametrize("seed", range(3))
def test_two_views_have_much_in_common_and_two_pictures_little(seed):
    left, right = scene(seed)
    assert share_in_common(left, right) > 0.45
    assert share_in_common(right, left) > 0.45
    assert share_in_common(left, scene(seed + 10)[1]) < 0.1
    assert share_in_common(left[:, :240], left[:, 240:]) < 0.1


def test_brightness_that_all_landscapes_share_does_not_count():
    sky = np.linspace(230, 40, 360)[:, None, None] * np.ones((1, 480, 3))
    one, two = (np.clip(sky + texture(360, 480, seed) * 0.3 - 38, 0, 255).astype(np.uint8) for seed in (1, 2))
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.8
    assert share_in_common(one, two) < 0.1


def test_nothing_is_said_of_pictures_without_texture():
    assert share_in_common(np.full((90, 120, 3), 200, np.uint8), np.full((90, 120, 3), 10, np.uint8)) is None


@pytest.mark.parametrize("shape", [(1, 2000), (2000, 1), (5, 5), (30, 3000), (3000, 30)])
def test_odd_shapes_are_answered(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    assert share_in_common(noise, noise) in (None, 1.0)
    assert looks_anaglyph(noise) in (True, False)
    assert looks_equirectangular(noise) is False


def tinted(rgb):
    """The channels of a photograph show the same edges; those of the made texture do not."""
    return np.clip(rgb[..., 1:2] * np.array([1.1, 0.9, 0.7]), 0, 255).astype(np.uint8)


def anaglyph(left, right, channel):
    mixed = left.copy()
    mixed[..., channel] = right[..., channel]
    return mixed


@pytest.mark.parametrize("channel", range(3))
def test_anaglyphs_of_any_colours_are_told_from_the_photograph_itself(channel):
    eyes = stereo_pair(360, 480, wall_px=8, boxes=((40, 200, 50, 250, 20.0),))[:2]
    left, right = (tinted(eye) for eye in eyes)
    assert looks_anaglyph(anaglyph(left, right, channel))
    assert looks_anaglyph(anaglyph(right, left, channel))
    assert max(shifted_shares(left)) == 0
    assert not looks_anaglyph(left)


def test_a_shift_down_or_by_the_lens_is_no_anaglyph():
    left = tinted(texture(360, 480, 3))
    assert not looks_anaglyph(anaglyph(left, np.roll(left, 1, axis=1), 0))
    assert not looks_anaglyph(anaglyph(left, np.roll(left, 12, axis=0), 0))


def around(height=200, width=400):
    """A made 360 degree picture: texture that wraps around and runs together at the poles."""
    wide = np.roll(texture(height, width, 5), width // 2, axis=1)
    blend = np.linspace(0, 1, width)[None, :, None] ** 3
    wide = (1 - blend) * wide + blend * np.roll(wide, width // 2, axis=1)[:, ::-1][:, :width]
    wide[:, -1] = wide[:, 0]
    wide = cv2.GaussianBlur(np.concatenate([wide] * 3, axis=1), (0, 0), 6)[:, width : 2 * width]
    weight = np.sin(np.linspace(0, np.pi, height))[:, None, None] ** 0.5
    return np.clip((wide - 128) * weight * 3 + 128, 0, 255).astype(np.uint8)


def test_a_360_degree_picture_wraps_around():
    sphere = around()
    assert looks_equirectangular(sphere)
    assert looks_equirectangular(np.roll(sphere, 77, axis=1))
    assert not looks_equirectangular(sphere[:, :300])
    assert not looks_equirectangular(sphere[:150, 20:320])  # two to one, but cut out of it


def test_a_framed_photograph_of_two_to_one_is_none():
    framed = np.zeros((200, 400, 3), dtype=np.uint8)
    framed[20:180, 20:380] = texture(160, 360, 1)
    assert not looks_equirectangular(framed)


@pytest.mark.data
def test_of_the_real_photographs_none_is_taken_for_an_anaglyph_or_a_360_degree_picture(real_data):
    for path in sorted((real_data / "webstereo" / "mixed").glob("*_A.jpg"))[::3]:
        rgb = read_picture(path)
        assert not looks_anaglyph(rgb), path.name
        assert not looks_equirectangular(rgb), path.name
    assert looks_anaglyph(read_picture(real_data / "webstereo" / "formats" / "persepolis.anaglyph.jpg"))
