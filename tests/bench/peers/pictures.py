"""The data of the benchmark, made by code: pictures of 1/f noise with shapes, and ordinal pairs, as loose files.

make_loose(Path("runs/bench-data"), samples=2000, seed=0)
"""

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.bench.peers.measure import PAIRS, SIDE_PX

_FIELDS = 24
_SHAPES = 12
_CONTRAST = 36.0
_BLUR_PX = 1.0


def make_loose(work: Path, samples: int, seed: int) -> None:
    """Write `loose/NNNNNN.jpg` (quality 90) and `.npy`; a sample depends on the seed and its number alone."""
    folder = work / "loose"
    folder.mkdir(parents=True)
    fields = noise_fields(np.random.default_rng([seed, 0]))
    for number in range(samples):
        rng = np.random.default_rng([seed, 1, number])
        buffer = io.BytesIO()
        Image.fromarray(make_picture(rng, fields)).save(buffer, "JPEG", quality=90)
        (folder / f"{number:06d}.jpg").write_bytes(buffer.getvalue())
        np.save(folder / f"{number:06d}.npy", make_pairs(rng))


def noise_fields(rng: np.random.Generator) -> NDArray[np.float32]:
    """(_FIELDS, side, side) periodic noise whose amplitude falls with 1/f, of zero mean and unit deviation."""
    frequency = np.hypot(np.fft.fftfreq(SIDE_PX)[:, None], np.fft.rfftfreq(SIDE_PX)[None])
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((_FIELDS, SIDE_PX, SIDE_PX)))
    fields = np.fft.irfft2(white / frequency, s=(SIDE_PX, SIDE_PX))
    return (fields / fields.std(axis=(1, 2), keepdims=True)).astype(np.float32)


def make_picture(rng: np.random.Generator, fields: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(side, side, 3): a brightness field, weaker colour fields, shapes of one colour on top, blurred a little."""
    chosen = rng.choice(len(fields), 4, replace=False)
    rolls = rng.integers(0, SIDE_PX, (4, 2)).tolist()
    light, *colours = (np.roll(fields[index], roll, (0, 1)) for index, roll in zip(chosen, rolls, strict=True))
    picture = 128 + _CONTRAST * (light[..., None] + 0.4 * np.stack(colours, axis=-1))
    canvas = np.ascontiguousarray(picture.clip(0, 255).astype(np.uint8))
    for _ in range(_SHAPES):
        colour = rng.integers(0, 256, 3).tolist()
        centre, axes = rng.integers(0, SIDE_PX, 2).tolist(), rng.integers(6, 60, 2).tolist()
        angle = float(rng.uniform(0, 180))
        if rng.random() < 0.5:
            cv2.ellipse(canvas, centre, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints((centre, axes, angle)).astype(np.int32)
            cv2.fillConvexPoly(canvas, corners, colour, cv2.LINE_AA)
    return cv2.GaussianBlur(canvas, (0, 0), _BLUR_PX)


def make_pairs(rng: np.random.Generator) -> NDArray[np.int16]:
    """int16 (PAIRS, 5): y_a, x_a, y_b, x_b, relation; the two points differ."""
    a = rng.integers(0, SIDE_PX, (PAIRS, 2))
    b = (a + rng.integers(1, SIDE_PX, (PAIRS, 2))) % SIDE_PX
    return np.column_stack([a, b, rng.integers(-1, 2, PAIRS)]).astype(np.int16)
