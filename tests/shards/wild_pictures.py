"""A small wild collection on disk, and executors that count what they are asked to do."""

import hashlib
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
from PIL import Image

from shards.config import PackConfig, PairsConfig, ShardsConfig
from shards.prepare import prepare
from shards.sources.config import FolderSourceConfig

from .killed_pack import with_preview
from .stereo_scene import stereo_pair

BOXES = ((8, 44, 40, 72, 11.0), (20, 56, 120, 152, 9.0), (70, 106, 80, 112, 13.0), (84, 120, 150, 182, 8.0))


def save_pair(folder, name, left, right, *, quality=95, size=None):
    folder.mkdir(parents=True, exist_ok=True)
    for side, picture in (("L", left), ("R", right)):
        image = Image.fromarray(picture)
        image = image.resize(size, Image.Resampling.LANCZOS) if size else image
        image.save(folder / f"{name}_{side}.jpg", quality=quality, subsampling=0)


def make_pictures(folder, num=9):
    """`num` good pairs, one of them again in another quality, and two that are rejected."""
    for number in range(num):
        left, right, _ = stereo_pair(128, 200, boxes=BOXES, lean_px=5, seed=20 + number)
        save_pair(folder, f"p{number:02d}", left, right)
        if number == 4:
            save_pair(folder, "copy of p04", left, right, quality=60)
        if number in (3, 7):
            save_pair(folder, f"twice{number}", left, left)
    return folder


def pack_config(folder, out, **shards):
    """Settings under which the pictures of `make_pictures` fill several shards."""
    settings = {"workers": 1, "val_share": 0.4, "shard_bytes": 150_000, "pairs": PairsConfig(num_pairs=100)}
    source = FolderSourceConfig(kind="folder", path=str(folder), min_side_px=64, eyes="as_given")
    return PackConfig(out=str(out), source=source, shards=ShardsConfig(**(settings | shards)))


def contents(folder):
    """Digest of each file, hidden ones too."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


class Remembering(Executor):
    """Prepares a picture of the same bytes and settings a single time; lists the names that it was asked to prepare."""

    def __init__(self):
        self.results = {}
        self.asked = []

    def submit(self, function, /, item, config):
        if function is prepare:
            self.asked.append(item.name)
        call = (function.__name__, item, config.model_copy(update={"out": ""}), self._bytes_of(item, config))
        if call not in self.results:
            result = function(item, config)
            self.results[call] = with_preview(result) if function is prepare else result
        future = Future()
        future.set_result(self.results[call])
        return future

    @staticmethod
    def _bytes_of(item, config):
        root = config.source.path
        return tuple(hashlib.sha256(Path(root, name).read_bytes()).digest() for name in (item.name, item.partner))


def flip_byte(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(bytes(data))


def noise(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
