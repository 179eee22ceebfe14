import io
import zlib

import numpy as np
import pytest
from PIL import Image

from shards.errors import DecodeError
from shards.png import decode_grey_png, encode_grey_png


def picture(hw, dtype, kind):
    draw = np.random.default_rng(0)
    if kind == "noise":
        return draw.integers(0, np.iinfo(dtype).max + 1, hw).astype(dtype)
    return (np.indices(hw).sum(axis=0) * 37 % (np.iinfo(dtype).max + 1)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["noise", "ramp"])
@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (9, 1), (37, 53)])
def test_another_reader_finds_what_was_written(hw, kind, dtype):
    array = picture(hw, dtype, kind)
    data = encode_grey_png(array)
    with Image.open(io.BytesIO(data)) as opened:
        opened.verify()  # its checksums
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == ("L" if dtype == np.uint8 else "I;16")
        np.testing.assert_array_equal(np.asarray(opened), array)
    back = decode_grey_png(data, hw, np.dtype(dtype), "x.png")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_another_writer_wrote_is_read(dtype):
    array, buffer = picture((37, 53), dtype, "noise"), io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    np.testing.assert_array_equal(decode_grey_png(buffer.getvalue(), (37, 53), np.dtype(dtype), "x.png"), array)


@pytest.mark.parametrize("view", [np.s_[::2, ::3], np.s_[::-1], np.s_[5:, 7:]])
def test_memory_order_does_not_matter(view):
    array = picture((37, 53), np.uint16, "noise")[view]
    assert encode_grey_png(array) == encode_grey_png(np.ascontiguousarray(array))
    assert encode_grey_png(array.astype(">u2")) == encode_grey_png(array)


def test_smooth_maps_are_smaller_than_a_viewers_encoder_makes_them():
    y, x = np.mgrid[:240, :320] / 320
    smooth = np.rint((np.sin(5 * x) * np.cos(4 * y) + x + 2) * 8000).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "PNG", compress_level=6)
    assert len(encode_grey_png(smooth)) < len(buffer.getvalue())


@pytest.mark.parametrize("known_share", [0.02, 0.2, 1.0])
def test_a_map_is_no_larger_than_with_either_filter_alone(known_share):
    array = picture((120, 160), np.uint16, "noise")
    array[np.random.default_rng(1).uniform(size=array.shape) > known_share] = 0
    rows = array.astype(">u2").view(np.uint8)
    plain = np.insert(rows, 0, 0, axis=1)
    up = np.insert(np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1])), 0, 2, axis=1)
    smallest = min(len(zlib.compress(form.tobytes(), 6)) for form in (plain, up))
    overhead = 8 + 3 * 12 + 13  # signature, three chunks, the header's content
    assert len(encode_grey_png(array)) == smallest + overhead
    np.testing.assert_array_equal(decode_grey_png(encode_grey_png(array), array.shape, np.dtype(np.uint16), "x"), array)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 9), dtype) for dtype in (np.int16, np.float32, np.bool_)]
    + [np.zeros((0, 4), np.uint8), np.zeros((4, 9, 1), np.uint8)],
)
def test_what_a_grey_png_cannot_hold_is_refused(array):
    with pytest.raises(ValueError, match="a grey PNG holds"):
        encode_grey_png(array)


@pytest.mark.parametrize(("hw", "dtype"), [((9, 4), np.uint16), ((4, 8), np.uint16), ((4, 9), np.uint8)])
def test_another_size_or_depth_is_refused(hw, dtype):
    with pytest.raises(DecodeError, match=r"x\.png: 4 x 9 pixels of 16 bits"):
        decode_grey_png(encode_grey_png(np.zeros((4, 9), dtype=np.uint16)), hw, np.dtype(dtype), "x.png")
