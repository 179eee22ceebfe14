import cv2
import numpy as np
import pytest

from shards.align import Alignment, estimate_alignment, unwarp_map, warp_partner

from .stereo_scene import moved, stereo_pair

POSES = [
    Alignment(offset=0.03),
    Alignment(roll=0.03),
    Alignment(zoom=-0.04),
    Alignment(yaw=0.15),
    Alignment(pitch=-0.12),
    Alignment(offset=-0.02, roll=0.02, zoom=0.02, yaw=-0.05, pitch=0.05),
]


def interior(height, width, margin=0.15):
    y, x = np.mgrid[:height, :width]
    return (np.minimum(y, height - 1 - y) > margin * height) & (np.minimum(x, width - 1 - x) > margin * width)


@pytest.mark.parametrize("pose", POSES, ids=str)
@pytest.mark.parametrize("size_hw", [(180, 240), (300, 160)])
def test_a_map_warped_there_and_back_is_where_it_was(pose, size_hw):
    """The map holds its own coordinates, so that its error is a distance in pixels."""
    height, width = size_hw
    y, x = np.mgrid[:height, :width].astype(np.float32)
    shift_x, shift_y = pose.shift(height, width)
    assert max(np.abs(shift_x).max(), np.abs(shift_y).max()) > 2
    inside = interior(height, width)
    error_px = []
    for place in (x, y):
        aligned = cv2.remap(place, x + shift_x, y + shift_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        error_px.append(unwarp_map(aligned, pose, outside=np.nan) - place)
    assert np.abs(error_px)[:, inside].max() <= 0.75
    assert np.hypot(*error_px)[inside].mean() < 0.45


def test_no_two_values_are_mixed_and_holes_stay_holes():
    pose = POSES[-1]
    labels = np.random.default_rng(0).choice(np.array([0, 7, 255], np.uint8), (90, 120))
    back = unwarp_map(labels, pose, outside=0)
    assert back.dtype == np.uint8
    assert back.shape == labels.shape
    assert set(np.unique(back)) <= {0, 7, 255}
    holes = np.where(labels == 0, np.nan, 1.0).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(unwarp_map(holes, pose, outside=np.nan)), back == 0)


def test_no_alignment_changes_nothing():
    field = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    np.testing.assert_array_equal(unwarp_map(field, Alignment(), outside=np.nan), field)
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    warped, covered = warp_partner(picture, Alignment())
    np.testing.assert_array_equal(warped, picture)
    assert covered.all()


def test_what_was_aligned_comes_back_to_the_partner_as_it_was_given():
    """The estimate of a real pose, and the picture itself as the map."""
    left, right, _ = stereo_pair(240, 320, wall_px=4)
    given = moved(right, degrees=-1.2, scale=1.02, down_px=6)
    pose = estimate_alignment(left, given)
    aligned, _ = warp_partner(given, pose)
    back = unwarp_map(aligned[..., 1], pose, outside=0).astype(np.float32)
    inside = interior(240, 320)
    blurred = [cv2.GaussianBlur(one.astype(np.float32), (0, 0), 2.0)[inside] for one in (back, given[..., 1])]
    stayed = cv2.GaussianBlur(aligned[..., 1].astype(np.float32), (0, 0), 2.0)[inside]
    assert np.abs(blurred[0] - blurred[1]).mean() < 0.25 * np.abs(stayed - blurred[1]).mean()


def test_two_small_poses_add_up():
    one, two = POSES[0], POSES[1]
    assert one.plus(two) == two.plus(one) == Alignment(offset=0.03, roll=0.03)
    for parts in zip(*(pose.shift(60, 80) for pose in (one, two, one.plus(two))), strict=True):
        np.testing.assert_allclose(parts[0] + parts[1], parts[2], atol=1e-4)


def test_what_the_aligned_frame_cut_off_is_outside():
    pose = Alignment(offset=0.1)
    back = unwarp_map(np.ones((100, 100), dtype=np.float32), pose, outside=np.nan)
    assert np.isnan(back[:9]).all()
    assert (back[11:] == 1).all()
