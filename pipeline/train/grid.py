"""Pictures of what a network has learnt: input, target, prediction and ordinal pairs, a row each.

Image.fromarray(picture_grid([picture_row(image, target, known, prediction, pairs)])).save("grid.jpg")
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.eval.colour import colourise
from pipeline.eval.metrics import judge_pairs
from pipeline.eval.pictures import draw_pairs

__all__ = ["picture_grid", "picture_row"]

PANEL_HW = (192, 256)
"""Box in pixels that each picture is scaled into; 10 rows stay below 2 MB as JPEG."""
PAIRS_DRAWN = 32
"""More lines would hide the picture."""
BACKGROUND = 24
MARGIN = 4


def picture_row(
    image: NDArray[np.uint8],
    target: NDArray[Any] | None,
    known: NDArray[np.bool_] | None,
    prediction: NDArray[np.float32],
    pairs: NDArray[np.int16],
) -> NDArray[np.uint8]:
    """One picture: input, target, prediction, and pairs drawn green where the prediction orders them rightly.

    The dot of a pair lies on the point that is nearer in truth.

    Args:
        image: (H, W, 3) RGB.
        target: (H, W) inverse depth, larger = nearer; None for sets with pairs only.
        known: (H, W) where the target means something.
        prediction: (H, W) inverse depth.
        pairs: (N, 5) `y_a, x_a, y_b, x_b, relation`; the first unequal ones are drawn.

    Returns:
        (192, 1024, 3) RGB.
    """
    empty = np.full_like(image, BACKGROUND)
    panels = [
        _into_panel(image),
        _into_panel(empty if target is None else colourise(target, known)),
        _into_panel(colourise(prediction)),
        _draw_pairs(_into_panel(image), image.shape[:2], prediction, pairs),
    ]
    return np.concatenate(panels, axis=1)


def picture_grid(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Rows of `picture_row`, (h, w, 3) each, below each other."""
    return np.concatenate(rows, axis=0)


def _draw_pairs(
    panel: NDArray[np.uint8], picture_hw: tuple[int, ...], prediction: NDArray[np.float32], pairs: NDArray[np.int16]
) -> NDArray[np.uint8]:
    """The pairs on a picture that `_into_panel` has scaled; judged at its own pixels."""
    drawn = pairs[pairs[:, 4] != 0][:PAIRS_DRAWN].astype(np.int32)
    wrong = judge_pairs(prediction, drawn)
    scale, size_hw = _fit(picture_hw)
    corner_yx = (np.array(PANEL_HW) - size_hw) // 2
    drawn[:, :4] = np.rint((drawn[:, :4].reshape(-1, 2, 2) + 0.5) * scale - 0.5 + corner_yx).reshape(-1, 4)
    return draw_pairs(panel, drawn, wrong, max_pairs=PAIRS_DRAWN)


def _into_panel(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale into the box with the aspect kept, centred."""
    scale, (height, width) = _fit(picture.shape[:2])
    scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    panel = np.full((*PANEL_HW, 3), BACKGROUND, dtype=np.uint8)
    top, left = (PANEL_HW[0] - height) // 2, (PANEL_HW[1] - width) // 2
    panel[top : top + height, left : left + width] = scaled
    return panel


def _fit(picture_hw: tuple[int, ...]) -> tuple[float, tuple[int, int]]:
    """Scale of a picture that fills the box, but for a small margin, and its height and width then."""
    height, width = picture_hw
    scale = min((PANEL_HW[0] - MARGIN) / height, (PANEL_HW[1] - MARGIN) / width)
    return scale, (max(1, round(height * scale)), max(1, round(width * scale)))
