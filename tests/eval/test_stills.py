import io

import numpy as np
import pytest
from PIL import Image

from pipeline.eval.stills import decode_still, read_still, reads_heic
from shards.errors import DecodeError

RED, BLUE = (250, 0, 0), (0, 0, 250)


def frames(mode="RGB"):
    first = Image.new("RGB", (24, 16), RED)
    first.paste((0, 250, 0), (0, 0, 4, 4))
    return [first.convert(mode), Image.new("RGB", (24, 16), BLUE).convert(mode)]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_of_several_frames_the_first_is_read(tmp_path, suffix):
    path = tmp_path / f"two{suffix}"
    first, second = frames()
    first.save(path, save_all=True, append_images=[second], **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(path) as check:
        assert check.n_frames == 2
    image = read_still(path)
    assert image.shape == (16, 24, 3)
    np.testing.assert_allclose(image.astype(int), np.asarray(first).astype(int), atol=4)


def test_transparency_of_a_gif_is_shown_over_white(tmp_path):
    path = tmp_path / "hole.gif"
    picture = Image.new("RGBA", (20, 10), (*RED, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 10, 10))
    picture.save(path)
    image = read_still(path)
    assert (image[:, :9] == 255).all()
    assert (image[:, 11:] == RED).all()


@pytest.mark.parametrize("mode", ["CMYK", "P", "RGBA", "LA", "I;16", "L", "1"])
def test_odd_pages_of_a_tiff_become_rgb_as_single_ones_do(tmp_path, mode):
    grey = np.tile(np.linspace(0, 65535, 24).astype(np.uint16), (16, 1))
    first, second = [Image.fromarray(grey)] * 2 if mode == "I;16" else frames(mode)
    first.save(tmp_path / "one.tif")
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(read_still(tmp_path / "two.tif"), read_still(tmp_path / "one.tif"))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_turned_first_frame_is_read_upright(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"turned{suffix}"
    first, second = frames()
    options = {"lossless": True} if suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=[second], exif=exif, **options)
    image = read_still(path)
    assert image.shape == (24, 16, 3)
    np.testing.assert_array_equal(image, np.rot90(np.asarray(first), -1))


def test_an_animation_too_large_or_damaged_is_refused_by_name(tmp_path, monkeypatch):
    first, second = frames()
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    (tmp_path / "b.gif").write_bytes((tmp_path / "a.gif").read_bytes()[:30])
    with pytest.raises(DecodeError, match=r"b\.gif"):
        read_still(tmp_path / "b.gif")
    header = bytearray((tmp_path / "a.gif").read_bytes())
    header[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "c.gif").write_bytes(header)
    with pytest.raises(DecodeError, match="4294836225 pixels"):
        read_still(tmp_path / "c.gif")
    monkeypatch.setattr("pipeline.eval.stills.MAX_PIXELS", 24 * 16 - 1)
    with pytest.raises(DecodeError, match=r"a\.gif: 24 x 16 pixels, more than 383"):
        read_still(tmp_path / "a.gif")


def heic(image, **options):
    pillow_heif = pytest.importorskip("pillow_heif", reason='HEIC needs: pip install "depthrank[heif]"')
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95, **options)
    return buffer.getvalue()


def test_a_heic_is_read_upright_bounded_and_over_white():
    picture = Image.fromarray(np.repeat(np.linspace(0, 250, 96).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_still(heic(picture, exif=exif.tobytes()), name="a.heic", max_pixels=10_000)
    np.testing.assert_allclose(image.astype(int), np.rot90(np.asarray(picture), -1).astype(int), atol=12)
    clear = picture.copy()
    clear.putalpha(0)
    assert decode_still(heic(clear), name="a.heic", max_pixels=10_000).min() > 250
    with pytest.raises(DecodeError, match=r"a\.heic: 96 x 64 pixels, more than 6143"):
        decode_still(heic(picture), name="a.heic", max_pixels=6143)
    data = heic(picture)
    for length in (20, 200, len(data) - 50):
        with pytest.raises(DecodeError, match=r"a\.heic: "):
            decode_still(data[:length], name="a.heic", max_pixels=10_000)


@pytest.mark.skipif(reads_heic(), reason="the extra heif is installed")
def test_a_heic_without_its_reader_is_explained():
    with pytest.raises(DecodeError, match=r"x: is a HEIC, which needs pip install"):
        decode_still(b"\0\0\0\x18ftypmif1" + bytes(50), name="x", max_pixels=10_000)
