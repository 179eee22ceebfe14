"""A small dataset of shards whose pictures, disparities and pairs follow one formula, for the tests of the stream."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shards.format import Sample
from shards.manifest import Manifest
from shards.writer import DatasetWriter


def make_sample(number: int, height: int = 40, width: int = 56, **changes: Any) -> Sample:
    rng = np.random.default_rng(number)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(buffer, "JPEG")
    disparity = rng.integers(1, 65536, (height, width)).astype(np.uint16)
    disparity[:, :8] = 0
    a, b = rng.integers(0, (height, width), (60, 2)), rng.integers(0, (height, width), (60, 2))
    fields: dict[str, Any] = {
        "key": f"s{number:04d}",
        "image": buffer.getvalue(),
        "meta": {"number": number, "tolerance": {"kind": "range", "value": 0.02}},
        "disparity": disparity,
        "pairs": np.column_stack([a, b, rng.integers(-1, 2, 60)]).astype(np.int16),
    }
    return Sample(**fields | changes)


def write_dataset(out: Path | str, samples: int = 23, val: int = 5, shard_bytes: int = 60_000) -> Manifest:
    with DatasetWriter(str(out), shard_bytes=shard_bytes, config={"samples": samples}) as writer:
        for number in range(samples):
            writer.add("train", make_sample(number))
        for number in range(samples, samples + val):
            writer.add("val", make_sample(number))
        return writer.finish({})
