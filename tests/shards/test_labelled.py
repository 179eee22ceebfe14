import io
from math import floor

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from shards.config import PackConfig
from shards.disparity import decode_values, encode_inverse_depth
from shards.format import decode_jpeg
from shards.labelled import label_picture
from shards.sources import Item, LabelledPicture, open_source
from shards.sources.config import SourceConfig

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 120, 3)).astype(np.uint8)
AFFINE = {"kind": "affine", "scale": 1.0, "offset": 0.0}


def label(picture, **shards):
    source = {"kind": "truth", "path": "x"}
    config = PackConfig.model_validate({"out": "y", "source": source, "shards": {"long_side_px": 120, **shards}})
    return label_picture(Item("some/a.png"), picture, config)


def ramp(height=80, width=120):
    return np.tile(np.arange(1000, 1000 + 10 * width, 10), (height, 1)).astype(np.uint16)


def given(pairs, **changes):
    return LabelledPicture(IMAGE, pairs=np.array(pairs, dtype=np.int32).reshape(-1, 5), **changes)


@pytest.mark.parametrize("size", [(80, 120), (40, 60), (37, 55), (64, 96)])
def test_given_points_move_with_the_picture(size):
    rng = np.random.default_rng(1)
    pairs = np.column_stack([rng.integers(0, (80, 120, 80, 120), (400, 4)), rng.integers(-1, 2, 400)])
    picture = LabelledPicture(IMAGE[: size[0], : size[1]], pairs=pairs.astype(np.int32), pairs_hw=(80, 120))
    judged = label(picture)
    stored = judged.sample.pairs
    expected = []
    for y_a, x_a, y_b, x_b, relation in pairs.tolist():
        moved = [
            min(max(floor((p + 0.5) * new / old - 0.5 + 0.5), 0), new - 1)
            for p, new, old in zip((y_a, x_a, y_b, x_b), size * 2, (80, 120) * 2, strict=True)
        ]
        if moved[:2] != moved[2:]:
            expected.append([*moved, relation])
    assert stored.tolist() == expected
    assert judged.figures.get("pairs_merged", 0) == 400 - len(expected)


def test_points_that_merge_or_lie_outside_are_counted():
    pairs = [[0, 0, 0, 1, 1], [5, 5, 70, 100, -1], [80, 0, 1, 1, 1], [0, 0, 3, -1, 1], [7, 7, 7, 7, 0]]
    judged = label(given(pairs), long_side_px=64)
    assert len(judged.sample.pairs) == 1
    assert judged.sample.meta["figures"]["pairs_outside"] == 2
    assert judged.sample.meta["figures"]["pairs_merged"] == 2


def test_what_cannot_teach_anything_is_rejected_with_a_reason():
    def coded(codes, kind="ratio"):
        return LabelledPicture(IMAGE, codes=codes.astype(np.uint16), coding=AFFINE, tolerance_kind=kind)

    reasons = {
        "nothing_known": coded(np.zeros((80, 120))),
        "flat": coded(np.full((80, 120), 700)),
        "size_mismatch": coded(np.ones((80, 121))),
        "no_pairs": given([]),
    }
    for reason, picture in reasons.items():
        judged = label(picture)
        assert (judged.reason, judged.sample) == (reason, None)
        assert judged.figures["picture_hw"] == [80, 120]
    within = np.where(np.arange(120) < 60, 1000, 1019) * np.ones((80, 1))
    assert label(coded(within)).reason == "flat"
    assert label(coded(within, "range")).reason is None
    assert label(coded(np.full((80, 120), 700), "range")).reason == "flat"
    assert label(given([[0, 0, 5, 5, 1]], pairs_hw=(120, 80))).reason == "size_mismatch"
    assert label(given([[0, 0, 5, 5, 1]], pairs_hw=(161, 240))).reason is None


def test_a_single_known_pixel_gives_no_pair():
    codes = np.zeros((80, 120), np.uint16)
    codes[3, 3] = 5
    assert label(LabelledPicture(IMAGE, codes=codes, coding=AFFINE)).reason == "flat"


def test_original_bytes_are_kept_only_unscaled():
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "JPEG")
    picture = LabelledPicture(decode_jpeg(buffer.getvalue()), buffer.getvalue(), codes=ramp(), coding=AFFINE)
    assert label(picture).sample.image == buffer.getvalue()
    smaller = label(picture, long_side_px=90).sample
    assert decode_jpeg(smaller.image).shape == (60, 90, 3)
    assert smaller.disparity.shape == (60, 90)


def test_the_strip_for_review_shows_the_codes_and_pairs_alone_need_none():
    codes = ramp()
    codes[:, :40] = 0
    strip = decode_jpeg(label(LabelledPicture(IMAGE, codes=codes, coding=AFFINE)).preview)
    assert strip.shape == (80, 3 * 120, 3)
    disparity = strip[:, 240:].astype(int)
    assert disparity[:, :30].max() < 60
    blue_left, red_right = disparity[:, 42:50, 2] - disparity[:, 42:50, 0], disparity[:, -8:, 0] - disparity[:, -8:, 2]
    assert blue_left.mean() > 20 and red_right.mean() > 60
    assert label(given([[0, 0, 5, 5, 1]])).preview is None


def test_the_same_name_draws_the_same_pairs():
    picture = LabelledPicture(IMAGE, codes=ramp(), coding=AFFINE, tolerance_kind="ratio", meta={"author": "A"})
    first, second = label(picture).sample, label(picture).sample
    np.testing.assert_array_equal(first.pairs, second.pairs)
    other = label(picture, pairs={"seed": 1}).sample
    assert not np.array_equal(first.pairs, other.pairs)
    assert first.meta["about"] == {"author": "A"}
    assert first.meta["sampler"]["name"] == "random"


def test_inverse_depth_keeps_ratios_and_outliers():
    values = np.geomspace(1e-3, 4, 500).reshape(20, 25)
    values[0, 0], values[0, 1] = 0.0, 900.0
    known = np.ones(values.shape, bool)
    codes, coding = encode_inverse_depth(values, known)
    assert (codes > 0).all()
    assert codes[0, 1] == 65535
    assert coding["offset"] == 0
    off = np.abs(codes * coding["scale"] - values)
    assert off[values > 0.01].max() <= 900 / 65535 / 2 * 1.001
    assert not encode_inverse_depth(values, ~known)[0].any()
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="negative or not finite"):
            encode_inverse_depth(np.full((2, 2), bad), np.ones((2, 2), bool))


@pytest.mark.parametrize(
    "changes", [{"scale": None}, {"scale": "x"}, {"offset": float("nan")}, {"kind": "log"}, {"scale": float("inf")}]
)
def test_a_damaged_coding_is_refused(changes):
    codes = np.array([[0, 1, 2]], np.uint16)
    np.testing.assert_array_equal(decode_values(codes, {"scale": 2.0, "offset": 1.0}), [[np.nan, 3, 5]])
    reciprocal = {"kind": "reciprocal", "scale": -1.0, "offset": 2.0}
    np.testing.assert_array_equal(decode_values(codes, reciprocal), [[np.nan, 1, np.inf]])
    with pytest.raises(ValueError, match="a coding"):
        decode_values(codes, AFFINE | changes)


def test_every_kind_of_source_has_an_adapter():
    adapter = TypeAdapter(SourceConfig)
    kinds = adapter.json_schema()["discriminator"]["mapping"]
    for kind in kinds:
        config = adapter.validate_python({"kind": kind} | ({} if kind == "synthetic" else {"path": "nowhere"}))
        assert callable(open_source(config).items)
