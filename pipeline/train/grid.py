"""Pictures of what a network has learnt: input, target, prediction and ordinal pairs, a row each; and the pairs large.

Image.fromarray(picture_grid([picture_row(image, target, known, prediction, pairs)])).save("grid.jpg")
Image.fromarray(pair_sheet([(image, prediction, pairs)])).save("pairs.jpg")
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.eval.colour import colourise
from pipeline.eval.metrics import judge_pairs
from pipeline.eval.pictures import Cell, compose, draw_pairs

__all__ = ["pair_sheet", "picture_grid", "picture_row"]

PANEL_HW = (192, 256)
"""Box in pixels that each picture is scaled into; 10 rows stay below 2 MB as JPEG."""
SHEET_PANEL_HW = (360, 480)
"""The same of the sheet of pairs."""
SHEET_COLUMNS = 2
LEGEND = ("thin: order right, thick with a cross: order wrong", "larger dot: nearer in truth")
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
    """One picture: input, target, prediction, and pairs as `draw_pairs` marks those that the prediction orders wrongly.

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
        _into_panel(image, PANEL_HW),
        _into_panel(empty if target is None else colourise(target, known), PANEL_HW),
        _into_panel(colourise(prediction), PANEL_HW),
        _pairs_panel(image, prediction, pairs, PANEL_HW),
    ]
    return np.concatenate(panels, axis=1)


def picture_grid(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Rows of `picture_row`, (h, w, 3) each, below each other."""
    return np.concatenate(rows, axis=0)


def pair_sheet(
    pictures: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int16]]],
) -> NDArray[np.uint8]:
    """Ordinal pairs on large pictures, each with its share of wrong pairs below it.

    Args:
        pictures: `image`, `prediction` and `pairs` of each, as in `picture_row`.

    Returns:
        (H, 978, 3) RGB, two pictures beside each other.
    """
    cells = [
        Cell(_pairs_panel(image, prediction, pairs, SHEET_PANEL_HW), _share_wrong(prediction, pairs))
        for image, prediction, pairs in pictures
    ]
    rows = [cells[first : first + SHEET_COLUMNS] for first in range(0, len(cells), SHEET_COLUMNS)]
    return compose(LEGEND, rows, cell_width_px=SHEET_PANEL_HW[1])


def _share_wrong(prediction: NDArray[np.float32], pairs: NDArray[np.int16]) -> str:
    wrong, unequal = np.count_nonzero(judge_pairs(prediction, pairs)), np.count_nonzero(pairs[:, 4])
    return f"{wrong / unequal:.1%} of {unequal:,} pairs wrong" if unequal else "no unequal pair"


def _pairs_panel(
    image: NDArray[np.uint8], prediction: NDArray[np.float32], pairs: NDArray[np.int16], box_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """The picture in its box with its first unequal pairs, judged at the picture's own pixels."""
    drawn = pairs[pairs[:, 4] != 0][:PAIRS_DRAWN].astype(np.int32)
    wrong = judge_pairs(prediction, drawn)
    scale, size_hw = _fit(image.shape[:2], box_hw)
    corner_yx = (np.array(box_hw) - size_hw) // 2
    drawn[:, :4] = np.rint((drawn[:, :4].reshape(-1, 2, 2) + 0.5) * scale - 0.5 + corner_yx).reshape(-1, 4)
    return draw_pairs(_into_panel(image, box_hw), drawn, wrong, max_pairs=PAIRS_DRAWN)


def _into_panel(picture: NDArray[np.uint8], box_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale into the box with the aspect kept, centred."""
    scale, (height, width) = _fit(picture.shape[:2], box_hw)
    scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    panel = np.full((*box_hw, 3), BACKGROUND, dtype=np.uint8)
    top, left = (box_hw[0] - height) // 2, (box_hw[1] - width) // 2
    panel[top : top + height, left : left + width] = scaled
    return panel


def _fit(picture_hw: tuple[int, ...], box_hw: tuple[int, int]) -> tuple[float, tuple[int, int]]:
    """Scale of a picture that fills the box, but for a small margin, and its height and width then."""
    height, width = picture_hw
    scale = min((box_hw[0] - MARGIN) / height, (box_hw[1] - MARGIN) / width)
    return scale, (max(1, round(height * scale)), max(1, round(width * scale)))
