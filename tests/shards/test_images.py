import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from shards.errors import DecodeError
from shards.images import encode_jpeg, original_jpeg, picture_box, read_bytes_bounded, read_picture, scale_down


def smooth(height=40, width=60):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_plain_rgb_is_exact():
    rgb = smooth()
    np.testing.assert_array_equal(read_picture(saved(Image.fromarray(rgb))), rgb)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    upright = smooth()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(read_picture(data), upright)


def test_grey_palette_and_bilevel():
    grey = smooth()[..., 0]
    np.testing.assert_array_equal(read_picture(saved(Image.fromarray(grey))), np.repeat(grey[..., None], 3, axis=2))
    palette = Image.fromarray(smooth()).quantize(256)
    np.testing.assert_array_equal(read_picture(saved(palette)), np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(grey).convert("1")
    assert set(np.unique(read_picture(saved(bilevel)))) == {0, 255}


def test_sixteen_bit_grey_keeps_its_range():
    grey = np.linspace(0, 65535, 2400).astype(np.uint16).reshape(40, 60)
    rgb = read_picture(saved(Image.fromarray(grey)))
    np.testing.assert_allclose(rgb[..., 1], grey / 257, atol=0.5)
    assert (rgb[..., 0] == rgb[..., 2]).all()


def test_transparency_is_laid_over_white():
    rgba = np.zeros((4, 4, 4), dtype=np.uint8)
    rgba[:2] = (200, 10, 30, 255)
    rgba[2:] = (200, 10, 30, 0)
    rgb = read_picture(saved(Image.fromarray(rgba)))
    assert rgb[0, 0].tolist() == [200, 10, 30]
    assert rgb[3, 3].tolist() == [255, 255, 255]
    assert read_picture(saved(Image.fromarray(rgba).convert("LA")))[3, 3].tolist() == [255, 255, 255]


def test_cmyk_jpeg_has_its_colours():
    rgb = np.zeros((32, 32, 3), dtype=np.uint8)
    rgb[..., 0] = 220
    rgb[..., 1] = 40
    data = saved(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=95)
    np.testing.assert_allclose(read_picture(data).mean(axis=(0, 1)), (220, 40, 0), atol=6)


def test_a_truncated_file_is_named():
    data = saved(Image.fromarray(smooth(200, 300)), "JPEG")
    with pytest.raises(DecodeError, match=r"^some/cat\.jpg: .*truncated"):
        read_picture(data[: len(data) // 2], name="some/cat.jpg")


@pytest.mark.parametrize("data", [b"not a picture", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_rubbish_is_refused(data):
    with pytest.raises(DecodeError, match=r"^x\.png: "):
        read_picture(data, name="x.png")


def png_header(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 12_000, 100_000])
def test_bombs_are_refused_by_their_header(side):
    with pytest.raises(DecodeError, match=r"bomb|more than"):
        read_picture(png_header(side, side))


def test_the_bound_on_pixels_is_exact():
    data = saved(Image.fromarray(smooth(10, 10)))
    assert read_picture(data, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(DecodeError, match="10 x 10 pixels, more than 99"):
        read_picture(data, max_pixels=99)


def test_animations_are_refused_and_multi_picture_jpegs_give_their_first_frame():
    frames = [Image.fromarray(np.full((16, 16, 3), value, dtype=np.uint8)) for value in (60, 200)]
    with pytest.raises(DecodeError, match="several frames"):
        read_picture(saved(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    data = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert abs(int(read_picture(data)[0, 0, 0]) - 60) < 3
    assert original_jpeg(data) is None


def test_formats_outside_the_list_are_refused():
    with pytest.raises(DecodeError, match="known format"):
        read_picture(saved(Image.fromarray(smooth()), "GIF"))


def test_files_are_bounded_before_they_are_read(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(Image.fromarray(smooth())))
    np.testing.assert_array_equal(read_picture(path), smooth())
    with pytest.raises(DecodeError, match=r"a\.png: .* bytes, more than 10"):
        read_bytes_bounded(path, max_bytes=10)
    path.write_bytes(b"")
    with pytest.raises(DecodeError, match="empty file"):
        read_picture(path)
    with pytest.raises(DecodeError, match="No such file"):
        read_picture(tmp_path / "b.png")
    with pytest.raises(DecodeError, match="no plain file"):
        read_picture(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DecodeError, match="no plain file"):
        read_picture(tmp_path / "pipe.png")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_rows": 1}])
def test_clean_jpegs_keep_their_bytes(options):
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)
    data = saved(Image.fromarray(noise), "JPEG", **options)
    assert original_jpeg(data) is data


def with_segment(data, marker, body):
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


def test_jpegs_that_say_more_than_the_picture_do_not():
    clean = saved(Image.fromarray(smooth()), "JPEG")
    exif = Image.Exif()
    exif[0x010F] = "maker"
    unclean = {
        "exif": saved(Image.fromarray(smooth()), "JPEG", exif=exif),
        "xmp": with_segment(clean, 0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        "iptc": with_segment(clean, 0xED, b"Photoshop 3.0\0"),
        "profile": saved(Image.fromarray(smooth()), "JPEG", icc_profile=b"profile"),
        "comment": saved(Image.fromarray(smooth()), "JPEG", comment=b"by me"),
        "thumbnail": with_segment(clean, 0xE0, b"JFXX\0\x10"),
        "tail": clean + b"secret",
        "second picture": clean + clean,
        "tail that ends like a picture": clean + b"secret\xff\xd9",
        "grey": saved(Image.fromarray(smooth()[..., 0]), "JPEG"),
        "cmyk": saved(Image.fromarray(smooth()).convert("CMYK"), "JPEG"),
        "png": saved(Image.fromarray(smooth())),
        "truncated": clean[: len(clean) // 2],
        "no end": clean[:-2],
        "cut in a header": clean[:30],
        "empty": b"",
    }
    assert original_jpeg(clean) is clean
    assert [name for name, data in unclean.items() if original_jpeg(data) is not None] == []


def test_encoded_jpegs_are_clean_and_close():
    data = encode_jpeg(smooth(), 95)
    assert original_jpeg(data) is data
    assert np.abs(read_picture(data).astype(int) - smooth()).mean() < 2


def test_scaling_keeps_pixel_centres_and_never_enlarges():
    rgb = smooth(120, 60)
    assert scale_down(rgb, 120) is rgb
    y = np.mgrid[:128, :64][0]
    ramp = np.repeat(y[..., None], 3, axis=2).astype(np.uint8)
    half = scale_down(ramp, 64)
    assert half.shape == (64, 32, 3)
    np.testing.assert_allclose(half[4:-4, 5, 0], np.arange(4, 60) * 2 + 0.5, atol=0.51)


def test_scaling_is_antialiased():
    checker = ((np.add.outer(np.arange(300), np.arange(300)) % 2) * 255).astype(np.uint8)
    small = scale_down(np.repeat(checker[..., None], 3, axis=2), 100)[10:-10, 10:-10]
    assert small.std() < 15


def test_a_black_frame_is_found():
    rgb = smooth(60, 80) // 2 + 100
    framed = np.zeros((100, 140, 3), dtype=np.uint8)
    framed[25:85, 30:110] = rgb
    framed[::7, ::5] = np.maximum(framed[::7, ::5], 20)
    assert picture_box(framed) == (25, 30, 60, 80)
    assert picture_box(rgb) == (0, 0, 60, 80)


def test_a_black_picture_is_no_frame_around_nothing():
    black = np.zeros((50, 50, 3), dtype=np.uint8)
    assert picture_box(black) == (0, 0, 50, 50)


@pytest.mark.parametrize("quality", [85, 90, 94, 95])
def test_noise_is_encoded_too(quality):
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_jpeg(noise, quality))) as image:
        assert image.size == (900, 600)
