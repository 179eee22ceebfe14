import io
import json

import numpy as np
import pytest
from PIL import Image

from shards.errors import DecodeError, ShardError
from shards.format import MAX_PAIRS, Sample, decode_jpeg, encode_sample, jpeg_hw, read_sample


def jpeg(height: int = 24, width: int = 32, mode: str = "RGB", **options: object) -> bytes:
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def full_sample() -> Sample:
    rng = np.random.default_rng(1)
    return Sample(
        key="a-b_0",
        image=jpeg(),
        meta={"source": "folder", "size_hw": [24, 32], "name": "ä"},
        disparity=rng.integers(0, 65536, (24, 32)).astype(np.uint16),
        confidence=rng.integers(0, 256, (24, 32)).astype(np.uint8),
        pairs=np.array([[0, 0, 23, 31, 1], [5, 6, 7, 8, -1], [1, 1, 2, 2, 0]], dtype=np.int16),
    )


def npy(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_sample_survives_the_round_trip_and_encodes_to_the_same_bytes() -> None:
    sample = full_sample()
    members = encode_sample(sample)
    assert list(members) == ["confidence.png", "disparity.png", "jpg", "json", "pairs.npy"]
    assert encode_sample(full_sample()) == members
    read = read_sample(sample.key, members)
    assert (read.key, read.image, read.meta) == (sample.key, sample.image, sample.meta)
    for name in ("disparity", "confidence", "pairs"):
        got, wanted = getattr(read, name), getattr(sample, name)
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def test_only_picture_and_json_are_needed_and_foreign_members_are_left_alone() -> None:
    read = read_sample("x", {"jpg": jpeg(), "json": b"{}", "cls": b"7"})
    assert read.disparity is None
    assert read.confidence is None
    assert read.pairs.shape == (0, 5)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_decoding_gives_the_pixels_of_pillow(mode: str, options: dict) -> None:
    data = jpeg(33, 47, mode, **options)
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(decode_jpeg(data), np.asarray(picture.convert("RGB")))
    assert jpeg_hw(data) == (33, 47)


def test_an_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_jpeg(jpeg(24, 32, exif=exif)).shape == (24, 32, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n",
        jpeg()[:200],
        jpeg()[:-20],
        jpeg(mode="CMYK"),
        b"\xff\xd8\xff\xda" + jpeg()[2:],
        b"\xff\xd8" + b"\xff" * 50,
    ],
)
def test_what_is_not_a_whole_rgb_jpeg_is_a_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_jpeg(data)


def test_a_huge_jpeg_is_refused_by_its_header() -> None:
    data = bytearray(jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(DecodeError, match="65535 x 65535"):
        decode_jpeg(bytes(data))


@pytest.mark.parametrize("key", ["", "A", "a.b", "../a", "a/b", "a b", "ä", "a" * 81])
def test_a_key_is_a_plain_name(key: str) -> None:
    with pytest.raises(ShardError, match="a key is"):
        encode_sample(Sample(key, jpeg(), {}))
    with pytest.raises(ShardError, match="a key is"):
        read_sample(key, {"jpg": jpeg(), "json": b"{}"})


def test_every_cut_of_every_member_is_refused() -> None:
    members = encode_sample(full_sample())
    for extension in ("disparity.png", "confidence.png", "pairs.npy", "json"):
        content = members[extension]
        # The last 20 bytes of a PNG are checksums and its end mark; every pixel is there without them.
        last = len(content) - (20 if extension.endswith("png") else 0)
        for length in {*range(0, last, max(1, last // 40)), last - 1}:
            with pytest.raises(ShardError, match="sample a-b_0"):
                read_sample("a-b_0", {**members, extension: content[:length]})


def bomb_png(height: int, width: int) -> bytes:
    data = bytearray(png(np.zeros((24, 32), dtype=np.uint16)))
    data[16:24] = width.to_bytes(4) + height.to_bytes(4)
    return bytes(data)


@pytest.mark.parametrize(
    ("extension", "content", "message"),
    [
        ("disparity.png", png(np.zeros((24, 33), dtype=np.uint16)), "24 x 33 pixels"),
        ("disparity.png", png(np.zeros((24, 32), dtype=np.uint8)), "8 bits"),
        ("disparity.png", png(np.zeros((24, 32, 3), dtype=np.uint8)), "colour type 2"),
        ("disparity.png", bomb_png(2**31 - 1, 2**31 - 1), "2147483647"),
        ("disparity.png", b"GIF89a", "not a PNG"),
        ("confidence.png", png(np.zeros((24, 32), dtype=np.uint16)), "16 bits"),
        ("pairs.npy", npy(np.zeros((3, 5), dtype=np.int32)), "int32"),
        ("pairs.npy", npy(np.zeros((3, 4), dtype=np.int16)), r"\(3, 4\)"),
        ("pairs.npy", npy(np.asfortranarray(np.zeros((3, 5), dtype=np.int16))), "C order"),
        ("pairs.npy", npy(np.zeros((MAX_PAIRS + 1, 5), dtype=np.int16)), "100001"),
        ("pairs.npy", npy(np.array([{}], dtype=object), allow_pickle=True), "object"),
        ("pairs.npy", npy(np.zeros((3, 5), dtype=np.int16)) + b"x", "31 bytes"),
        ("pairs.npy", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "header"),
        ("pairs.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header"),
        ("pairs.npy", npy(np.array([[24, 0, 0, 0, 0]], dtype=np.int16)), "row 0"),
        ("pairs.npy", npy(np.array([[0, 0, 0, 0, 0], [0, 0, 0, 32, 0]], dtype=np.int16)), "row 1"),
        ("pairs.npy", npy(np.array([[0, -1, 0, 0, 0]], dtype=np.int16)), "row 0"),
        ("pairs.npy", npy(np.array([[0, 0, 0, 0, 2]], dtype=np.int16)), "row 0"),
        ("json", b"[" * 100_000, "json"),
        ("json", b"[]", "must be an object"),
        ("json", b'{"a": ' + b"1" * 10_000 + b"}", "json"),
        ("json", b'{"a": "' + b"x" * (1 << 18) + b'"}', "the most is"),
        ("json", b"\xff\xfe", "json"),
        ("jpg", jpeg(24, 33), "24 x 33 like the picture"),
    ],
)
def test_a_hostile_member_is_refused_by_name(extension: str, content: bytes, message: str) -> None:
    members = {**encode_sample(full_sample()), extension: content}
    with pytest.raises(ShardError, match=message):
        read_sample("a-b_0", members)


def test_a_missing_member_is_named() -> None:
    with pytest.raises(ShardError, match="no member json"):
        read_sample("x", {"jpg": jpeg()})


@pytest.mark.parametrize(
    "broken",
    [
        {"disparity": np.zeros((24, 31), dtype=np.uint16)},
        {"disparity": np.zeros((24, 32), dtype=np.int32)},
        {"confidence": np.zeros((24, 32), dtype=np.float32)},
        {"pairs": np.zeros((2, 5), dtype=np.int64)},
        {"pairs": np.array([[0, 0, 24, 0, 1]], dtype=np.int16)},
        {"image": b"no picture"},
    ],
)
def test_the_writer_refuses_what_no_reader_would_take(broken: dict) -> None:
    good = full_sample()
    fields = {name: getattr(good, name) for name in ("key", "image", "meta", "disparity", "confidence", "pairs")}
    with pytest.raises(ShardError):
        encode_sample(Sample(**{**fields, **broken}))


def test_json_is_plain_ascii_with_sorted_keys() -> None:
    data = encode_sample(Sample("x", jpeg(), {"b": "ä", "a": 1.5}))["json"]
    assert data == b'{"a":1.5,"b":"\\u00e4"}'
    assert json.loads(data) == {"a": 1.5, "b": "ä"}


def test_pairs_are_read_the_same_with_any_header_that_says_the_same() -> None:
    pairs = np.arange(15, dtype=np.int16).reshape(3, 5) % 2
    usual = npy(pairs)
    length = int.from_bytes(usual[8:10], "little")
    text, content = usual[10 : 10 + length], usual[10 + length :]
    members = {"jpg": jpeg(), "json": b"{}"}
    for header in (text, text.replace(b" ", b"", 2), text.replace(b"'", b'"'), text[:-10] + b"\n"):
        data = usual[:8] + len(header).to_bytes(2, "little") + header + content
        np.testing.assert_array_equal(read_sample("a", {**members, "pairs.npy": data}).pairs, pairs)
    with pytest.raises(ShardError, match=r"header is damaged|must be int16"):  # one byte more than there is
        read_sample("a", {**members, "pairs.npy": usual[:8] + (length + 1).to_bytes(2, "little") + usual[10:]})
