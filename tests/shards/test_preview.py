import io

import numpy as np
import pytest
from PIL import Image

from shards.preview import PANE_HEIGHT_PX, PANE_WIDTH_PX, preview_strip, turbo


def opened(strip):
    with Image.open(io.BytesIO(strip)) as image:
        return np.asarray(image).astype(int)


def flat(height, width, colour):
    return np.full((height, width, 3), colour, dtype=np.uint8)


def ramp(height, width):
    return np.tile(np.linspace(-5, 5, width, dtype=np.float32), (height, 1))


def test_colours_run_from_far_blue_to_near_red_and_unknown_is_black():
    disparity = ramp(10, 90)
    known = np.ones_like(disparity, dtype=bool)
    known[:, :9] = False
    colours = turbo(disparity, known).astype(int)
    assert (colours[:, :9] == 0).all() and (colours[:, 9:].sum(axis=2) > 0).all()
    far, near = colours[0, 20], colours[0, -1]
    assert far[2] > far[0] and near[0] > near[2]
    assert (turbo(disparity, np.zeros_like(known)) == 0).all()
    assert len(np.unique(turbo(np.full((4, 4), 7.0), np.ones((4, 4), dtype=bool)).reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("hw", [(600, 800), (900, 500), (100, 120), (50, 5000), (3000, 2)])
def test_the_panes_are_thirds_in_the_shape_of_the_left_picture(hw):
    strip = opened(preview_strip(flat(*hw, (250, 0, 0)), flat(*hw, (0, 250, 0)), ramp(hw[0] // 2 + 1, hw[1] // 2 + 1)))
    height, width = strip.shape[0], strip.shape[1] // 3
    assert strip.shape[1] == 3 * width and height <= PANE_HEIGHT_PX and width <= PANE_WIDTH_PX
    assert height <= hw[0] and width <= hw[1]  # a small picture is not blown up
    if min(height, width) > 20:
        assert abs(width / height - hw[1] / hw[0]) < 0.02
        np.testing.assert_allclose(strip[height // 2, width // 2], (250, 0, 0), atol=6)
        np.testing.assert_allclose(strip[height // 2, width + width // 2], (0, 250, 0), atol=6)
        far, near = strip[height // 2, 2 * width + width // 8], strip[height // 2, -width // 8]
        assert far[2] > far[0] and near[0] > near[2]


def test_a_partner_of_another_shape_keeps_its_own():
    strip = opened(preview_strip(flat(200, 300, 90), flat(400, 100, (0, 0, 250)), None))
    blue = strip[:, 300:600, 2] > 150
    assert blue.any(axis=1).sum() == pytest.approx(200, abs=2) and blue.any(axis=0).sum() == pytest.approx(50, abs=2)
    assert np.ptp(strip[:, 610:]) < 8 and strip[100, 700].max() < 60


def test_the_bytes_depend_on_the_pictures_alone():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 255, (2, 80, 90, 3), dtype=np.uint8)
    disparity = rng.normal(size=(40, 45)).astype(np.float32)
    disparity[:, :5] = np.nan
    assert preview_strip(left, right, disparity) == preview_strip(left.copy(), right.copy(), disparity.copy())
