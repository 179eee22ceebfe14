import json

import numpy as np
import pytest

from shards.disparity import LOWEST_CODE, decode_disparity, encode_disparity, resize_nearest


def field(seed=0, offset=-40.0, scale=30.0):
    draw = np.random.default_rng(seed)
    return (draw.normal(size=(50, 70)) * scale + offset).astype(np.float32), draw.uniform(size=(50, 70)) < 0.8


@pytest.mark.parametrize(("offset", "scale"), [(-40, 30), (0, 1e-3), (1e4, 200)])
def test_decoding_gives_the_disparity_back(offset, scale):
    disparity, known = field(offset=offset, scale=scale)
    codes, coding = encode_disparity(disparity, known)
    assert codes.dtype == np.uint16
    np.testing.assert_array_equal(codes > 0, known)
    assert (codes[known].min(), codes.max()) == (LOWEST_CODE, 65535)
    assert (codes[known] % 8 == 7).all()
    back, back_known = decode_disparity(codes, json.loads(json.dumps(coding)))
    np.testing.assert_array_equal(back_known, known)
    assert np.isnan(back[~known]).all()
    span = float(np.ptp(disparity[known]))
    np.testing.assert_allclose(back[known], disparity[known], atol=span / 8191 / 2 + 1e-6 * abs(offset))


def test_order_is_kept_and_larger_is_nearer():
    disparity, known = field(1)
    codes, _ = encode_disparity(disparity, known)
    order = np.argsort(disparity[known], kind="stable")
    assert (np.diff(codes[known][order].astype(int)) >= 0).all()
    assert len(np.unique(codes[known])) > 0.7 * known.sum()  # of random numbers in 8,192 steps, most are alone


def test_gross_outliers_become_unknown_and_nothing_ties_at_the_ends():
    disparity, known = field(2)
    known[:] = True
    disparity[0, :3] = (5000, -9000, 4000)
    codes, coding = encode_disparity(disparity, known)
    assert coding["outliers"] == 3
    assert (codes[0, :3] == 0).all()
    assert (codes == 65535).sum() == 1
    assert (codes == LOWEST_CODE).sum() == 1


def test_unknown_values_are_not_looked_at():
    disparity, known = field(3)
    disparity[~known] = np.nan
    codes, _ = encode_disparity(disparity, known)
    disparity[~known] = 1e30
    np.testing.assert_array_equal(codes, encode_disparity(disparity, known)[0])


def test_constant_and_empty_maps():
    codes, coding = encode_disparity(np.full((3, 4), 2.5), np.ones((3, 4), dtype=bool))
    assert (codes == LOWEST_CODE).all()
    np.testing.assert_array_equal(decode_disparity(codes, coding)[0], 2.5)
    assert not encode_disparity(np.ones((3, 4)), np.zeros((3, 4), dtype=bool))[0].any()


def test_a_known_value_must_be_finite():
    with pytest.raises(ValueError, match="finite"):
        encode_disparity(np.array([[np.nan, 1.0]]), np.ones((1, 2), dtype=bool))


@pytest.mark.parametrize("size", [(50, 70), (25, 35), (33, 41), (100, 140), (1, 1), (77, 20)])
def test_nearest_takes_the_pixel_under_the_new_centre(size):
    old = np.arange(50 * 70).reshape(50, 70)
    new = resize_nearest(old, *size)
    assert new.shape == size
    for i, j in ((0, 0), (size[0] // 2, size[1] // 3), (size[0] - 1, size[1] - 1)):
        assert new[i, j] == old[int((i + 0.5) * 50 / size[0]), int((j + 0.5) * 70 / size[1])]
