import numpy as np
import pytest

from pipeline.eval.torch_scale import torch_scale, torch_scale_at, torch_scale_picture

RNG = np.random.default_rng(0)


def scale_row(src, dst_len):
    """One row as Torch7's image.c scales it in mode bilinear, statement by statement."""
    src_len = len(src)
    dst = [0.0] * dst_len
    if dst_len > src_len:
        scale = np.float32(src_len - 1) / np.float32(dst_len - 1)
        for di in range(dst_len - 1):
            if src_len == 1:
                dst[di] = src[0]
            else:
                si_f = np.float32(di) * scale
                si_i = int(si_f)
                si_f -= np.float32(si_i)
                dst[di] = (1 - float(si_f)) * src[si_i] + float(si_f) * src[si_i + 1]
        dst[dst_len - 1] = src[src_len - 1]
        return dst
    if dst_len == src_len:
        return list(src)
    scale = np.float32(src_len) / np.float32(dst_len)
    si0_i, si0_f = 0, np.float32(0)
    for di in range(dst_len):
        si1_f = np.float32(di + 1) * scale
        si1_i = int(si1_f)
        si1_f -= np.float32(si1_i)
        acc, n = (1 - float(si0_f)) * src[si0_i], 1 - float(si0_f)
        for si in range(si0_i + 1, si1_i):
            acc, n = acc + src[si], n + 1
        if si1_i < src_len:
            acc, n = acc + float(si1_f) * src[si1_i], n + float(si1_f)
        dst[di] = acc / n
        si0_i, si0_f = si1_i, si1_f
    return dst


def slow_scale(values, size_hw):
    rows = np.array([scale_row(row, size_hw[1]) for row in values])
    return np.array([scale_row(column, size_hw[0]) for column in rows.T]).T


@pytest.mark.parametrize(
    ("old_hw", "new_hw"),
    [
        ((7, 9), (20, 31)),
        ((20, 31), (7, 9)),
        ((12, 9), (5, 30)),
        ((24, 32), (24, 32)),
        ((1, 1), (4, 5)),
        ((6, 8), (1, 1)),
        ((24, 32), (23, 33)),
    ],
)
def test_it_is_torchs_scale(old_hw, new_hw):
    values = RNG.normal(size=old_hw)
    expected = slow_scale(values, new_hw)
    np.testing.assert_allclose(torch_scale(values, new_hw), expected, atol=2e-6)
    points = np.stack([RNG.integers(0, new_hw[0], 50), RNG.integers(0, new_hw[1], 50)], axis=1)
    points[-1] = new_hw[0] - 1, new_hw[1] - 1
    np.testing.assert_allclose(torch_scale_at(values, new_hw, points), expected[points[:, 0], points[:, 1]], atol=2e-6)


def test_growing_keeps_the_corners_and_shrinking_the_mean():
    values = RNG.normal(size=(24, 32))
    large = torch_scale(values, (480, 640))
    corners = np.ix_([0, -1], [0, -1])
    np.testing.assert_allclose(large[corners], values[corners], atol=1e-12)
    assert torch_scale(values, (6, 8)).mean() == pytest.approx(values.mean())


def test_a_picture_keeps_its_colours_apart():
    picture = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    scaled = torch_scale_picture(picture, (12, 90))
    assert scaled.dtype == np.uint8
    for channel in range(3):
        assert np.abs(scaled[..., channel] - slow_scale(picture[..., channel].astype(float), (12, 90))).max() <= 0.5001
