"""Tiny collections with labels, built on the spot, and what packing makes of them."""

import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from shards.config import PackConfig
from shards.format import Sample, read_sample
from shards.pack import PackReport, pack
from shards.sources import Source, open_source
from shards.sources.config import SourceConfig


def write_picture(path: Path, height: int, width: int, seed: int = 0) -> None:
    """Smooth noise, so that JPEG keeps it; the format follows the name, `.thumb` being JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    picture = small.resize((width, height), Image.Resampling.BICUBIC)
    picture.save(path, "PNG" if path.suffix.lower() == ".png" else "JPEG")


def write_levels(path: Path, levels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)


def open_kind(kind: str, root: Path, **settings: Any) -> Source:
    config: SourceConfig = TypeAdapter(SourceConfig).validate_python({"kind": kind, "path": str(root), **settings})
    return open_source(config)


def pack_kind(
    kind: str, root: Path, out: Path, shards: dict[str, Any] | None = None, **settings: Any
) -> tuple[PackReport, dict[str, dict[str, Sample]]]:
    """Pack in this process; split -> name -> sample, read from the tars alone."""
    source = {"kind": kind, "path": str(root), **settings}
    config = PackConfig.model_validate(
        {"out": str(out), "source": source, "shards": {"workers": 1, "val_share": 0.0, **(shards or {})}}
    )
    report = pack(config)
    found: dict[str, dict[str, Sample]] = {}
    for path in sorted([*out.glob("train-*.tar"), *out.glob("val-*.tar")]):
        members: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        with tarfile.open(path) as tar:
            for member in tar:
                key, extension = member.name.split(".", 1)
                file = tar.extractfile(member)
                assert file is not None
                members[key][extension] = file.read()
        for key, content in members.items():
            sample = read_sample(key, content)
            found.setdefault(path.name.split("-")[0], {})[sample.meta["name"]] = sample
    return report, found
