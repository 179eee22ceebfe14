import numpy as np
import pytest

from shards.flow import grey
from shards.sgbm import match_rows

from .stereo_scene import mirrored, moved, stereo_pair, texture


def shifted_pair(shift_px, height=60, width=160):
    """A wall whose left picture lies `shift_px` further right than its right one."""
    wall = grey(texture(height, width + 80, seed=3).astype(np.uint8))
    return wall[:, 40 : 40 + width], wall[:, 40 + shift_px : 40 + shift_px + width]


@pytest.mark.parametrize("shift_px", [-25, -8, 0, 1, 16, 30])
@pytest.mark.parametrize("bounds", [(-40, 40), (-25.5, 30.2)])
def test_a_shift_of_either_sign_is_recovered_in_both_pictures(shift_px, bounds):
    left, right = shifted_pair(shift_px)
    for found, border in zip(match_rows(left, right, *bounds), (left, right), strict=True):
        assert found.shape == border.shape
        assert found.dtype == np.float32
        assert np.isfinite(found).mean() > 0.7
        assert np.nanmedian(found) == pytest.approx(shift_px, abs=0.1)
        assert (np.abs(found - shift_px) < 1).sum() > 0.97 * np.isfinite(found).sum()


def test_columns_near_the_border_are_searched_too():
    left, right = shifted_pair(20)
    of_left, of_right = match_rows(left, right, -40, 40)
    assert np.isfinite(of_left[:, 26:34]).mean() > 0.8  # their whole range would need 40 columns on the left
    assert np.isfinite(of_right[:, -34:-26]).mean() > 0.8


def test_what_only_one_eye_sees_is_unknown():
    left, right = shifted_pair(20)
    of_left, of_right = match_rows(left, right, 0, 32)
    assert np.isfinite(of_left[:, :17]).mean() < 0.15
    assert np.isfinite(of_right[:, -17:]).mean() < 0.15
    left, right, _ = stereo_pair()
    of_left, _ = match_rows(grey(left), grey(right), 0, 20)
    assert np.isfinite(of_left[50:100, 42:47]).mean() < 0.3


def test_left_and_right_agree_wherever_they_are_known():
    left, right, _ = stereo_pair(seed=7)
    of_left, of_right = match_rows(grey(left), grey(moved(right, right_px=7)), -12, 16)
    y, x = np.nonzero(np.isfinite(of_left))
    at = np.clip(np.rint(x - of_left[y, x]).astype(int), 0, 239)
    other = of_right[y, at]
    assert (np.abs(other - of_left[y, x])[np.isfinite(other)] < 2).mean() > 0.99


def test_unrelated_pictures_seldom_agree():
    left, right = (grey(stereo_pair(seed=seed)[0]) for seed in (1, 2))
    assert max(np.isfinite(side).mean() for side in match_rows(left, right, -30, 30)) < 0.35


def test_mirrored_and_swapped_pictures_give_the_mirrored_maps():
    left, right, _ = stereo_pair()
    greys = grey(left), grey(right)
    of_left, of_right = match_rows(*greys, -3, 20)
    of_right_mirrored, of_left_mirrored = match_rows(mirrored(greys[1]), mirrored(greys[0]), -3, 20)
    for one, other in ((of_left, mirrored(of_left_mirrored)), (of_right, mirrored(of_right_mirrored))):
        both = np.isfinite(one) & np.isfinite(other)
        assert both.mean() > 0.95 * np.isfinite(one).mean()
        assert np.percentile(np.abs(one - other)[both], 99) < 0.5


def test_an_empty_range_and_blank_pictures_do_no_harm():
    left, right = shifted_pair(3)
    of_left, _ = match_rows(left, right, 3, 3)
    assert np.nanmedian(of_left) == pytest.approx(3, abs=0.2)
    blank = np.full((40, 60), 90, np.uint8)
    for side in match_rows(blank, blank, -70, 70):  # a range beyond the width
        assert side.shape == (40, 60)
