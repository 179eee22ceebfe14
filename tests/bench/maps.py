"""Disparity maps as they are stored, beside Pillow's PNG of all codes: bytes, time to read, time to write.

Matched maps are of wild pairs; sparse ones are measured by a laser, nearest-scaled to the same size. All are read by
the same function, in one thread; rounds alternate and the least of each counts.
"""

import io
import json
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.config import MatchConfig
from shards.disparity import encode_disparity, resize_nearest
from shards.images import read_picture
from shards.match import match
from shards.png import decode_grey_png, encode_grey_png

from .rows import Row

Codes = NDArray[np.uint16]

LONG_SIDE_PX = 640
NUM_MATCHED, NUM_SPARSE, ROUNDS = 16, 16, 5
BEFORE, OURS = "Pillow, level 4, all codes", "ours"


def run() -> dict[str, Any]:
    """Measure; nothing where the real pictures are not at hand."""
    root = Path(os.environ.get("DEPTHRANK_DATA", "../shared/data"))
    if not (root / "gt" / "index.json").is_file():
        print("no real pictures at hand; set DEPTHRANK_DATA")
        return {}
    lefts = sorted((root / "webstereo" / "crossview").glob("*_L.jpg"))
    matched = [matched_maps(path) for path in lefts[:: len(lefts) // NUM_MATCHED]]
    fine, stored = [pair[0] for pair in matched], [pair[1] for pair in matched]
    sparse = sparse_maps(root / "gt")
    record = {
        "matched": measure(
            {
                BEFORE: (pillow, fine),
                "ours, all codes": (encode_grey_png, fine),
                OURS: (encode_grey_png, stored),
            }
        ),
        "sparse": measure({BEFORE: (pillow, sparse), OURS: (encode_grey_png, sparse)}),
    }
    for kind, told in record.items():
        print(f"\n| {kind} | kB | ms to read | ms to write |\n|---|---|---|---|")
        for name, one in told.items():
            print(f"| {name} | {one['kb']:.1f} | {one['read_ms']:.2f} | {one['write_ms']:.1f} |")
    return record


def rows(record: dict[str, Any]) -> list[Row]:
    return [
        Row(f"maps: {what}, {kind}", told[OURS][key], unit, BEFORE, told[BEFORE][key], "lower")
        for kind, told in record.items()
        for what, key, unit in (("bytes", "kb", "kB"), ("reading", "read_ms", "ms"))
    ]


def matched_maps(left: Path) -> tuple[Codes, Codes]:
    """The disparity of a pair in all 65,535 codes, and as it is stored."""
    right = left.with_name(f"{left.stem[:-1]}R.jpg")
    side = match(read_picture(left), read_picture(right), MatchConfig()).left
    known = np.isfinite(side.disparity_px)
    stored, _ = encode_disparity(side.disparity_px, known)
    known = stored > 0
    values = side.disparity_px[known].astype(np.float64)
    fine = np.zeros_like(stored)
    fine[known] = 1 + np.rint((values - values.min()) / np.ptp(values) * 65534)
    return to_stored_size(fine), to_stored_size(stored)


def sparse_maps(truth: Path) -> list[Codes]:
    """Disparities of KITTI as they come, 0 = unknown."""
    entries = [one for one in json.loads((truth / "index.json").read_text()) if "kitti" in one["scene"]]
    paths = [truth / one["scene"] / "disparity.png" for one in entries[:NUM_SPARSE]]
    maps = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
    return [to_stored_size(np.asarray(one, dtype=np.uint16)) for one in maps]


def to_stored_size(codes: Codes) -> Codes:
    scale = LONG_SIDE_PX / max(codes.shape)
    return resize_nearest(codes, *(round(scale * side) for side in codes.shape))


def measure(variants: dict[str, tuple[Callable[[Codes], bytes], list[Codes]]]) -> dict[str, dict[str, float]]:
    """Of each way to write, a map's size and the milliseconds to read and to write it."""
    written = {name: [encode(codes) for codes in maps] for name, (encode, maps) in variants.items()}
    best: dict[str, dict[str, float]] = {
        name: {"kb": sum(map(len, files)) / len(files) / 1e3, "read_ms": float("inf"), "write_ms": float("inf")}
        for name, files in written.items()
    }
    for _ in range(ROUNDS):
        for name, (encode, maps) in variants.items():
            reads = [
                partial(decode_grey_png, data, codes.shape, np.dtype(np.uint16), name)
                for data, codes in zip(written[name], maps, strict=True)
            ]
            writes = [partial(encode, codes) for codes in maps]
            for key, works in (("read_ms", reads), ("write_ms", writes)):
                best[name][key] = min(best[name][key], milliseconds(works))
    return {name: {key: round(value, 3) for key, value in one.items()} for name, one in best.items()}


def pillow(codes: Codes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(codes).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def milliseconds(works: Sequence[Callable[[], Any]]) -> float:
    """Processor time of one of them, on average."""
    begin = time.process_time()
    for work in works:
        work()
    return (time.process_time() - begin) / len(works) * 1000
