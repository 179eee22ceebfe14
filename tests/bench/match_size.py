"""What matching at another size than `shards.match.max_side_px` 768 would do to the labels, and what it would cost.

Rendered scenes as large as wild pictures, of six kinds of worlds, painted with real photographs where these are at
hand and stored as JPEGs; then the real pairs with exact truth, which are smaller and are matched at the same shares of
their own size. Each label is taken to the size that is stored, 640 of 768, as packing does, and judged as in `labels`,
unless so little of it is known that packing refuses it.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shards.config import MatchConfig, QualityConfig
from shards.disparity import resize_nearest
from shards.format import decode_jpeg
from shards.images import encode_jpeg
from shards.match import match
from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene

from .labels import TruePair, error_and_coverage, real_pairs
from .rows import Row

USED_PX, STORED_PX = 768, 640
SIZES_PX = (512, 576, 640, 768, 1024)
SCENES = 24
JPEG_QUALITY = 80


def run() -> dict[str, Any]:
    """Measure; the real pairs only where they are at hand."""
    cv2.setNumThreads(1)
    record: dict[str, Any] = {}
    for name, pairs in {"rendered": list(rendered_pairs()), "real": list(real_pairs())}.items():
        found: dict[int, list[tuple[float, float, float]]] = {}
        for pair in pairs:
            long_side_px = max(pair.truth.shape)
            unit = 1.0 if name == "rendered" else long_side_px / USED_PX
            for size_px in SIZES_PX:
                if round(unit * size_px) <= long_side_px:
                    judged = judge(pair, round(unit * size_px), round(unit * STORED_PX))
                    found.setdefault(size_px, []).append(judged)
        for size_px, scores in found.items():
            cpu_s = np.mean([cpu_s for *_, cpu_s in scores])
            accepted = [score for score in scores if score[1] >= QualityConfig().min_known_share]
            error, coverage, _ = np.mean(accepted, axis=0)
            record.setdefault(name, {})[str(size_px)] = {
                "accepted": len(accepted),
                "ordinal_error_percent": round(100 * float(error), 3),
                "coverage_percent": round(100 * float(coverage), 2),
                "cpu_s": round(float(cpu_s), 3),
            }
            print(f"{name} at {size_px} px of {USED_PX}: {record[name][str(size_px)]}", flush=True)
    return record


def rows(record: dict[str, Any]) -> list[Row]:
    found = []
    for name, sizes in record.items():
        used = sizes[str(USED_PX)]
        for size_px, told in sizes.items():
            for key, what, unit in (("ordinal_error_percent", "wrong order", "%"), ("cpu_s", "processor time", "s")):
                if told is not used:
                    row_name = f"match size: {what}, {name}, {size_px} px"
                    found.append(Row(row_name, told[key], unit, f"{USED_PX} px", used[key], "lower"))
    return found


def judge(pair: TruePair, size_px: int, stored_px: int) -> tuple[float, float, float]:
    """Ordinal error and coverage at the stored size, and processor seconds, of a pair matched at a size."""
    height, width = pair.truth.shape
    scale = stored_px / max(height, width)
    stored_hw = round(height * scale), round(width * scale)
    start = time.process_time()
    disparity = match(pair.left, pair.right, MatchConfig(max_side_px=size_px)).left.disparity_px
    cpu_s = time.process_time() - start
    label = resize_nearest(disparity, *stored_hw)
    return *error_and_coverage(label, resize_nearest(pair.truth, *stored_hw), pair.name), cpu_s


def rendered_pairs() -> Iterator[TruePair]:
    photos = Path(os.environ.get("DEPTHRANK_DATA", "../shared/data")) / "webstereo"
    config = SyntheticSourceConfig(
        kind="synthetic",
        height_px=768,
        width_px=1024,
        worlds=("room", "open", "road", "interior", "still_life", "pile"),
        photos=str(photos) if photos.is_dir() else None,
    )
    for number in range(SCENES):
        scene = test_scene(config, number)
        left, right = (decode_jpeg(encode_jpeg(side, JPEG_QUALITY)) for side in (scene.left, scene.right))
        yield TruePair(f"rendered/{number}", left, right, scene.disparity_px)
