"""Pictures of the cases that a network gets most wrong: input, prediction, truth or pairs, and the wrong pairs in red.

clear_worst(Path("worst"))
save_worst(scores, benchmark, {"ours": predict}, Path("worst/01_gt"), 8)
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.eval.colour import colourise
from pipeline.eval.pictures import Cell, compose, draw_pairs
from pipeline.eval.protocols.base import Benchmark, Metric, Shown
from pipeline.eval.scores import Scores, predictions
from pipeline.eval.whdr import Predict
from shards.images import scale_down

__all__ = ["clear_worst", "save_worst", "worst_cases"]

_LONG_SIDE_PX = 1024
_CELL_PX = 448
_PAIRS_DRAWN = 60


def worst_cases(scores: Scores, method: str, count: int) -> list[int]:
    """The `count` worst pictures of a method by the first metric, worst first, as numbers of the scores.

    Of equally wrong ones that whose wrong pairs are wrong by more comes first, then the earlier.
    """
    place = scores.methods.index(method)
    value = scores.values()[:, place, 0] * (1 if scores.metrics[0].lower_is_better else -1)
    judged = np.flatnonzero(np.isfinite(value))
    order = np.lexsort((judged, -scores.margins[judged, place], -value[judged]))
    return [int(judged[number]) for number in order[:count]]


def save_worst(
    scores: Scores, benchmark: Benchmark, networks: Mapping[str, Predict], folder: Path, count: int
) -> list[Path]:
    """Predict the worst cases of each network again and draw them: `FOLDER/NETWORK/01_PICTURE.png`.

    Args:
        scores: of the benchmark.
        benchmark: the same, to read the pictures from.
        networks: methods of the scores to draw.
        folder: where; made if missing.
        count: pictures a network.

    Returns:
        The files, worst first for each network.

    Raises:
        OSError: a file cannot be written.
    """
    files = []
    for method, predict in networks.items():
        below = folder / _plain(method)
        below.mkdir(parents=True, exist_ok=True)
        values = scores.values()[:, scores.methods.index(method), 0]
        for rank, number in enumerate(worst_cases(scores, method, count), 1):
            case = benchmark.case(scores.indices[number])
            (inverse_depth,) = predictions(predict, [case])
            shown = benchmark.show(case, inverse_depth, scores.settings[method].value)
            path = below / f"{rank:02d}_{_plain(case.name)}.png"
            Image.fromarray(_sheet(shown, case.name, scores.metrics[0], float(values[number]))).save(path)
            files.append(path)
    return files


def clear_worst(folder: Path) -> None:
    """Delete what an earlier evaluation has drawn, which would mix with the new pictures; nothing else is touched."""
    for old in folder.glob("[0-9][0-9]_*/*/[0-9][0-9]_*.png"):
        old.unlink()
    for empty in sorted(folder.glob("[0-9][0-9]_*/**/"), reverse=True):
        if not any(empty.iterdir()):
            empty.rmdir()


def _sheet(shown: Shown, name: str, metric: Metric, value: float) -> NDArray[np.uint8]:
    ordered = shown.pairs[:, 4] != 0
    wrong = int(np.count_nonzero(shown.wrong & ordered))
    figure = f"{metric.heading.removesuffix(' %')} {100 * value:.1f} %"
    truth = [] if shown.truth is None else [Cell(colourise(shown.truth), "grey: unknown")]
    cells = [
        Cell(scale_down(shown.image, _LONG_SIDE_PX), name),
        Cell(colourise(shown.inverse_depth), figure),
        *truth,
        Cell(_overlay(shown), f"{wrong} of {np.count_nonzero(ordered)} ordered pairs wrong"),
    ]
    headings = ["input", "prediction, red = near", *(["truth"] if truth else []), "large dot = nearer; red = wrong"]
    return compose(headings, [cells], cell_width_px=_CELL_PX)


def _overlay(shown: Shown) -> NDArray[np.uint8]:
    """Pairs on the picture, brought to the width of two cells so that the lines neither vanish nor cover it."""
    height, width = shown.image.shape[:2]
    factor = 2 * _CELL_PX / width
    size_hw = max(1, round(height * factor)), round(width * factor)
    large = np.asarray(Image.fromarray(shown.image).resize(size_hw[::-1], Image.Resampling.BILINEAR))
    drawn = shown.pairs[:, 4] != 0
    moved = shown.pairs[drawn].astype(np.int64)
    moved[:, :4] = np.clip(
        np.rint((moved[:, :4] + 0.5) * factor - 0.5), 0, [*np.subtract(size_hw, 1), *np.subtract(size_hw, 1)]
    )
    return draw_pairs(large, moved, shown.wrong[drawn], max_pairs=_PAIRS_DRAWN)


def _plain(name: str) -> str:
    """A name as a plain file name."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", name).strip("._")[-80:] or "_"
