import json

import cv2
import numpy as np
import pytest

from shards.align import Alignment, estimate_alignment, unexplained_vertical, warp_partner
from shards.config import MatchConfig
from shards.flow import consistent, sample_at
from shards.match import blank, match, without_islands
from shards.pairs import Tolerance, relations

from .stereo_scene import mirrored, moved, stereo_pair, truth_scenes

CONFIG = MatchConfig()


def error_and_coverage(matched, truth, *, margin_px=3):
    """Share of known pixels away from depth edges that are off by more than a pixel, and the known share."""
    kernel = np.ones((2 * margin_px + 1, 2 * margin_px + 1))
    flat = cv2.dilate(truth, kernel) - cv2.erode(truth, kernel) < 1
    judged = flat & matched.left.known
    off = matched.left.disparity_px - truth
    off -= np.median(off[judged])
    return float((np.abs(off[judged]) > 1).mean()), float(matched.left.known.mean())


def test_disparity_is_right_and_larger_is_nearer():
    left, right, truth = stereo_pair()
    matched = match(left, right, CONFIG)
    wrong, coverage = error_and_coverage(matched, truth)
    assert wrong < 0.01
    assert coverage > 0.8
    assert np.nanmedian(matched.left.disparity_px[60:90, 65:90]) == pytest.approx(14, abs=0.3)
    assert np.nanmedian(matched.left.disparity_px[:30, 120:]) == pytest.approx(3, abs=0.3)
    assert np.isnan(matched.left.disparity_px[~matched.left.known]).all()
    json.dumps(matched.figures(), allow_nan=False)


def test_half_occluded_pixels_are_unknown():
    left, right, truth = stereo_pair()
    hidden = np.zeros_like(truth, dtype=bool)
    hidden[45:105, 41:48] = True  # left of the nearest box: seen by the left eye only, 11 px wide
    matched = match(left, right, CONFIG)
    assert matched.left.known[hidden].mean() < 0.15


def test_disparities_of_both_signs():
    left, right, truth = stereo_pair()
    matched = match(left, moved(right, right_px=8), CONFIG)
    assert np.nanpercentile(matched.left.disparity_px, 2) < -3 < 3 < np.nanpercentile(matched.left.disparity_px, 98)
    assert error_and_coverage(matched, truth)[0] < 0.01


def test_the_reference_is_never_warped():
    left, right, _ = stereo_pair()
    matched = match(left, moved(right, degrees=1.5, down_px=6), CONFIG)
    np.testing.assert_array_equal(matched.left.picture, left)
    assert not np.array_equal(matched.right.picture, right)


@pytest.mark.parametrize(
    "pose", [{"degrees": 1.5}, {"scale": 1.03}, {"down_px": 12}, {"degrees": -1, "scale": 0.98, "down_px": -8}], ids=str
)
def test_a_partner_held_differently_is_aligned(pose):
    left, right, truth = stereo_pair(240, 320, wall_px=4)
    right = moved(right, **pose)
    loose = match(left, right, MatchConfig(align=False))
    aligned = match(left, right, CONFIG)
    assert np.percentile(np.abs(aligned.left.vertical_px), 90) < 0.5
    wrong, coverage = error_and_coverage(aligned, truth)
    assert wrong < 0.02
    assert coverage > 0.7
    assert error_and_coverage(loose, truth)[0] > wrong or pose.keys() == {"down_px"}


def test_alignment_recovers_what_was_done():
    left, right, _ = stereo_pair(240, 320, wall_px=4)
    found = estimate_alignment(left, moved(right, degrees=1.0, scale=1.02, down_px=5))
    assert found.roll == pytest.approx(-np.deg2rad(1.0) * 1.02, abs=0.002)
    assert found.zoom == pytest.approx(0.02, abs=0.002)
    assert found.offset * 320 == pytest.approx(5, abs=0.5)


def test_alignment_leaves_an_aligned_pair_and_unrelated_pictures_alone():
    left, right, _ = stereo_pair()
    shift_x, shift_y = estimate_alignment(left, right).shift(*left.shape[:2])
    assert max(np.abs(shift_x).max(), np.abs(shift_y).max()) < 0.5
    noise = np.random.default_rng(0).integers(0, 256, left.shape).astype(np.uint8)
    warped, covered = warp_partner(noise, estimate_alignment(left, noise))
    assert warped.shape == left.shape
    assert covered.mean() > 0.5


def test_places_that_the_warped_partner_does_not_cover_are_unknown():
    left, right, _ = stereo_pair()
    matched = match(left, moved(right, down_px=20), CONFIG)
    assert matched.left.known[-15:].mean() < 0.02


def test_a_tilted_baseline_is_forgiven_but_not_a_steep_one():
    draw = np.random.default_rng(0)
    horizontal = draw.uniform(-30, 30, (60, 80)).astype(np.float32)
    known = np.ones((60, 80), dtype=bool)
    for tilt, left_over in ((0.1, 0.0), (-0.2, 0.0), (0.6, 9.0)):
        flow = np.stack([horizontal, tilt * horizontal], axis=2)
        vertical, found = unexplained_vertical(flow, known)
        assert float(np.abs(vertical).mean()) == pytest.approx(left_over, abs=0.3)
        assert found == pytest.approx(tilt if left_over == 0 else 0.0, abs=0.02)


def test_large_pictures_are_matched_at_the_bounded_size():
    left, right, truth = stereo_pair()
    larger = [cv2.resize(picture, (480, 360), interpolation=cv2.INTER_CUBIC) for picture in (left, right)]
    matched = match(*larger, MatchConfig(max_side_px=240))
    assert matched.left.known.shape == (180, 240)
    assert error_and_coverage(matched, truth)[0] < 0.02


def test_matching_is_deterministic():
    left, right, _ = stereo_pair()
    first, second = match(left, right, CONFIG), match(left, right, CONFIG)
    np.testing.assert_array_equal(first.left.disparity_px, second.left.disparity_px)


def test_pictures_of_two_sizes_are_refused():
    left, right, _ = stereo_pair()
    with pytest.raises(ValueError, match="size"):
        match(left, right[:, :-2], CONFIG)


def test_alignment_units_do_not_depend_on_the_size():
    pose = Alignment(offset=0.01, roll=0.02, zoom=-0.01, yaw=0.03, pitch=-0.02)
    small, large = pose.shift(100, 150), pose.shift(200, 300)
    for a, b in zip(small, large, strict=True):
        np.testing.assert_allclose(b[:2, :2].mean(), 2 * a[0, 0], atol=0.05)


def test_consistency_follows_the_flow_bilinearly():
    forward = np.zeros((20, 30, 2), dtype=np.float32)
    forward[..., 0] = 2.5
    backward = -forward
    backward[:, 15:, 1] = 2.0
    known = consistent(forward, backward, 1.0)
    assert known[:, :11].all()
    assert not known[:, 13:].any()
    assert not known[:, -2:].any()
    ramp = np.tile(np.arange(30, dtype=np.float32), (20, 1))
    at = np.full((1, 1), 3.25, dtype=np.float32)
    assert sample_at(ramp, at, at, outside=-1.0)[0, 0] == pytest.approx(3.25)
    assert sample_at(ramp, at - 10, at, outside=-1.0)[0, 0] == -1.0


def ordinal_error_and_coverage(matched, truth, seed=0, num_pairs=20_000):
    """Wrong strict order in percent over pairs whose truth differs by more than 2 %, and labelled share in percent."""
    height, width = truth.shape
    known = cv2.resize(matched.left.known.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    label = cv2.resize(matched.left.disparity_px, (width, height), interpolation=cv2.INTER_NEAREST)
    places = np.flatnonzero(known & (truth > 0))
    a, b = np.random.default_rng(seed).choice(places, (2, num_pairs))
    relation = relations(truth.flat[a], truth.flat[b], Tolerance("ratio", 0.02))
    strict = np.sign(label.flat[b] - label.flat[a])
    unequal = relation != 0
    return 100 * float((strict != relation)[unequal].mean()), 100 * places.size / int((truth > 0).sum())


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("pose", [{}, {"degrees": -1, "scale": 0.98, "down_px": 12}], ids=["as_is", "held_differently"])
def test_labels_of_real_scenes_are_right(real_data, pose):
    scores = []
    for name, left, right, truth in truth_scenes(real_data):
        score = ordinal_error_and_coverage(match(left, moved(right, **pose) if pose else right, CONFIG), truth)
        scores.append((name, *score))
    error, coverage = np.mean([score[1:] for score in scores], axis=0)
    assert len(scores) == 28
    assert error < (1.1 if not pose else 1.3), scores
    assert coverage > (79.5 if not pose else 74), scores


def test_a_match_of_nothing_with_nothing_is_unknown():
    """An overexposed sky: each shift of it agrees in both directions, and the search range would name one."""
    left, right, _ = stereo_pair(boxes=((90, 160, 60, 120, 14.0),), lean_px=5)
    for level in (0, 200, 255):
        left[:70], right[:70] = level, level
        matched = match(left, right, CONFIG)
        for side in (matched.left, matched.right):
            assert not side.known[:66].any()
            assert side.known[75:].mean() > 0.8
            assert (side.confidence(CONFIG.consistency_px)[:66] == 0).all()


def test_blank_is_where_no_row_nearby_changes():
    picture = np.full((40, 60, 3), 77, np.uint8)
    picture[20, 30] = 90
    y, x = np.mgrid[:40, :60]
    np.testing.assert_array_equal(blank(picture), (abs(y - 20) > 3) | (abs(x - 30) > 7))
    assert blank(np.full((5, 5, 3), 255, np.uint8)).all()
    assert blank(stereo_pair()[0]).mean() == 0
    falling = np.repeat(np.arange(0, 240, 6, dtype=np.uint8)[:, None, None], 60, axis=1).repeat(3, axis=2)
    assert blank(falling).all()  # no row says how far it moved sideways
    assert not blank(falling.transpose(1, 0, 2).copy()).any()


def test_small_patches_that_agree_by_chance_are_dropped():
    disparity = np.zeros((100, 100), dtype=np.float32)
    disparity[20:23, 20:23], disparity[50:70, 50:70] = 9, -7
    known = np.ones((100, 100), dtype=bool)
    known[:, 90:] = False
    kept = without_islands(known, disparity)
    dropped = np.argwhere(known & ~kept)
    np.testing.assert_array_equal(dropped, [(y, x) for y in range(20, 23) for x in range(20, 23)])
    assert not kept[:, 90:].any()


def test_mirroring_and_swapping_gives_the_same_scene():
    left, right, truth = stereo_pair()
    matched = match(mirrored(right), mirrored(left), CONFIG)
    off = matched.left.disparity_px[:, ::-1] - match(right, left, CONFIG).left.disparity_px * -1
    assert np.nanpercentile(np.abs(off), 90) < 0.3
    assert truth.max() == 14
