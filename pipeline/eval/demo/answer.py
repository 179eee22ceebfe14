"""What the page gets for a picture: itself, upright and small enough to show, and the inverse depth of each pixel.

    body = answer(predict, data)

One block of bytes, so that the page need not decode pictures for their values: the length of the head (uint32), the
head (JSON), the picture (JPEG), the values (uint16, row by row); little-endian. A value v stands for
`least + v / 65535 * (greatest - least)`.
"""

import io
import json
import struct
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.eval.output import encode_inverse_depth
from pipeline.eval.predict import Predictor
from pipeline.eval.stills import decode_still
from shards.errors import RunError
from shards.images import encode_jpeg, scale_down
from shards.sources.render import render_scene

__all__ = ["EQUAL_SHARE", "UPLOAD_PIXELS", "VIEW_PX", "answer", "example_picture", "pack_answer"]

VIEW_PX = 1280
"""Long side of what the page shows, at most."""
UPLOAD_PIXELS = 51_000_000
"""Enough for a phone's 50 million; a few kilobytes of PNG can hold as many, which take a gigabyte to decode."""
EQUAL_SHARE = 0.02
"""Two points are equally far where they differ by at most this share of the picture's range, as in training."""

_JPEG_QUALITY = 90
_ROUNDING = 8 * float(np.finfo(np.float32).eps)
_EXAMPLE_SEED, _EXAMPLE_SCENE, _EXAMPLE_HW = 7, 5, (360, 480)


def answer(predict: Predictor, data: bytes) -> bytes:
    """Decode a picture, predict it, and pack both for the page.

    Args:
        predict: Asks the network.
        data: The encoded picture, of any origin.

    Raises:
        DecodeError: It is no picture, damaged, or over a bound.
        RunError: The network has no finite answer, or the memory of its device does not hold the picture.
    """
    upright = decode_still(data, name="this file", max_pixels=UPLOAD_PIXELS)
    image = scale_down(upright, max(VIEW_PX, _network_side(predict, upright)))
    try:
        inverse_depth = predict(image)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"the memory of {predict.device} is too small for this picture; start with a smaller --long-side"
        ) from error
    if not np.isfinite(inverse_depth).all():
        raise RunError("the network answers with values that are not finite: it has diverged in training")
    return pack_answer(image, inverse_depth, upright.shape[:2])


def pack_answer(image: NDArray[np.uint8], inverse_depth: NDArray[np.float32], picture_hw: tuple[int, ...]) -> bytes:
    """The bytes of an answer.

    Args:
        image: (H, W, 3) what the network was asked.
        inverse_depth: (H, W), finite.
        picture_hw: Height and width of the picture before it was scaled down.
    """
    shown = scale_down(image, VIEW_PX)
    height, width = shown.shape[:2]
    values: NDArray[Any] = cv2.resize(inverse_depth, (width, height), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(values.astype(np.float64), (2, 98))
    if high - low <= _ROUNDING * np.abs(values).max():
        high = low  # the page calls that flat, and does not spread the noise of rounding over all colours
    jpeg = encode_jpeg(shown, _JPEG_QUALITY)
    head = {
        "height": height,
        "width": width,
        "picture_height": picture_hw[0],
        "picture_width": picture_hw[1],
        "picture_bytes": len(jpeg),
        "least": float(values.min()),
        "greatest": float(values.max()),
        "p2": float(low),
        "p98": float(high),
    }
    text = json.dumps(head, allow_nan=False).encode()
    return struct.pack("<I", len(text)) + text + jpeg + encode_inverse_depth(values).astype("<u2").tobytes()


def example_picture() -> bytes:
    """A rendered scene as PNG, for who has no picture at hand; no training has seen it."""
    scene = render_scene(_EXAMPLE_SEED, _EXAMPLE_SCENE, *_EXAMPLE_HW, split="test")
    buffer = io.BytesIO()
    Image.fromarray(scene.left).save(buffer, "PNG")
    return buffer.getvalue()


def _network_side(predict: Predictor, image: NDArray[np.uint8]) -> int:
    """The longest side at which the network sees a picture: scaled down below it, it would see less."""
    sizes = predict.inference.sizes((image.shape[0], image.shape[1]), predict.size_hw)
    return max(max(size_hw) for size_hw in sizes)
