"""Training pictures for people: what the network sees, what it shall learn from, and the pairs.

Image.fromarray(sample_sheet(batches)).save("samples.png")
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.data.colour import apply_colour
from pipeline.eval.colour import colourise
from pipeline.eval.pictures import Cell, compose, draw_pairs

__all__ = ["PAIRS_DRAWN", "sample_sheet"]

PAIRS_DRAWN = 48
"""More lines would hide the picture."""
EQUAL = (70, 150, 255)
HEADINGS = ("input", "inverse depth, dark = unsure", "pairs: large dot = nearer, blue = equal")
FAINTEST = 0.35


def sample_sheet(batches: Sequence[Mapping[str, Any]], *, cell_width_px: int = 288) -> NDArray[np.uint8]:
    """Lay out the pictures of batches, two a row, each with its target and its pairs.

    Args:
        batches: Of the training stream, with dense targets.
        cell_width_px: Width of a picture on the sheet.

    Returns:
        The sheet as RGB (H, W, 3).
    """
    cells = []
    for batch in batches:
        shown = (apply_colour(batch["image"], batch["colour"]) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        cells += [_cells(batch, number, np.ascontiguousarray(image)) for number, image in enumerate(shown)]
    rows = [[cell for group in cells[first : first + 2] for cell in group] for first in range(0, len(cells), 2)]
    return compose(HEADINGS * min(2, len(cells)), rows, cell_width_px=cell_width_px, font_px=12)


def _cells(batch: Mapping[str, Any], number: int, image: NDArray[np.uint8]) -> list[Cell]:
    inverse_depth, confidence = batch["inverse_depth"][number].numpy(), batch["confidence"][number].numpy()
    valid = batch["valid"][number].numpy()
    pairs = np.column_stack([batch["pairs_yx"][number].numpy(), batch["relation"][number].numpy()])[valid]
    top, left, height, width, flip = batch["view"][number].tolist()
    known, equal = np.mean(confidence > 0), np.mean(pairs[:, 4] == 0) if len(pairs) else 0.0
    return [
        Cell(image, f"{batch['keys'][number]}"),
        Cell(_target(inverse_depth, confidence), f"{height} x {width} at {top}, {left}{', mirrored' * flip}"),
        Cell(_pairs(image, pairs), f"{len(pairs)} pairs, {equal:.0%} equal; {known:.0%} of the pixels known"),
    ]


def _target(inverse_depth: NDArray[np.float32], confidence: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours of the inverse depth, the darker the less certain; unknown is grey."""
    known = confidence > 0
    share = np.where(known, FAINTEST + (1 - FAINTEST) * confidence / 255, 1)
    return np.rint(colourise(inverse_depth, known) * share[..., None]).astype(np.uint8)


def _pairs(image: NDArray[np.uint8], pairs: NDArray[Any]) -> NDArray[np.uint8]:
    """Evenly spread ones of the pairs: a sampler may give one kind after the other."""
    spread = pairs[np.linspace(0, len(pairs) - 1, min(PAIRS_DRAWN, len(pairs))).astype(int)]
    picture = draw_pairs(image, spread, np.zeros(len(spread), dtype=bool), max_pairs=PAIRS_DRAWN)
    for y_a, x_a, y_b, x_b in spread[spread[:, 4] == 0, :4].tolist():
        for point in ((x_a, y_a), (x_b, y_b)):
            cv2.circle(picture, point, 2, EQUAL, -1, cv2.LINE_AA)
        cv2.line(picture, (x_a, y_a), (x_b, y_b), EQUAL, 1, cv2.LINE_AA)
    return picture
