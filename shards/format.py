"""The one place that knows what a sample looks like inside a tar.

    KEY.jpg             RGB picture
    KEY.disparity.png   uint16 relative inverse depth, larger = nearer, 0 = unknown (absent for ordinal-only sets)
    KEY.confidence.png  uint8, optional
    KEY.pairs.npy       int16 (N, 5): y_a, x_a, y_b, x_b, relation; in pixels of the picture
    KEY.json            where the sample comes from and how its labels were made

Encoding is deterministic. Reading trusts nothing: sizes are checked in the headers before a byte is decoded, numpy
files are read without pickle, and a sample that breaks a rule raises `ShardError` with the name of the member.

    write_sample(webdataset.TarWriter("x.tar", encoder=False), sample)
    sample = read_sample("a", {"jpg": jpeg_bytes, "json": b"{}"}); picture = decode_jpeg(sample.image)
"""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.errors import DecodeError, ShardError, first_line
from shards.names import MAX_KEY_LENGTH, is_sample_key
from shards.png import decode_grey_png, encode_grey_png

if TYPE_CHECKING:
    import webdataset

__all__ = [
    "MAX_PAIRS",
    "MAX_SIDE_PX",
    "Sample",
    "decode_jpeg",
    "encode_sample",
    "jpeg_hw",
    "read_sample",
    "write_sample",
]

MAX_SIDE_PX = 8192
"""Longest side of a stored picture."""
MAX_PAIRS = 100_000
"""Most pairs of a sample."""
_MAX_JSON_BYTES = 1 << 18
_MAX_NPY_HEADER_BYTES = 1 << 10
_USUAL_NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '<i2', 'fortran_order': False, 'shape': \((0|[1-9]\d{0,5}), 5\), \} {0,99}\n",
    re.DOTALL,
)
_JPEG_END = b"\xff\xd9"


def _no_pairs() -> NDArray[np.int16]:
    return np.zeros((0, 5), dtype=np.int16)


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture with its labels, as stored. H and W are the height and width of the JPEG.

    Args:
        key: Unique name in the dataset, `[a-z0-9_-]+`.
        image: JPEG bytes, RGB or grey, upright.
        meta: JSON object: source, name, size_hw, tolerance, ...
        disparity: uint16 (H, W) relative inverse depth, 0 = unknown; None for an ordinal-only sample.
        confidence: uint8 (H, W) or None.
        pairs: int16 (N, 5): y_a, x_a, y_b, x_b, relation (+1 A is farther, -1 A is nearer, 0 equal).
    """

    key: str
    image: bytes
    meta: dict[str, Any]
    disparity: NDArray[np.uint16] | None = None
    confidence: NDArray[np.uint8] | None = None
    pairs: NDArray[np.int16] = field(default_factory=_no_pairs)


def encode_sample(sample: Sample) -> dict[str, bytes]:
    """Encode a sample into tar members, extension to bytes, in the order in which they are written.

    Raises:
        ShardError: The sample breaks a rule of the format, so that no reader would take it.
    """
    try:
        hw = jpeg_hw(sample.image)
    except DecodeError as error:
        raise ShardError(f"sample {sample.key}: {error}") from error
    _validate(sample, hw)
    meta = json.dumps(sample.meta, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    if len(meta) > _MAX_JSON_BYTES:
        raise ShardError(f"sample {sample.key}: json: {len(meta)} bytes, the most is {_MAX_JSON_BYTES}")
    members = {"jpg": sample.image, "json": meta.encode("ascii"), "pairs.npy": _encode_npy(sample.pairs)}
    if sample.disparity is not None:
        members["disparity.png"] = encode_grey_png(sample.disparity)
    if sample.confidence is not None:
        members["confidence.png"] = encode_grey_png(sample.confidence)
    return dict(sorted(members.items()))


def write_sample(writer: "webdataset.TarWriter", sample: Sample) -> None:
    """Append a sample to a tar; open the writer with `encoder=False`, as the members are bytes already."""
    writer.write({"__key__": sample.key, **encode_sample(sample)})


def read_sample(key: str, members: Mapping[str, bytes], *, maps: bool = True) -> Sample:
    """Read a sample from its tar members; the JPEG stays encoded (see `decode_jpeg`).

    Members of other extensions are left alone: foreign tars may carry more than training needs.

    Args:
        key: Name of the sample.
        members: Extension (`jpg`, `disparity.png`, ...) to content.
        maps: Whether disparity and confidence are wanted; else they are left out, undecoded.

    Raises:
        ShardError: A member is missing, malformed or out of bounds.
    """
    for extension in ("jpg", "json"):
        if extension not in members:
            raise ShardError(f"sample {key}: it has no member {extension}")
    try:
        image = members["jpg"]
        height_width = jpeg_hw(image)
        sample = Sample(
            key=key,
            image=image,
            meta=_decode_json(members["json"]),
            disparity=decode_grey_png(members["disparity.png"], height_width, np.dtype(np.uint16), "disparity.png")
            if maps and "disparity.png" in members
            else None,
            confidence=decode_grey_png(members["confidence.png"], height_width, np.dtype(np.uint8), "confidence.png")
            if maps and "confidence.png" in members
            else None,
            pairs=_decode_npy(members["pairs.npy"]) if "pairs.npy" in members else _no_pairs(),
        )
    except DecodeError as error:
        raise ShardError(f"sample {key}: {error}") from error
    _validate(sample, height_width)
    return sample


def jpeg_hw(data: bytes) -> tuple[int, int]:
    """Height and width from the header of a JPEG, nothing decoded.

    Raises:
        DecodeError: Not a JPEG of 8 bits with one or three channels and sides up to `MAX_SIDE_PX`.
    """
    if data[:2] != b"\xff\xd8":
        raise DecodeError("jpg: this is not a JPEG")
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            if at + 10 > len(data):
                break
            bits, channels = data[at + 4], data[at + 9]
            height, width = int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
            if bits != 8 or channels not in (1, 3):
                raise DecodeError(f"jpg: {channels} channels of {bits} bits; RGB or grey of 8 bits is stored")
            if not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX):
                raise DecodeError(f"jpg: {height} x {width} pixels; the sides must be 1..{MAX_SIDE_PX}")
            return height, width
        if marker == 0xDA:  # the scan begins, and no frame was declared
            break
        at += 2 if marker == 0x01 or 0xD0 <= marker <= 0xD8 else 2 + int.from_bytes(data[at + 2 : at + 4])
    raise DecodeError("jpg: the header is damaged")


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Decode a stored JPEG to uint8 (H, W, 3) RGB; grey is repeated, an EXIF orientation is ignored.

    OpenCV gives the same pixels as Pillow (both use libjpeg-turbo) in two thirds of the time.

    Raises:
        DecodeError: Not a JPEG, out of bounds (see `jpeg_hw`) or cut off.
    """
    hw = jpeg_hw(data)
    # OpenCV fills the rest of a picture that is cut off with grey and says nothing, so look for the end mark.
    picture = None
    if data.rfind(_JPEG_END) > 0:
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if picture is None or picture.shape != (*hw, 3):
        raise DecodeError("jpg: the picture is damaged or cut off")
    return picture.astype(np.uint8, copy=False)


def _validate(sample: Sample, hw: tuple[int, int]) -> None:
    """Rules for every stored sample, its picture being of this size; checked when it is written and when it is read."""
    key = sample.key
    if not is_sample_key(key):
        raise ShardError(f"sample {key[:100]!r}: a key is 1 to {MAX_KEY_LENGTH} of a-z 0-9 _ -")
    for name, array, dtype in (
        ("disparity", sample.disparity, np.uint16),
        ("confidence", sample.confidence, np.uint8),
    ):
        if array is not None and (array.dtype != dtype or array.shape != hw):
            raise ShardError(
                f"sample {key}: {name}: {array.dtype} {array.shape}, must be {np.dtype(dtype)} {hw} like the picture"
            )
    pairs = sample.pairs
    if pairs.dtype != np.int16 or pairs.ndim != 2 or pairs.shape[1] != 5 or len(pairs) > MAX_PAIRS:
        raise ShardError(f"sample {key}: pairs: {pairs.dtype} {pairs.shape}, must be int16 (0..{MAX_PAIRS}, 5)")
    if len(pairs):
        # Without its sign a negative number is larger than any side.
        columns = np.ascontiguousarray(pairs.T).view(np.uint16)
        tops = columns[:4].max(axis=1)
        relations = columns[4] + np.uint16(1)
        if (tops >= (*hw, *hw)).any() or relations.max() > 2:
            outside = (columns[:4] >= np.array([[*hw, *hw]]).T).any(axis=0) | (relations > 2)
            row = int(outside.argmax())
            raise ShardError(
                f"sample {key}: pairs: row {row} is {pairs[row].tolist()}, outside the {hw[0]} x {hw[1]} picture or "
                "with a relation that is not -1, 0 or 1"
            )


def _encode_npy(pairs: NDArray[np.int16]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(pairs, dtype="<i2"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _decode_npy(data: bytes) -> NDArray[np.int16]:
    """Read int16 (N, 5) pairs; the header is bounded and nothing in it is believed before it is checked."""
    usual = _USUAL_NPY_HEADER.match(data)
    if usual is not None:  # as numpy writes it; its parser takes longer than all else here
        rows, start = int(usual[2]), usual.end()
        if start - 10 == int.from_bytes(usual[1], "little") and rows <= MAX_PAIRS and len(data) == start + 10 * rows:
            return _by_columns(data, start)
    stream = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("its version is not 1.0")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=_MAX_NPY_HEADER_BYTES)
    except (ValueError, RecursionError, MemoryError) as error:
        raise DecodeError(f"pairs.npy: the header is damaged ({first_line(error)})") from error
    start = stream.tell()
    plain = dtype == np.dtype("<i2") and not fortran and len(shape) == 2 and shape[1] == 5
    if not plain or not 0 <= shape[0] <= MAX_PAIRS or len(data) - start != 10 * shape[0]:
        raise DecodeError(
            f"pairs.npy: {dtype} {shape} in {len(data) - start} bytes; must be int16 (0..{MAX_PAIRS}, 5) in C order"
        )
    return _by_columns(data, start)


def _by_columns(data: bytes, start: int) -> NDArray[np.int16]:
    """(N, 5) of which each column lies in one piece: what is done with pairs is done by columns."""
    return np.frombuffer(data, dtype="<i2", offset=start).reshape(-1, 5).T.astype(np.int16, order="C").T


def _decode_json(data: bytes) -> dict[str, Any]:
    if len(data) > _MAX_JSON_BYTES:
        raise DecodeError(f"json: {len(data)} bytes, the most is {_MAX_JSON_BYTES}")
    try:
        meta = _JSON.decode(data.decode(json.detect_encoding(data), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"json: it does not parse ({first_line(error)})") from error
    if not isinstance(meta, dict):
        raise DecodeError(f"json: a {type(meta).__name__}, must be an object")
    return meta


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)  # `json.loads` would make one each time
