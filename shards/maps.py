"""Depth and disparity maps of unknown origin: grey PNGs and PFM, with every bound checked before memory is taken.

levels = read_levels(png_bytes, name="RDs/a.png")          # uint16 (H, W), as stored
disparity_px = read_pfm(pfm_bytes, name="im/disp0.pfm")     # float32 (H, W), top row first
"""

import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from shards.errors import DecodeError
from shards.images import MAX_PIXELS

__all__ = ["MAX_MAP_SIDE_PX", "read_levels", "read_pfm"]

MAX_MAP_SIDE_PX = 32767
"""Pairs hold int16 coordinates."""
_PFM_HEADER = re.compile(rb"(P[Ff])\s+(\d{1,5})\s+(\d{1,5})\s+([+-]?[0-9.eE+-]{1,24})(?:\r\n|\s)")


def read_levels(data: bytes, *, name: str) -> NDArray[np.uint16]:
    """The stored values (H, W) of a grey PNG of 1, 8 or 16 bit.

    Args:
        data: The file.
        name: What to call it in errors.

    Raises:
        DecodeError: It is damaged, too large or not grey.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            _check_size(*image.size, name)
            if image.mode not in {"1", "L", "I;16"}:
                raise DecodeError(f"{name}: a map must be a grey PNG of 8 or 16 bit, not of mode {image.mode}")
            return np.asarray(image).astype(np.uint16)
    except DecodeError:
        raise
    except Exception as error:  # decoders of damaged bytes raise anything from SyntaxError to struct.error
        reason = "it is none" if isinstance(error, UnidentifiedImageError) else error or type(error).__name__
        raise DecodeError(f"{name}: cannot be read as a PNG ({reason})") from None


def read_pfm(data: bytes, *, name: str) -> NDArray[np.float32]:
    """The values (H, W) of a grey PFM, top row first.

    A PFM is three words (`Pf`, width and height, a scale) and then the rows from the bottom up, as floats whose byte
    order is little-endian where the scale is negative. Its size is not applied: programs disagree on what it means.

    Args:
        data: The file.
        name: What to call it in errors.

    Raises:
        DecodeError: It is no grey PFM, too large, or not exactly as long as its header says.
    """
    start = _PFM_HEADER.match(data)
    if start is None:
        raise DecodeError(f"{name}: this is not a PFM (its header is Pf, width, height, scale)")
    kind, width, height = start[1], int(start[2]), int(start[3])
    if kind != b"Pf":
        raise DecodeError(f"{name}: a map must be a grey PFM (Pf), not a colour one (PF)")
    _check_size(width, height, name)
    # The first byte of a value may look like white space, so the length tells where the header ends.
    length = len(data) - 4 * width * height
    header = _PFM_HEADER.fullmatch(data, 0, max(length, 0))
    if header is None:
        raise DecodeError(f"{name}: {len(data)} bytes do not hold the {width} x {height} values of its header")
    try:
        scale = float(header[4])
    except ValueError:
        scale = 0.0
    if not np.isfinite(scale) or scale == 0:
        raise DecodeError(f"{name}: the scale of a PFM is a number other than 0, its sign the byte order")
    values = np.frombuffer(data, dtype="<f4" if scale < 0 else ">f4", offset=length).reshape(height, width)
    return values[::-1].astype(np.float32)


def _check_size(width: int, height: int, name: str) -> None:
    if max(width, height) > MAX_MAP_SIDE_PX or width * height > MAX_PIXELS:
        raise DecodeError(f"{name}: a map of {width}x{height} pixels is larger than is accepted")
    if min(width, height) == 0:
        raise DecodeError(f"{name}: a map without pixels")
