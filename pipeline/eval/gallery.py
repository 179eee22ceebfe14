"""A sheet that shows what several predictors make of the same pictures, beside the truth.

sheet = comparison_sheet({"lower is nearer": lower_is_nearer, "ours": predict}, pictures)
Image.fromarray(sheet).save("report.png")
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.colour import colourise
from pipeline.eval.metrics import draw_dense_pairs, judge_pairs
from pipeline.eval.pictures import Cell, compose, draw_pairs
from pipeline.eval.truth import TruthPicture
from pipeline.eval.whdr import Predict

__all__ = ["comparison_sheet"]


def comparison_sheet(
    methods: Mapping[str, Predict],
    pictures: Iterable[TruthPicture],
    *,
    num_pairs: int = 10_000,
    seed: int = 0,
    tolerance: float = 0.02,
    cell_width_px: int = 200,
) -> NDArray[np.uint8]:
    """Rows of picture, truth, each method with its WHDR, and the pairs of the last method, as `draw_pairs` marks them.

    Args:
        methods: heading -> predictor; the last one's pairs are drawn.
        pictures: one row each.
        num_pairs: pairs that the WHDR below a prediction is measured on, as in `whdr.evaluate_truth`.
        seed: of these pairs.
        tolerance: two values of the truth are equal where their ratio is at most 1 + this.
        cell_width_px: width of a column.

    Returns:
        The sheet as RGB (H, W, 3).
    """
    rows = []
    for picture in pictures:
        pairs = draw_dense_pairs(
            picture.inverse_depth, picture.name, num_pairs=num_pairs, seed=seed, tolerance=tolerance
        )
        cells = [Cell(picture.image, picture.name), Cell(colourise(picture.inverse_depth))]
        wrong = np.zeros(len(pairs), dtype=bool)
        for predict in methods.values():
            inverse_depth = predict(picture.image)
            wrong = judge_pairs(inverse_depth, pairs)
            unequal = np.count_nonzero(pairs[:, 4])
            caption = f"WHDR {100 * np.count_nonzero(wrong) / unequal:.1f} %" if unequal else "all pairs equal"
            cells.append(Cell(colourise(inverse_depth), caption))
        cells.append(Cell(_overlay(picture.image, pairs, wrong, 2 * cell_width_px)))
        rows.append(cells)
    return compose(["picture", "truth", *methods, "pairs of the last"], rows, cell_width_px=cell_width_px)


def _overlay(
    image: NDArray[np.uint8], pairs: NDArray[np.int16], wrong: NDArray[np.bool_], min_width_px: int
) -> NDArray[np.uint8]:
    """Pairs drawn on a picture, which is enlarged where it is so small that the lines would cover it."""
    factor = -(-min_width_px // image.shape[1])
    large = image.repeat(factor, axis=0).repeat(factor, axis=1)
    moved = pairs.astype(np.int32)
    moved[:, :4] = moved[:, :4] * factor + factor // 2
    return draw_pairs(large, moved, wrong)
