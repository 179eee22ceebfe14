"""Quality of the disparity labels against exact truth, beside plain DIS flow with a 2 px forward-backward check.

Ordinal error: share of random pixel pairs, known in label and truth and unequal in truth by more than 2 %, whose strict
order the label gets wrong; mean over scenes. Coverage: known share of the pixels with truth.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from pipeline.eval.metrics import draw_dense_pairs, judge_pairs
from pipeline.eval.truth import TruthFolder
from shards.config import MatchConfig
from shards.disparity import resize_nearest
from shards.flow import consistent
from shards.images import read_picture
from shards.match import match
from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene

from .rows import Row

NUM_PAIRS = 10_000
SCENES = 40


class TruePair(NamedTuple):
    name: str
    left: np.ndarray
    right: np.ndarray
    truth: np.ndarray


def run() -> dict[str, object]:
    """Measure the matchers on rendered scenes, and on the real ground truth where that is at hand."""
    record: dict[str, object] = {}
    sets = {"synthetic": list(synthetic_pairs()), "real": list(real_pairs())}
    for name, pairs in sets.items():
        if not pairs:
            continue
        figures = measure(pairs, {"ours": ours, "ours, dis": ours_dis, "ours, sgbm": ours_sgbm, "plain DIS": plain_dis})
        for method, (error, coverage, seconds) in figures.items():
            figure = f"ordinal error {100 * error:5.2f} %  coverage {100 * coverage:4.1f} %  {1000 * seconds:5.0f} ms"
            print(f"{name:10} {method:10} {figure}")
        ratio = figures["ours"][0] / figures["plain DIS"][0]
        print(f"{name:10} error ratio ours / plain DIS {ratio:.2f}")
        record[name] = {
            "ordinal_error_percent": {m: round(100 * f[0], 3) for m, f in figures.items()},
            "coverage_percent": {m: round(100 * f[1], 2) for m, f in figures.items()},
            "error_ratio": round(ratio, 3),
        }
    return record


def rows(record: dict[str, Any]) -> list[Row]:
    found = []
    for name, told in record.items():
        wrong, covered = told["ordinal_error_percent"], told["coverage_percent"]
        found += [
            Row(f"labels: wrong order, {name}", wrong["ours"], "%", "plain DIS", wrong["plain DIS"], "lower"),
            Row(f"labels: coverage, {name}", covered["ours"], "%", "plain DIS", covered["plain DIS"], "higher"),
        ]
    return found


def ours(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return match(left, right, MatchConfig()).left.disparity_px


def ours_dis(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return match(left, right, MatchConfig(method="dis")).left.disparity_px


def ours_sgbm(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return match(left, right, MatchConfig(method="sgbm")).left.disparity_px


def plain_dis(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (left, right)]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward, backward = dis.calc(*grey, None), dis.calc(*grey[::-1], None)
    return np.where(consistent(forward, backward, 2.0), -forward[..., 0], np.nan)


def measure(
    pairs: list[TruePair], methods: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]
) -> dict[str, tuple[float, float, float]]:
    figures = {}
    for method, estimate in methods.items():
        scores, start = [], time.perf_counter()
        for pair in pairs:
            label = resize_nearest(estimate(pair.left, pair.right), *pair.truth.shape)  # large ones are matched smaller
            scores.append(error_and_coverage(label, pair.truth, pair.name))
        seconds = (time.perf_counter() - start) / len(pairs)
        error, coverage = np.mean(scores, axis=0)
        figures[method] = (float(error), float(coverage), seconds)
    return figures


def error_and_coverage(label: np.ndarray, truth: np.ndarray, name: str) -> tuple[float, float]:
    """Ordinal error and coverage of a label (H, W), NaN where unknown, against a truth of the same size."""
    known = np.isfinite(label) & np.isfinite(truth)
    coverage = known.sum() / np.isfinite(truth).sum()
    drawn = draw_dense_pairs(np.where(known, truth, np.nan), name, num_pairs=NUM_PAIRS, seed=0, tolerance=0.02)
    return np.count_nonzero(judge_pairs(label, drawn)) / max(np.count_nonzero(drawn[:, 4]), 1), coverage


def synthetic_pairs() -> Iterator[TruePair]:
    config = SyntheticSourceConfig(kind="synthetic", height_px=288, width_px=384)
    for index in range(SCENES):
        scene = test_scene(config, index)
        yield TruePair(f"synthetic/{index}", scene.left, scene.right, scene.disparity_px)


def real_pairs() -> Iterator[TruePair]:
    root = Path(os.environ.get("DEPTHRANK_DATA", "../shared/data")) / "gt"
    for picture in TruthFolder(root) if root.is_dir() else ():
        right = root / picture.name / "right.png"
        if right.exists():
            yield TruePair(picture.name, picture.image, read_picture(right), picture.inverse_depth)
