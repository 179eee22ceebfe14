"""Any picture of a user as one upright RGB array: of an animation or a file of several pages, the first.

image = read_still(Path("party.gif"))       # uint8 (H, W, 3)
"""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from shards.errors import DecodeError
from shards.images import MAX_PIXELS, read_bytes_bounded, read_picture
from shards.names import printable

__all__ = ["read_still"]

_OF_SEVERAL_FRAMES = ("GIF", "PNG", "TIFF", "WEBP")


def read_still(path: Path) -> NDArray[np.uint8]:
    """Decode a picture as `shards.images.read_picture` does, and the first frame of an animation, GIFs among them.

    Returns:
        uint8 (H, W, 3), upright.

    Raises:
        DecodeError: Not a picture of a known format, truncated, damaged, or over a bound.
    """
    name = printable(str(path))
    data = read_bytes_bounded(path)
    return read_picture(_first_frame(data, name) or data, name=name)


def _first_frame(data: bytes, name: str) -> bytes | None:
    """The first frame as a PNG where the file is a GIF or has several; None where it is a plain picture or unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=_OF_SEVERAL_FRAMES)
            if image.format != "GIF" and getattr(image, "n_frames", 1) == 1:
                return None
        except Image.DecompressionBombError as error:
            raise DecodeError(f"{name}: {error}") from None
        except Exception:  # decoders of hostile bytes raise anything; reading the picture tells what is wrong with it
            return None
        if image.width * image.height > MAX_PIXELS:
            raise DecodeError(f"{name}: {image.width} x {image.height} pixels, more than {MAX_PIXELS}")
        if image.mode in ("I", "F"):
            raise DecodeError(f"{name}: pixels of mode {image.mode} have no defined range")
        try:
            with image:
                image.seek(0)
                frame = ImageOps.exif_transpose(image)
                still = frame if frame.mode.startswith("I;16") else frame.convert("RGBA")
                buffer = io.BytesIO()
                Image.fromarray(np.asarray(still)).save(buffer, "PNG", compress_level=1)
        except Exception as error:
            raise DecodeError(f"{name}: {error or type(error).__name__}") from None
    return buffer.getvalue()
