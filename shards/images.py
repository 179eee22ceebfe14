"""Pictures of unknown origin to upright RGB arrays, with every bound checked before memory is taken.

Usage:

    rgb = read_picture(path)                      # uint8 (H, W, 3)
    stored = original_jpeg(path.read_bytes())     # the same bytes where they may be passed on, else None
"""

import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from shards.errors import DecodeError
from shards.names import printable

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "encode_jpeg",
    "original_jpeg",
    "picture_box",
    "read_bytes_bounded",
    "read_picture",
    "read_views",
    "scale_down",
]

MAX_FILE_BYTES = 128 * 1024**2
"""A larger picture file is refused unread."""
MAX_PIXELS = 80_000_000
"""A larger picture is refused by its header; below the bound at which Pillow itself warns."""

_MAX_FRAMES = 64
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
_WIDE_GREY = ("I;16", "I;16L", "I;16B", "I;16N")


def read_bytes_bounded(path: Path, max_bytes: int = MAX_FILE_BYTES, *, name: str | None = None) -> bytes:
    """The content of a plain file of bounded size.

    Args:
        path: The file.
        max_bytes: Checked before anything is read.
        name: What to call it in errors, which go into lists of rejects; its path where none is given.

    Raises:
        DecodeError: Missing, no plain file, empty, too large or unreadable.
    """
    shown = printable(str(path)) if name is None else name
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError(f"{shown}: no plain file")
        if not 0 < status.st_size <= max_bytes:
            what = "empty file" if status.st_size == 0 else f"{status.st_size} bytes, more than {max_bytes}"
            raise DecodeError(f"{shown}: {what}")
        with path.open("rb") as file:
            return file.read(max_bytes)
    except OSError as error:
        raise DecodeError(f"{shown}: {error.strerror or error}") from None


def read_picture(
    source: bytes | Path, *, name: str = "picture", max_pixels: int = MAX_PIXELS, draft_px: int | None = None
) -> NDArray[np.uint8]:
    """Decode one picture to RGB, turned upright by its EXIF orientation.

    Palette, grey, 16-bit grey (scaled by 1/257), CMYK and transparency (over white, as a browser shows it) become
    plain RGB. Of a multi-picture JPEG (MPO) the first frame counts, which is the picture every other program shows;
    animations and other files of several frames are refused.

    Args:
        source: The encoded bytes, or a file.
        name: What to call it in errors; a path names itself.
        max_pixels: Bound on width x height, checked on the header.
        draft_px: A JPEG may be decoded at a fraction of its size, which is much faster, but not below this side.

    Returns:
        uint8 (H, W, 3).

    Raises:
        DecodeError: Not a picture of a known format, truncated, damaged, or over a bound.
    """
    if isinstance(source, Path):
        name = printable(str(source))
        source = read_bytes_bounded(source)
    with _opened(source, name) as image:
        if image.format != "MPO" and getattr(image, "n_frames", 1) != 1:
            raise DecodeError(f"{name}: {image.format} with several frames")
        return _upright(image, name, max_pixels, draft_px)


def read_views(data: bytes, *, name: str = "picture", max_pixels: int = MAX_PIXELS) -> dict[int, NDArray[np.uint8]]:
    """Decode the full-sized views of a file, at most two, by their frame number.

    Two come from a multi-picture JPEG (MPO) of a stereo camera; previews, gain maps and other smaller frames are no
    views. Every other file gives what `read_picture` gives, as frame 0. Frames that carry no EXIF orientation of
    their own take the first one's, as the whole camera was turned.

    Returns:
        Frame number -> uint8 (H, W, 3).

    Raises:
        DecodeError: As `read_picture`, also where only the second view is damaged.
    """
    with _opened(data, name) as image:
        frames = _view_frames(image, name) if image.format == "MPO" else []
        if len(frames) < 2:
            return {0: read_picture(data, name=name, max_pixels=max_pixels)}
        image.seek(0)
        turned = image.getexif().get(ExifTags.Base.Orientation)
        views = {}
        for frame in frames[:2]:
            image.seek(frame)
            if turned and ExifTags.Base.Orientation not in image.getexif():
                image.getexif()[ExifTags.Base.Orientation] = turned
            views[frame] = _upright(image, name, max_pixels)
        return views


def _view_frames(image: Image.Image, name: str) -> list[int]:
    """Numbers of the largest frames of one size of an MPO; the second is tagged 'Undefined' by some cameras."""
    count = getattr(image, "n_frames", 1)
    if count > _MAX_FRAMES:
        raise DecodeError(f"{name}: {count} frames, more than {_MAX_FRAMES}")
    sizes: dict[int, tuple[int, int]] = {}
    broken = None
    for frame in range(count):
        try:
            image.seek(frame)
            sizes[frame] = image.size
        except Exception as error:  # as of any decoder; a broken preview does no harm
            broken = f"{name}: frame {frame + 1} of {count}: {error}"
    largest = max(sizes.values(), key=lambda size: size[0] * size[1], default=(0, 0))
    views = [frame for frame, size in sizes.items() if size == largest]
    if len(views) < 2 and broken is not None:
        raise DecodeError(broken)
    return views


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """An image of a known format, with any fault of its decoder told as a DecodeError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd EXIF and the like; what matters raises
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                yield image
        except DecodeError:
            raise
        except Exception as error:  # decoders of hostile bytes raise anything from struct.error to IndexError
            reason = "no picture of a known format" if isinstance(error, UnidentifiedImageError) else str(error)
            raise DecodeError(f"{name}: {reason or type(error).__name__}") from None


def _upright(image: Image.Image, name: str, max_pixels: int, draft_px: int | None = None) -> NDArray[np.uint8]:
    if image.width * image.height > max_pixels:
        raise DecodeError(f"{name}: {image.width} x {image.height} pixels, more than {max_pixels}")
    if draft_px is not None:
        image.draft(None, (draft_px, draft_px))
    image.load()
    return np.array(_to_rgb(ImageOps.exif_transpose(image)))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _WIDE_GREY or (image.mode == "I" and image.format in ("PNG", "PPM")):
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise DecodeError(f"pixels of mode {image.mode} have no defined range")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def original_jpeg(data: bytes) -> bytes | None:
    """The bytes themselves where they may be stored as they are, else None.

    They may where the file is one plain 8-bit baseline or progressive JPEG of three components without EXIF (so also
    upright), GPS, XMP, comments, colour profile, thumbnail or anything after its end: nothing personal is passed on,
    and every reader sees the same picture.
    """
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        return None
    position, frames, in_scan = 2, 0, False
    while position < len(data):
        if in_scan:  # entropy-coded bytes run to the next marker that is neither stuffing nor a restart
            position = data.find(b"\xff", position)
            if position < 0 or position + 1 >= len(data):
                return None
            if data[position + 1] == 0 or 0xD0 <= data[position + 1] <= 0xD7:
                position += 2
                continue
            in_scan = False
        if position + 1 >= len(data) or data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xD9:
            return data if frames == 1 and position + 2 == len(data) else None
        segment = data[position + 4 : position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")]
        if marker in (0xC0, 0xC1, 0xC2):
            frames += 1
            if len(segment) < 6 or segment[0] != 8 or segment[5] != 3:
                return None
        elif marker == 0xE0:
            if segment[:5] != b"JFIF\0" or segment[12:14] != b"\0\0":
                return None
        elif marker == 0xEE:
            if segment[:5] != b"Adobe" or len(segment) != 12:
                return None
        elif marker not in (0xC4, 0xDA, 0xDB, 0xDD):
            return None
        in_scan = marker == 0xDA
        position += 4 + len(segment)
    return None


def encode_jpeg(rgb: NDArray[np.uint8], quality: int) -> bytes:
    """Encode uint8 (H, W, 3) as JPEG without metadata; full-resolution chroma from quality 90 up."""
    image, subsampling = Image.fromarray(rgb), 0 if quality >= 90 else 2
    buffer = io.BytesIO()
    try:
        image.save(buffer, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
    except OSError:  # to optimize, Pillow needs the whole picture in a buffer that it makes too small for noise
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def scale_down(rgb: NDArray[np.uint8], long_side_px: int) -> NDArray[np.uint8]:
    """Scale uint8 (H, W, 3) so that its long side is at most `long_side_px`, antialiased; never up."""
    height, width = rgb.shape[:2]
    scale = long_side_px / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))


def picture_box(rgb: NDArray[np.uint8], *, black: int = 24, share: float = 0.99) -> tuple[int, int, int, int]:
    """The part inside a black frame (letterbox) as y, x, height, width; the whole picture where there is none.

    Args:
        rgb: uint8 (H, W, 3).
        black: A pixel is black where no channel exceeds this; JPEG rings a little around the frame.
        share: A row or column belongs to the frame where at least this share of it is black.
    """
    dark = rgb.max(axis=2) <= black
    rows, columns = _inside(dark, share)
    inner_columns = _inside(dark[rows].T, share)[0] if rows.stop > rows.start else columns
    if rows.stop <= rows.start or inner_columns.stop <= inner_columns.start:
        return 0, 0, *rgb.shape[:2]
    return rows.start, inner_columns.start, rows.stop - rows.start, inner_columns.stop - inner_columns.start


def _inside(dark: NDArray[np.bool_], share: float) -> tuple[slice, slice]:
    """Rows, then columns, between the first and the last that are not black."""
    spans = []
    for axis in (1, 0):
        lit = np.flatnonzero(dark.mean(axis=axis) < share)
        spans.append(slice(int(lit[0]), int(lit[-1]) + 1) if lit.size else slice(0, 0))
    return spans[0], spans[1]
