"""Small datasets for the tests of the tools that read, check and rearrange them."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from shards.format import Sample
from shards.manifest import Manifest
from shards.writer import DatasetWriter


def photo(seed: int, hw: tuple[int, int] = (48, 64)) -> bytes:
    """A JPEG of soft blobs, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((hw[1], hw[0]), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def small_sample(number: int, *, key: str | None = None, seed: int | None = None) -> Sample:
    """A sample whose labels are easily counted: pair k has the relation k % 3 - 1; number 0 is ordinal only."""
    hw = (48, 64) if number % 2 else (40, 60)
    disparity = np.full(hw, 1 + number, dtype=np.uint16)
    disparity[: hw[0] // 4] = 0
    pairs = np.zeros((number % 4 * 3 if number else 6, 5), dtype=np.int16)
    pairs[:, 2:4] = (3, 4)
    pairs[:, 4] = np.arange(len(pairs)) % 3 - 1
    meta = {
        "name": f"beach/{number}.jpg",
        "source": "folder",
        "eyes": "swapped" if number % 3 == 0 else "as_given",
        "tolerance": {"kind": "range", "value": 0.02},
        "sampler": {"name": "random"},
    }
    image = photo(number if seed is None else seed, hw)
    return Sample(key or f"s{number:03d}", image, meta, disparity if number else None, None, pairs)


def write_dataset(
    out: str | Path, numbers: Iterable[int] = range(12), *, shard_bytes: int = 24_000, rejects: dict | None = None
) -> Manifest:
    """Every fourth sample in val; a few samples a shard."""
    with DatasetWriter(str(out), shard_bytes=shard_bytes, config={"made": "here"}) as writer:
        for number in numbers:
            writer.add("val" if number % 4 == 3 else "train", small_sample(number))
        return writer.finish(rejects or {})
