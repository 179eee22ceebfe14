"""Any picture of a user as one upright RGB array: of an animation or a file of several pages, the first.

image = read_still(Path("party.gif"))       # uint8 (H, W, 3)
image = decode_still(data, name="upload", max_pixels=50_000_000)     # bytes; HEIC too with the extra `heif`
"""

import io
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from shards.errors import DecodeError
from shards.images import MAX_PIXELS, read_bytes_bounded, read_picture
from shards.names import printable

__all__ = ["decode_still", "read_still", "reads_heic"]

_OF_SEVERAL_FRAMES = ("GIF", "PNG", "TIFF", "WEBP")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Names of the container in bytes 8 to 12 of the file; an AVIF may call itself mif1 too."""


def read_still(path: Path) -> NDArray[np.uint8]:
    """Decode a picture as `shards.images.read_picture` does, and the first frame of an animation, GIFs among them.

    Returns:
        uint8 (H, W, 3), upright.

    Raises:
        DecodeError: Not a picture of a known format, truncated, damaged, or over a bound.
    """
    return decode_still(read_bytes_bounded(path), name=printable(str(path)), max_pixels=MAX_PIXELS)


def decode_still(data: bytes, *, name: str, max_pixels: int) -> NDArray[np.uint8]:
    """Decode the bytes of a picture as `read_still` does; its main picture if it is a HEIC.

    Args:
        data: The encoded bytes.
        name: What to call it in errors.
        max_pixels: Bound on width x height, checked on the header.

    Returns:
        uint8 (H, W, 3), upright.

    Raises:
        DecodeError: As for `read_still`; also a HEIC where the extra `heif` is not installed.
    """
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return _decode_heic(data, name, max_pixels)
    return read_picture(_first_frame(data, name, max_pixels) or data, name=name, max_pixels=max_pixels)


def reads_heic() -> bool:
    """Whether the extra `heif` is installed."""
    return find_spec("pillow_heif") is not None


def _decode_heic(data: bytes, name: str, max_pixels: int) -> NDArray[np.uint8]:
    """The main picture, which libheif turns upright itself."""
    if not reads_heic():
        raise DecodeError(
            f'{name}: is a HEIC, which needs pip install "depthrank[heif]" where this runs; a JPEG or PNG needs nothing'
        )
    from pillow_heif import open_heif

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = open_heif(data)  # whose size and pixels are those of its main picture
            width, height = picture.size
            if width * height > max_pixels:
                raise DecodeError(f"{name}: {width} x {height} pixels, more than {max_pixels}")
            image = picture.to_pillow()
        except DecodeError:
            raise
        except Exception as error:  # whatever libheif says of hostile bytes
            raise DecodeError(f"{name}: {error or type(error).__name__}") from None
    return np.array(image) if image.mode == "RGB" else read_picture(_as_png(image), name=name, max_pixels=max_pixels)


def _as_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _first_frame(data: bytes, name: str, max_pixels: int) -> bytes | None:
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
        if image.width * image.height > max_pixels:
            raise DecodeError(f"{name}: {image.width} x {image.height} pixels, more than {max_pixels}")
        if image.mode in ("I", "F"):
            raise DecodeError(f"{name}: pixels of mode {image.mode} have no defined range")
        try:
            with image:
                image.seek(0)
                frame = ImageOps.exif_transpose(image)
                still = frame if frame.mode.startswith("I;16") else frame.convert("RGBA")
                return _as_png(still)
        except Exception as error:
            raise DecodeError(f"{name}: {error or type(error).__name__}") from None
