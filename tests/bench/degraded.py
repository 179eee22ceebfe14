"""Labels and eye order of real pairs with truth, held badly and stored badly, through the whole of `label_stereo`.

Each of the 200 variants of the 28 scenes has all of it at once: the partner rolled by up to 1.5 degrees, scaled by up
to 3 %, shifted down by up to 15 px and in 7 of 10 sideways, so that disparities straddle zero, with another gamma; half
mirrored (and exchanged, so that they stay stereo), half with a black letterbox, half with swapped eyes; JPEG quality
60. Figures are means over what is accepted; a wrong eye order counts with its error.
"""

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np

from shards.config import PackConfig, PairsConfig, ShardsConfig
from shards.disparity import resize_nearest
from shards.sources import Item, StereoPair
from shards.sources.config import FolderSourceConfig
from shards.stereo import label_stereo

from .labels import error_and_coverage, real_pairs
from .rows import Row

COUNT = 200
SEED = 7
CONFIG = PackConfig(
    out="nowhere",
    source=FolderSourceConfig(kind="folder", path="nowhere"),
    shards=ShardsConfig(long_side_px=4096, pairs=PairsConfig(num_pairs=10)),
)


class Variant(NamedTuple):
    name: str
    first: np.ndarray
    second: np.ndarray
    truth: np.ndarray
    """Of the true left eye's picture."""
    eyes: str


class Outcome(NamedTuple):
    name: str
    reason: str | None
    eyes_right: bool
    error: float
    coverage: float


def run() -> dict[str, object]:
    """Measure; nothing where the real pictures are not at hand."""
    pairs = list(real_pairs())
    if not pairs:
        print("no real pictures at hand; set DEPTHRANK_DATA")
        return {}
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        outcomes = list(pool.imap(label, variants(pairs)))
    reasons = Counter(outcome.reason or "accepted" for outcome in outcomes)
    kept = [outcome for outcome in outcomes if outcome.reason is None]
    undecided = reasons["eyes_undecided"]
    error, coverage = (float(np.mean([getattr(one, name) for one in kept])) for name in ("error", "coverage"))
    eyes_right = float(np.mean([one.eyes_right for one in kept]))
    decided = len(kept) / (len(kept) + undecided)
    print(", ".join(f"{reason} {count}" for reason, count in reasons.most_common()))
    print(f"ordinal error {100 * error:.2f} %  coverage {100 * coverage:.1f} %")
    print(f"eye order right in {100 * eyes_right:.1f} % of those decided, {100 * decided:.1f} % decided")
    return {
        "outcomes": dict(reasons),
        "ordinal_error_percent": round(100 * error, 3),
        "coverage_percent": round(100 * coverage, 2),
        "eyes_right_percent": round(100 * eyes_right, 2),
        "eyes_decided_percent": round(100 * decided, 2),
    }


def rows(record: dict[str, Any]) -> list[Row]:
    wanted = {"ordinal_error": "lower", "coverage": "higher", "eyes_right": "higher", "eyes_decided": "higher"}
    return [
        Row(f"degraded: {name}", record[f"{name}_percent"], "%", "all of it", 100.0, better)
        for name, better in wanted.items()
        if record
    ]


def label(variant: Variant) -> Outcome:
    cv2.setNumThreads(1)
    sample = label_stereo(Item(variant.name), StereoPair(variant.first, variant.second), CONFIG)
    if sample.sample is None or sample.sample.disparity is None:
        return Outcome(variant.name, sample.reason, False, 0.0, 0.0)
    meta: dict[str, Any] = sample.sample.meta
    y, x, height, width = meta["crop_yxhw"]
    codes = resize_nearest(sample.sample.disparity, height, width).astype(np.float32)
    found = np.full(variant.truth.shape, np.nan, np.float32)
    found[y : y + height, x : x + width] = np.where(codes > 0, codes, np.nan)
    return Outcome(
        variant.name, None, meta["eyes"] == variant.eyes, *error_and_coverage(found, variant.truth, variant.name)
    )


def variants(pairs: list[Any]) -> Iterator[Variant]:
    draw = np.random.default_rng(SEED)
    for number in range(COUNT):
        name, left, right, truth = pairs[number % len(pairs)]
        if draw.random() < 0.5:
            left, right, truth = right[:, ::-1], left[:, ::-1], truth_of_right(truth)[:, ::-1]
        degrees, scale, down_px = draw.uniform(-1.5, 1.5), 1 + draw.uniform(-0.03, 0.03), draw.uniform(-15, 15)
        aside_px = float(np.nanmedian(truth)) * draw.uniform(0.7, 1.3) if draw.random() < 0.7 else 0.0
        right = held(right, degrees, scale, down_px, aside_px)
        right = (255 * (right / 255) ** draw.uniform(0.7, 1.4)).astype(np.uint8)
        if draw.random() < 0.5:
            bar = int(draw.uniform(0.04, 0.12) * left.shape[0])
            left, right = (np.pad(picture, ((bar, bar), (0, 0), (0, 0))) for picture in (left, right))
            truth = np.pad(truth, ((bar, bar), (0, 0)), constant_values=np.nan)
        left, right = stored(left), stored(right)
        swapped = draw.random() < 0.5
        first, second = (right, left) if swapped else (left, right)
        yield Variant(f"{name}#{number}", first, second, truth, "swapped" if swapped else "as_given")


def truth_of_right(truth: np.ndarray) -> np.ndarray:
    """Disparity of the right picture's pixels: the left one's carried over, the nearest where several meet."""
    height, width = truth.shape
    y, x = np.nonzero(np.isfinite(truth))
    disparity = truth[y, x]
    column = np.rint(x - disparity).astype(int)
    inside = (column >= 0) & (column < width)
    order = np.argsort(disparity[inside])
    carried = np.full((height, width), np.nan, np.float32)
    carried[y[inside][order], column[inside][order]] = disparity[inside][order]
    return carried


def held(picture: np.ndarray, degrees: float, scale: float, down_px: float, aside_px: float) -> np.ndarray:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    matrix[:, 2] += aside_px, down_px
    return cv2.warpAffine(np.ascontiguousarray(picture), matrix, (width, height), flags=cv2.INTER_CUBIC)


def stored(picture: np.ndarray) -> np.ndarray:
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 60])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
