"""A prediction as files: 16-bit PNG, npy, colours, side by side, point cloud.

    write_prediction(Path("depth/photo"), image, inverse_depth, ("png16", "npy"))

Each file appears whole or not at all, so that a killed job can be carried on.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from pipeline.eval.colour import colourise
from pipeline.eval.point_cloud import Camera, encode_ply, point_cloud
from pipeline.eval.prediction_files import DEFAULT_KINDS, KINDS
from shards.images import scale_down
from shards.storage import publish_bytes

__all__ = ["encode_inverse_depth", "write_prediction"]

SIDE_LIMIT_PX = 2048
JPEG_LIMIT_PX = 65_500
JPEG_QUALITY = 92
_COLOURED = frozenset({"colour", "colour-jpg", "side-by-side"})
DESCRIPTION = (
    "relative inverse depth, larger = nearer; value = InverseDepthMin + pixel / 65535 * (InverseDepthMax - "
    "InverseDepthMin), the least and the greatest value of this picture"
)


def write_prediction(
    stem: Path,
    image: NDArray[np.uint8],
    inverse_depth: NDArray[Any],
    kinds: Sequence[str] = DEFAULT_KINDS,
    *,
    camera: Camera = Camera(),  # noqa: B008 - frozen
) -> list[Path]:
    """Write the files of a prediction, folders included.

    Args:
        stem: path of the files without their suffixes.
        image: (H, W, 3) RGB.
        inverse_depth: (H, W), larger = nearer.
        kinds: of `KINDS`.
        camera: what a point cloud assumes.

    Returns:
        The files.

    Raises:
        ValueError: a value is not finite, or the picture too large for the format.
        ShardError: a file cannot be written.
        OSError: the folder cannot be made.
    """
    if not np.isfinite(inverse_depth).all():
        raise ValueError("the prediction holds values that are not finite; the network has diverged")
    stem = stem.absolute()
    stem.parent.mkdir(parents=True, exist_ok=True)
    colour = colourise(inverse_depth) if _COLOURED.intersection(kinds) else np.empty((0, 0, 3), np.uint8)
    files = []
    for kind in kinds:
        files.append(stem.with_name(stem.name + KINDS[kind].suffix))
        publish_bytes(str(files[-1]), _encode(kind, image, inverse_depth, colour, camera))
    return files


def encode_inverse_depth(inverse_depth: NDArray[Any]) -> NDArray[np.uint16]:
    """Stretch a finite map (H, W) to 0..65535; a constant one becomes 0."""
    low, high = float(inverse_depth.min()), float(inverse_depth.max())
    stretched = (inverse_depth.astype(np.float64) - low) / (high - low if high > low else 1) * 65535
    return np.rint(stretched).astype(np.uint16)


def _encode(
    kind: str, image: NDArray[np.uint8], inverse_depth: NDArray[Any], colour: NDArray[np.uint8], camera: Camera
) -> bytes:
    match kind:
        case "png16":
            notes = PngImagePlugin.PngInfo()
            notes.add_text("Description", DESCRIPTION)
            notes.add_text("InverseDepthMin", repr(float(inverse_depth.min())))
            notes.add_text("InverseDepthMax", repr(float(inverse_depth.max())))
            return _picture_bytes(encode_inverse_depth(inverse_depth), "PNG", pnginfo=notes)
        case "npy":
            buffer = io.BytesIO()
            np.save(buffer, inverse_depth.astype(np.float32, copy=False), allow_pickle=False)
            return buffer.getvalue()
        case "colour":
            return _picture_bytes(colour, "PNG")
        case "colour-jpg":
            return _picture_bytes(colour, "JPEG", quality=JPEG_QUALITY)
        case "side-by-side":
            sides = scale_down(image, SIDE_LIMIT_PX), scale_down(colour, SIDE_LIMIT_PX)
            return _picture_bytes(np.concatenate(sides, axis=1), "JPEG", quality=JPEG_QUALITY)
        case "ply":
            return encode_ply(point_cloud(image, inverse_depth, camera))
    raise ValueError(f"there is no kind of output called {kind}")


def _picture_bytes(pixels: NDArray[Any], file_format: str, **options: Any) -> bytes:
    if file_format == "JPEG" and max(pixels.shape[:2]) > JPEG_LIMIT_PX:
        size = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise ValueError(f"{size} pixels are more than a JPEG holds; take --format colour")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()
