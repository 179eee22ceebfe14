import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from shards.config import MatchConfig, PackConfig, PairsConfig, QualityConfig, ShardsConfig
from shards.decisions import Decision, Decisions, write_decisions
from shards.disparity import LOWEST_CODE, decode_disparity
from shards.errors import DataError, DecodeError
from shards.format import decode_jpeg
from shards.images import encode_jpeg
from shards.prepare import prepare
from shards.sources import Item, StereoPair, open_source
from shards.sources.config import FolderSourceConfig, SyntheticSourceConfig
from shards.stereo import label_stereo

from .stereo_scene import mirrored, moved, stereo_pair, texture

ITEM = Item("beach/a_L.jpg", partner="beach/a_R.jpg")
BOXES = ((20, 75, 40, 90, 13.0), (70, 130, 130, 190, 10.0))


def good_pair(seed=0, **settings):
    return stereo_pair(150, 220, boxes=BOXES, lean_px=5, seed=seed, **settings)


def config(eyes="as_given", **shards):
    source = FolderSourceConfig(kind="folder", path="unused", min_side_px=64, eyes=eyes)
    settings = {"pairs": PairsConfig(num_pairs=200), "sky": "off"} | shards
    return PackConfig(out="unused", source=source, shards=ShardsConfig(**settings))


def label(left, right, settings=None, **pair):
    return label_stereo(ITEM, StereoPair(left, right, **pair), settings or config())


def disparity_of(prepared):
    assert prepared.reason is None, (prepared.reason, prepared.figures)
    disparity, known = decode_disparity(prepared.sample.disparity, prepared.sample.meta["coding"])
    return np.where(known, disparity, np.nan)


def panes(preview):
    strip = np.asarray(Image.open(io.BytesIO(preview)))
    return np.split(strip, 3, axis=1)


def test_a_pair_becomes_a_sample_that_says_how():
    left, right, truth = good_pair()
    prepared = label(left, right)
    off = disparity_of(prepared) - truth
    assert np.isfinite(off).mean() > 0.8
    assert (np.abs(off[np.isfinite(off)]) < 1).mean() > 0.97
    sample = prepared.sample
    assert sample.pairs.shape == (200, 5)
    assert sample.confidence is None
    assert sample.meta["name"] == ITEM.name
    assert sample.meta["eyes"] == "as_given"
    assert sample.meta["size_hw"] == [150, 220]
    assert sample.meta["crop_yxhw"] == [0, 0, 150, 220]
    assert sample.meta["matcher"]["name"] == "fusion"
    assert "raft_weights" not in sample.meta["matcher"]
    assert prepared.figures == sample.meta["figures"]
    json.dumps(sample.meta, allow_nan=False)


@pytest.mark.parametrize(
    "pose",
    [{}, {"right_px": 9}, {"degrees": 1.5}, {"scale": 1.03}, {"degrees": -1, "scale": 0.98, "down_px": -5}],
    ids=str,
)
def test_swapped_input_gives_the_labels_of_the_true_left_eye(pose):
    """The true left picture is never warped as a reference, but as a swapped partner it is: its map comes back."""
    left, right, truth = stereo_pair(240, 320, wall_px=5, lean_px=6, seed=3)
    right = moved(right, **pose) if pose else right
    given, swapped = label(left, right), label(right, left, config("swapped"))
    one, other = disparity_of(given), disparity_of(swapped)
    np.testing.assert_array_equal(decode_jpeg(given.sample.image), decode_jpeg(swapped.sample.image))
    assert (given.sample.meta["eyes"], swapped.sample.meta["eyes"]) == ("as_given", "swapped")
    both = np.isfinite(one) & np.isfinite(other)
    assert both.mean() > 0.75
    for found in (one, other):  # a free constant, and what a rotation leaves of the horizontal fields
        off = found - truth
        off = np.abs(off - np.nanmedian(off))
        assert (off[np.isfinite(off)] < 1.25).mean() > 0.95
    difference = one - other
    difference = np.abs(difference - np.median(difference[both]))[both]
    assert (difference < 1).mean() > 0.95
    assert np.median(difference) < 0.3


def test_larger_is_nearer_whichever_eye_came_first():
    left, right, truth = good_pair(seed=2)
    for prepared in (label(left, right), label(right, left, config("swapped"))):
        y_a, x_a, y_b, x_b, relation = prepared.sample.pairs.T
        apart = np.abs(truth[y_a, x_a] - truth[y_b, x_b]) > 1.5
        expected = np.sign(truth[y_b, x_b] - truth[y_a, x_a])  # +1: A is farther
        assert apart.sum() > 80
        assert (relation == expected)[apart].mean() > 0.97
    wrong_way = label(right, left)  # as given, though it is the right eye's: everything is inside out
    y_a, x_a, y_b, x_b, relation = wrong_way.sample.pairs.T
    truth_of_right = -disparity_of(wrong_way)
    apart = np.abs(truth_of_right[y_a, x_a] - truth_of_right[y_b, x_b]) > 1.5
    assert (relation == np.sign(truth_of_right[y_a, x_a] - truth_of_right[y_b, x_b]))[apart].all()


def test_mirrored_and_swapped_pairs_give_mirrored_labels():
    left, right, truth = good_pair(seed=5)
    reflected = disparity_of(label(mirrored(right), mirrored(left)))
    truth_of_right = disparity_of(label(right, left))  # sign turned: the right eye as the reference
    off = mirrored(reflected) + truth_of_right
    assert np.nanpercentile(np.abs(off), 90) < 0.3
    assert truth.max() > 13


def test_eyes_are_found_where_nobody_says():
    left, right, _ = stereo_pair(240, 320, boxes=((40, 110, 60, 120, 14.0), (120, 200, 190, 260, 16.0)), lean_px=6)
    given, swapped = label(left, right, config("auto")), label(right, left, config("auto"))
    assert (given.sample.meta["eyes"], swapped.sample.meta["eyes"]) == ("as_given", "swapped")
    assert given.figures["eyes_z"] > 2 > -2 > swapped.figures["eyes_z"]
    assert np.nanpercentile(np.abs(disparity_of(given) - disparity_of(swapped)), 95) < 1
    one_surface = stereo_pair(150, 220, boxes=(), wall_px=8, lean_px=16)[:2]
    undecided = label(*one_surface, config("auto"))
    assert (undecided.reason, undecided.sample) == ("eyes_undecided", None)
    assert abs(undecided.figures["eyes_z"]) < 2.2


def test_accepted_and_rejected_pairs_have_previews():
    left, right, _ = good_pair()
    other = good_pair(seed=8)[0]
    flat = stereo_pair(150, 220, boxes=())[:2]
    for pair, reason in (((left, right), None), ((left, other), "inconsistent"), (flat, "flat")):
        prepared = label(*pair)
        assert prepared.reason == reason
        one, two, three = panes(prepared.preview)
        assert one.shape == two.shape == three.shape == (150, 220, 3)
        for pane, picture in ((one, pair[0]), (two, pair[1])):
            assert np.abs(pane.astype(int) - picture).mean() < 14  # fine noise as JPEG keeps it
        if reason is None:
            assert three[40:60, 60:80, 0].mean() > three[40:60, 60:80, 2].mean() + 50  # the near box is red
            assert three[5:15, 5:15, 2].mean() > three[5:15, 5:15, 0].mean()  # the far corner is blue


def test_the_preview_shows_the_true_left_eye_first():
    left, right, _ = good_pair()
    one, two, _ = panes(label(right, left, config("swapped")).preview)
    assert np.abs(one.astype(int) - left).mean() < np.abs(one.astype(int) - right).mean()
    assert np.abs(two.astype(int) - right).mean() < np.abs(two.astype(int) - left).mean()


def decisions_at(path, **decision):
    write_decisions(str(path), Decisions(decisions=(Decision(name=ITEM.name, **decision),)))
    return str(path)


def test_decisions_of_a_person_come_first(tmp_path):
    left, right, _ = good_pair()
    flat = stereo_pair(150, 220, boxes=())[:2]
    dropped = label(left, right, config(decisions=decisions_at(tmp_path / "drop.json", keep=False)))
    assert (dropped.reason, dropped.sample) == ("dropped_by_hand", None)
    assert len(panes(dropped.preview)) == 3
    kept = decisions_at(tmp_path / "keep.json", keep=True)
    assert label(*flat).reason == "flat"
    assert label(*flat, config(decisions=kept)).reason is None
    assert label(*flat, config(decisions=kept)).figures["range_share"] < QualityConfig().min_range_share
    assert label(left, left, config(decisions=kept)).reason == "identical"  # no stereo, whatever is said
    swapped = label(right, left, config("auto", decisions=decisions_at(tmp_path / "swap.json", eyes="swapped")))
    assert swapped.sample.meta["eyes"] == "swapped"
    assert "eyes_z" not in swapped.figures
    np.testing.assert_array_equal(decode_jpeg(swapped.sample.image), decode_jpeg(label(left, right).sample.image))
    settled = label(left, right, config("swapped", decisions=decisions_at(tmp_path / "given.json", eyes="as_given")))
    assert settled.sample.meta["eyes"] == "as_given"


def test_what_is_kept_by_hand_still_needs_its_eyes_decided(tmp_path):
    one_surface = stereo_pair(150, 220, boxes=(), wall_px=8, lean_px=16)[:2]
    kept = decisions_at(tmp_path / "keep.json", keep=True)
    assert label(*one_surface, config("auto", decisions=kept)).reason == "eyes_undecided"
    both = decisions_at(tmp_path / "both.json", keep=True, eyes="as_given")
    assert label(*one_surface, config("auto", decisions=both)).reason is None


def test_decisions_about_others_and_empty_ones_change_nothing(tmp_path):
    left, right, _ = good_pair()
    other = Decision(name="beach/b_L.jpg", keep=False)
    write_decisions(str(tmp_path / "others.json"), Decisions(decisions=(other, Decision(name=ITEM.name))))
    prepared = label(left, right, config(decisions=str(tmp_path / "others.json")))
    assert prepared.sample.meta == label(left, right).sample.meta
    with pytest.raises(DataError, match=r"nothing\.json"):
        label(left, right, config(decisions=str(tmp_path / "nothing.json")))


def test_sizes_that_differ_a_little_are_made_equal_and_others_are_not():
    left, right, truth = good_pair()
    trimmed = label(left, right[2:-1, 1:-2])
    assert trimmed.sample.meta["size_hw"] == [147, 217]
    y, x, height, width = trimmed.sample.meta["crop_yxhw"]
    assert (y, x, height, width) == (1, 1, 147, 217)
    off = disparity_of(trimmed) - truth[y : y + height, x : x + width]
    assert np.nanpercentile(np.abs(off - np.nanmedian(off)), 90) < 1
    doubled = cv2.resize(right, (440, 300), interpolation=cv2.INTER_CUBIC)
    scaled = label(left, doubled)
    assert scaled.sample.meta["size_hw"] == [150, 220]
    assert (np.abs(disparity_of(scaled) - truth) < 1)[np.isfinite(disparity_of(scaled))].mean() > 0.95
    for shape in (right[:-20], right[:, :-30], right[:40, :40]):
        refused = label(left, shape)
        assert (refused.reason, refused.sample, refused.preview) == ("size_mismatch", None, None)
        assert refused.figures["right_hw"] == list(shape.shape[:2])


def test_a_partner_that_is_the_true_left_eye_keeps_its_own_pixels_in_the_crop():
    """A larger right file was scaled to be matched; where the eyes are swapped it is the one that is stored."""
    left, right, truth = good_pair()
    larger = cv2.resize(left, (330, 225), interpolation=cv2.INTER_CUBIC)
    swapped = label(right, larger, config("swapped"))
    assert swapped.sample.meta["crop_yxhw"] == [0, 0, 225, 330]
    assert swapped.sample.meta["size_hw"] == [150, 220]
    off = disparity_of(swapped) - truth
    assert (np.abs(off) < 1)[np.isfinite(off)].mean() > 0.95


@pytest.mark.parametrize("swapped", [False, True])
def test_the_crop_of_a_letterboxed_pair_is_where_the_picture_is(swapped):
    left, right, truth = good_pair()
    framed = np.zeros((2, 190, 240, 3), dtype=np.uint8)
    framed[:, 30:180, 12:232] = left, right
    first, second = framed[::-1] if swapped else framed
    prepared = label(first, second, config("swapped" if swapped else "as_given"), left_jpeg=b"no", right_jpeg=b"no")
    y, x, height, width = prepared.sample.meta["crop_yxhw"]
    assert (30 <= y <= 33, 12 <= x <= 15) == (True, True)
    assert (177 <= y + height <= 180, 229 <= x + width <= 232) == (True, True)
    shown = framed[0][y : y + height, x : x + width]
    assert np.abs(decode_jpeg(prepared.sample.image).astype(int) - shown).mean() < 4
    off = disparity_of(prepared) - truth[y - 30 : y - 30 + height, x - 12 : x - 12 + width]
    assert (np.abs(off) < 1)[np.isfinite(off)].mean() > 0.95


def test_the_original_bytes_are_kept_only_of_an_untouched_picture():
    left, right, _ = good_pair()
    jpegs = {"left_jpeg": encode_jpeg(left, 99), "right_jpeg": encode_jpeg(right, 98)}
    assert label(left, right, **jpegs).sample.image == jpegs["left_jpeg"]
    swapped = label(right, left, config("swapped"), left_jpeg=b"other", right_jpeg=jpegs["left_jpeg"])
    assert swapped.sample.image == jpegs["left_jpeg"]
    scaled = label(left, right, config(long_side_px=110), **jpegs)
    trimmed = label(left, right[2:-2], **jpegs)
    for prepared, size in ((scaled, (75, 110)), (trimmed, (146, 220))):
        assert prepared.sample.image not in jpegs.values()
        assert decode_jpeg(prepared.sample.image).shape[:2] == size == prepared.sample.disparity.shape
    scaled_up = label(left, cv2.resize(right, (440, 300)), **jpegs)
    assert scaled_up.sample.image == jpegs["left_jpeg"]


def outdoors():
    """A pair with a blue top that nothing matches in."""
    left, right, truth = stereo_pair(180, 240, boxes=((90, 160, 60, 120, 14.0),), lean_px=5)
    blue = np.linspace((110, 150, 205), (140, 175, 225), 70)[:, None]
    left[:70], right[:70] = blue, blue
    return left, right, truth


def test_sky_is_the_farthest_and_certain():
    left, right, _ = outdoors()
    found = label(left, right, config(sky="detect", confidence=True))
    sample = found.sample
    assert (sample.disparity[:60] == LOWEST_CODE).mean() > 0.9
    assert (sample.confidence[sample.disparity == LOWEST_CODE] == 255).mean() > 0.99
    assert not (sample.disparity[72:] == LOWEST_CODE).mean() > 0.01
    assert sample.meta["figures"]["sky_share"] == pytest.approx(70 / 180, abs=0.06)
    y_a, _, y_b, _, relation = sample.pairs.T
    for row_sky, row_ground, sign in ((y_a, y_b, 1), (y_b, y_a, -1)):
        across = (row_sky < 60) & (row_ground > 90)
        assert across.sum() >= 8
        assert (relation[across] == sign).mean() > 0.8  # the farthest ground is as far as the sky is coded
        assert not (relation[across] == -sign).any()


@pytest.mark.parametrize("mode", ["off", "masks"])
def test_sky_is_left_alone_on_request(mode):
    left, right, _ = outdoors()
    sample = label(left, right, config(sky=mode)).sample
    assert sample.meta["figures"]["sky_share"] == 0
    assert (sample.disparity == LOWEST_CODE).mean() < 0.01


@pytest.mark.parametrize("mode", ["detect", "masks"])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_mask_of_the_source_is_cropped_with_its_picture(mode, swapped):
    left, right, _ = good_pair()
    framed = np.zeros((2, 200, 220, 3), dtype=np.uint8)
    framed[:, 25:175] = left, right
    sky = np.zeros((200, 220), dtype=bool)
    sky[:55] = True  # 30 rows of the picture
    none = np.zeros_like(sky)
    first, second = framed[::-1] if swapped else framed
    masks = {"left_sky": none, "right_sky": sky} if swapped else {"left_sky": sky, "right_sky": none}
    sample = label(first, second, config("swapped" if swapped else "as_given", sky=mode), **masks).sample
    y, _, height, _ = sample.meta["crop_yxhw"]
    rows = 55 - y
    assert (sample.disparity[:rows] == LOWEST_CODE).all()
    assert (sample.disparity[rows:] == LOWEST_CODE).mean() < 0.01
    assert sample.meta["figures"]["sky_share"] == pytest.approx(rows / height, abs=1e-3)
    off = label(first, second, config("swapped" if swapped else "as_given", sky="off"), **masks).sample
    assert off.meta["figures"]["sky_share"] == 0


def test_a_mask_of_another_size_is_the_pictures_fault():
    left, right, _ = good_pair()
    with pytest.raises(DecodeError, match=r"a_L\.jpg.*\(10, 10\).*\(150, 220\)"):
        label(left, right, config(sky="masks"), left_sky=np.zeros((10, 10), bool))


def test_confidence_is_stored_on_request_and_zero_exactly_where_nothing_is_known():
    left, right, truth = good_pair()
    for settings in (config(confidence=True), config("swapped", confidence=True)):
        first, second = (left, right) if settings.source.eyes == "as_given" else (right, left)
        sample = label(first, second, settings).sample
        assert sample.confidence.dtype == np.uint8
        np.testing.assert_array_equal(sample.confidence == 0, sample.disparity == 0)
        disparity, known = decode_disparity(sample.disparity, sample.meta["coding"])
        off = np.abs(disparity - truth)
        sure, unsure = known & (sample.confidence > 200), known & (sample.confidence < 120)
        assert sure.mean() > 0.5
        assert (off[sure] > 1).mean() < 0.02
        assert not unsure.any() or (off[unsure] > 1).mean() >= (off[sure] > 1).mean()
    assert label(left, right).sample.confidence is None
    plain, stored = label(left, right).sample, label(left, right, config(confidence=True)).sample
    np.testing.assert_array_equal(plain.pairs, stored.pairs)
    np.testing.assert_array_equal(plain.disparity, stored.disparity)


@pytest.mark.parametrize("colour", [(0, 0, 0), (128, 128, 128), (90, 140, 230), (255, 255, 255)])
def test_pictures_of_one_colour_are_rejected(colour):
    one = np.full((120, 160, 3), colour, np.uint8)
    other = np.clip(one.astype(int) + 9 * (one < 128) - 9 * (one >= 128), 0, 255).astype(np.uint8)
    for pair in ((one, one), (one, other), (one, texture(120, 160, 1).astype(np.uint8))):
        for sky in ("off", "detect"):
            prepared = label(*pair, config("auto", sky=sky))
            assert prepared.sample is None
            assert prepared.reason is not None
            json.dumps(prepared.figures, allow_nan=False)


def test_what_nobody_can_match_is_rejected_even_if_kept_by_hand(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, 120, 160, 3), dtype=np.uint8)
    kept = decisions_at(tmp_path / "keep.json", keep=True, eyes="as_given")
    prepared = label(*noise, config(decisions=kept))
    assert prepared.reason in (None, "nothing_known")
    if prepared.sample is not None:
        assert (prepared.sample.disparity > 0).sum() >= 2
    blank = np.stack([np.full((120, 160, 3), level, np.uint8) for level in (90, 120)])
    assert label(*blank, config(decisions=kept)).reason in (None, "nothing_known")


def test_small_pictures_are_named_before_they_are_matched():
    left, right, _ = good_pair()
    small = label(left[:50], right[:50])
    assert (small.reason, small.figures["crop_yxhw"]) == ("too_small", [0, 0, 50, 220])


def test_the_settings_of_matching_count():
    left, right, truth = good_pair()
    rolled = moved(right, degrees=2)
    assert label(left, rolled).reason is None
    assert label(left, rolled, config(match=MatchConfig(align=False))).reason is not None
    small = label(left, right, config(match=MatchConfig(max_side_px=128)))
    assert small.figures["matched_hw"] == [87, 128]
    off = disparity_of(small) * 220 / 128 - truth  # the unit is that of the matched size
    assert (np.abs(off) < 1.5)[np.isfinite(off)].mean() > 0.9


def test_labelling_is_a_pure_function():
    left, right, _ = good_pair()
    before = left.copy(), right.copy()
    one, other = (label(left, right, config("auto", sky="detect", confidence=True)) for _ in range(2))
    np.testing.assert_array_equal((left, right), before)
    assert one.preview == other.preview
    assert one.figures == other.figures
    assert one.reason == other.reason
    if one.sample is not None:
        assert one.sample.image == other.sample.image
        np.testing.assert_array_equal(one.sample.pairs, other.sample.pairs)


def test_rendered_scenes_are_taken_as_they_are():
    source = SyntheticSourceConfig(kind="synthetic", train=1, val=1, height_px=96, width_px=128)
    settings = PackConfig(out="unused", source=source, shards=ShardsConfig(pairs=PairsConfig(num_pairs=50)))
    found = [prepare(item, settings) for item in open_source(source).items()]
    for prepared in found:
        assert "eyes_z" not in prepared.figures
        assert prepared.sample is None or prepared.sample.meta["crop_yxhw"] == [0, 0, 96, 128]
    assert any(prepared.sample is not None for prepared in found)


def test_a_rejected_pair_says_which_eye_its_preview_shows_first():
    """Or a person who sees near and far exchanged would swap what was swapped already."""
    flat = stereo_pair(150, 220, boxes=())[:2]
    for eyes in ("as_given", "swapped"):
        rejected = label(*flat, config(eyes))
        assert (rejected.reason, rejected.figures["eyes"]) == ("flat", eyes)
