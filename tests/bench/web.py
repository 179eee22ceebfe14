"""What becomes of wild stereo pictures: how many are accepted, whether another matcher agrees, whether a person does.

The other matcher is local block matching (OpenCV's StereoBM, checked from left to right and back), which ours does not
use; it judges the order of random pairs that our label calls unequal, where it has a match for both points. The person
looked at thumbnails; names and verdicts are in `web_pairs.json`.
"""

import json
import multiprocessing
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from shards.config import MatchConfig, PackConfig
from shards.flow import grey
from shards.frames import common_box
from shards.images import read_picture
from shards.match import match
from shards.pairs import Tolerance, sample_random_pairs
from shards.randomness import CounterRng
from shards.sources import Item, StereoPair
from shards.sources.config import FolderSourceConfig
from shards.stereo import label_stereo

from .rows import Row

SETS = {"crossview": "LR", "mixed": "AB"}
CONFIG = PackConfig(out="nowhere", source=FolderSourceConfig(kind="folder", path="nowhere"))
STEP_PX = 16


class Outcome(NamedTuple):
    name: str
    reason: str | None
    eyes: str | None
    agreeing: int
    judged: int


def run() -> dict[str, object]:
    """Measure; nothing where the real pictures are not at hand."""
    root = Path(os.environ.get("DEPTHRANK_DATA", "../shared/data")) / "webstereo"
    if not root.is_dir():
        print("no real pictures at hand; set DEPTHRANK_DATA")
        return {}
    by_hand = json.loads(Path(__file__).with_name("web_pairs.json").read_text())
    record: dict[str, object] = {}
    for name, ends in SETS.items():
        lefts = sorted((root / name).glob(f"*_{ends[0]}.jpg"))
        pairs = [(left.stem[:-2], left, left.with_name(f"{left.stem[:-1]}{ends[1]}.jpg")) for left in lefts]
        with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
            outcomes = {one.name: one for one in pool.imap(judge, pairs)}
        record[name] = report(name, outcomes, by_hand[name])
    return record


def rows(record: dict[str, Any]) -> list[Row]:
    found = []
    for name, told in record.items():
        agrees, kept, usable = (told[key] for key in ("block_matching_agrees_percent", "usable_accepted", "usable"))
        found += [
            Row(f"web: block matching agrees, {name}", agrees, "%", "all of it", 100.0, "higher"),
            Row(f"web: usable accepted, {name}", kept, "pairs", "labelled by hand", usable, "higher"),
        ]
    return found


def report(name: str, outcomes: dict[str, Outcome], by_hand: list[dict[str, Any]]) -> dict[str, object]:
    reasons = Counter(one.reason or "accepted" for one in outcomes.values())
    shares = [one.agreeing / one.judged for one in outcomes.values() if one.reason is None and one.judged >= 200]
    print(
        f"{name}: {len(outcomes)} pairs: " + ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    )
    print(f"  block matching agrees in {100 * np.mean(shares):.2f} % of the unequal pairs ({len(shares)} pictures)")
    usable = [entry for entry in by_hand if entry["usable"]]
    useless = [entry for entry in by_hand if not entry["usable"]]
    kept = [entry for entry in usable if outcomes[entry["name"]].reason is None]
    wrong_eyes = [entry["name"] for entry in kept if outcomes[entry["name"]].eyes != entry["eyes"]]
    wrongly_kept = [entry["name"] for entry in useless if outcomes[entry["name"]].reason is None]
    print(f"  of {len(usable)} labelled usable {len(kept)} accepted, eyes wrong: {len(wrong_eyes)} {wrong_eyes}")
    print(f"  of {len(useless)} labelled unusable {len(wrongly_kept)} accepted: {wrongly_kept}")
    return {
        "outcomes": dict(reasons),
        "block_matching_agrees_percent": round(100 * float(np.mean(shares)), 2),
        "usable": len(usable),
        "usable_accepted": len(kept),
        "wrong_eyes": wrong_eyes,
        "unusable": len(useless),
        "unusable_accepted": wrongly_kept,
    }


def judge(pair: tuple[str, Path, Path]) -> Outcome:
    cv2.setNumThreads(1)
    name, *paths = pair
    first, second = (read_picture(path) for path in paths)
    labelled = label_stereo(Item(name), StereoPair(first, second), CONFIG)
    if labelled.sample is None:
        return Outcome(name, labelled.reason, None, 0, 0)
    y, x, height, width = common_box(first, second)
    matched = match(*(side[y : y + height, x : x + width] for side in (first, second)), MatchConfig())
    disparity = matched.left.disparity_px  # of the first picture, whichever eye it is: both matchers see the same pair
    low, high = np.nanpercentile(disparity, (0.5, 99.5))
    other = block_matching(grey(matched.left.picture), grey(matched.right.picture), low - 8, high + 8)
    known = np.isfinite(disparity) & np.isfinite(other)
    drawn = sample_random_pairs(disparity, known, 3000, CounterRng("bench", name), Tolerance("range", 0.02))
    y_a, x_a, y_b, x_b, relation = drawn[drawn[:, 4] != 0].astype(np.int64).T
    agreeing = np.count_nonzero(np.sign(other[y_b, x_b] - other[y_a, x_a]) == relation)
    return Outcome(name, None, labelled.sample.meta["eyes"], agreeing, len(relation))


def block_matching(left: np.ndarray, right: np.ndarray, low_px: float, high_px: float) -> np.ndarray:
    """Disparity (H, W) of the left picture, NaN where the two directions differ by more than a pixel."""
    low = int(np.floor(low_px))
    count = -(-int(np.ceil(high_px - low)) // STEP_PX) * STEP_PX

    def one_way(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        margin = max(low + count, -low, 0) + 16
        matcher = cv2.StereoBM_create(count, 15)
        matcher.setMinDisparity(low)
        matcher.setUniquenessRatio(10)
        matcher.setTextureThreshold(20)
        sides = [cv2.copyMakeBorder(side, 0, 0, margin, margin, cv2.BORDER_REPLICATE) for side in (a, b)]
        found = matcher.compute(*sides)[:, margin:-margin] / 16
        return np.where(found >= low, found, np.nan)

    of_left, of_right = one_way(left, right), one_way(right[:, ::-1], left[:, ::-1])[:, ::-1]
    rows, columns = np.indices(of_left.shape)
    there = np.clip(np.rint(columns - np.nan_to_num(of_left)).astype(int), 0, of_left.shape[1] - 1)
    return np.where(np.abs(of_right[rows, there] - of_left) <= 1, of_left, np.nan)
