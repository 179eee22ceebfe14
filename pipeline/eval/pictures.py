"""Sheets of pictures for people: rows of input, truth and predictions with captions, and ordinal pairs drawn in.

sheet = compose(["input", "truth", "ours"], [[Cell(image), Cell(truth), Cell(ours, "WHDR 14.2 %")]])
Image.fromarray(sheet).save("report.png")
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Cell", "compose", "draw_pairs"]

BACKGROUND = (255, 255, 255)
INK = (40, 40, 40)
RIGHT = (40, 200, 70)
WRONG = (235, 40, 40)
GAP_PX = 6
CROSS_PX = 9
"""Of a wrong pair, whose colour alone not everybody can tell from that of a right one."""


class Cell(NamedTuple):
    """One picture of a sheet."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB, any size; it is scaled to the width of its column."""
    caption: str = ""
    """Text below it."""


def compose(
    headings: Sequence[str], rows: Sequence[Sequence[Cell]], *, cell_width_px: int = 256, font_px: int = 14
) -> NDArray[np.uint8]:
    """Lay pictures out in rows below the headings of their columns.

    Args:
        headings: text above each column.
        rows: cells from left to right; a row may be shorter than the headings, not longer.
        cell_width_px: width of every column.
        font_px: height of the text.

    Returns:
        The sheet as RGB (H, W, 3). Text that is wider than its column is cut.

    Raises:
        ValueError: a row is longer than the headings.
    """
    if any(len(row) > len(headings) for row in rows):
        raise ValueError(f"a row has more cells than the {len(headings)} headings")
    font, line_px = ImageFont.load_default(size=font_px), font_px + GAP_PX
    scaled = [[_scale_to_width(cell.image, cell_width_px) for cell in row] for row in rows]
    heights = [
        max((picture.height for picture in pictures), default=0) + line_px * any(cell.caption for cell in row)
        for pictures, row in zip(scaled, rows, strict=True)
    ]
    sheet_size = (GAP_PX + len(headings) * (cell_width_px + GAP_PX), line_px + sum(h + GAP_PX for h in heights))
    sheet = Image.new("RGB", sheet_size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)

    def write(column: int, top: int, text: str) -> None:
        while text and draw.textlength(text, font=font) > cell_width_px:
            text = text[:-1]
        draw.text((GAP_PX + column * (cell_width_px + GAP_PX), top + GAP_PX // 3), text, fill=INK, font=font)

    for column, heading in enumerate(headings):
        write(column, 0, heading)
    top = line_px
    for pictures, row, height in zip(scaled, rows, heights, strict=True):
        for column, (picture, cell) in enumerate(zip(pictures, row, strict=True)):
            sheet.paste(picture, (GAP_PX + column * (cell_width_px + GAP_PX), top))
            write(column, top + picture.height, cell.caption)
        top += height + GAP_PX
    return np.array(sheet)


def draw_pairs(
    image: NDArray[np.uint8], pairs: NDArray[Any], wrong: NDArray[np.bool_], *, max_pairs: int = 40
) -> NDArray[np.uint8]:
    """Draw unequal pairs: right as thin green lines, wrong as thick red ones with a cross, on top of the others.

    The larger dot is the point that is nearer in truth.

    Args:
        image: (H, W, 3) RGB.
        pairs: (P, 5) integers `y_a, x_a, y_b, x_b, relation`.
        wrong: (P,) from `metrics.judge_pairs`.
        max_pairs: the first so many unequal pairs are drawn.

    Returns:
        A new, darker picture of the same size.
    """
    picture: NDArray[np.uint8] = np.ascontiguousarray(image // 2)  # darker, so that the lines stand out on any picture
    unequal = np.flatnonzero(pairs[:, 4])[:max_pairs]
    unit_px = max(1, round(min(image.shape[:2]) / 200))
    for index in sorted(unequal, key=lambda index: bool(wrong[index])):
        y_a, x_a, y_b, x_b, relation = (int(value) for value in pairs[index])
        colour = WRONG if wrong[index] else RIGHT
        cv2.line(picture, (x_a, y_a), (x_b, y_b), colour, (2 if wrong[index] else 1) * unit_px, cv2.LINE_AA)
        if wrong[index]:
            middle = ((x_a + x_b) // 2, (y_a + y_b) // 2)
            cv2.drawMarker(picture, middle, colour, cv2.MARKER_TILTED_CROSS, CROSS_PX * unit_px, 2 * unit_px)
        for point, nearer in (((x_a, y_a), relation < 0), ((x_b, y_b), relation > 0)):
            cv2.circle(picture, point, (3 if nearer else 1) * unit_px, colour, -1, cv2.LINE_AA)
    return picture


def _scale_to_width(image: NDArray[np.uint8], width_px: int) -> Image.Image:
    height_px = max(1, round(image.shape[0] * width_px / image.shape[1]))
    return Image.fromarray(image).resize((width_px, height_px), Image.Resampling.LANCZOS)
