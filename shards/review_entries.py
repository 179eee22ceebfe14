"""What the review page shows of each pair, read from a packed dataset; nothing that is read is trusted.

Packing leaves `previews.tar` beside the shards: `KEY.json` (name, split or reason, eyes, figures) and `KEY.jpg` (a
strip of `shards.preview`; absent where nothing was decoded) for every item, in order. Datasets without it show the
samples themselves, and their rejects without a picture.

Usage:

    entries = read_previews(url) if exists(join(url, PREVIEWS_NAME)) else read_samples(samples, url)
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shards.disparity import decode_disparity
from shards.errors import DecodeError, ShardError
from shards.format import Sample, decode_jpeg, jpeg_hw
from shards.index import TarSample, iter_samples
from shards.names import printable
from shards.preview import preview_strip
from shards.storage import exists, join, open_read, read_bytes, shown

__all__ = ["PREVIEWS_NAME", "Entry", "flat_figures", "read_previews", "read_rejects", "read_samples"]

PREVIEWS_NAME = "previews.tar"
_REJECTS_NAME = "rejects.jsonl"
_MAX_PREVIEW_BYTES = 4 << 20
_MAX_REJECTS_BYTES = 1 << 28
_MAX_STRIP_SIDE_PX = 4096
_MAX_FIGURES = 64
_MAX_TEXT = 300


@dataclass(frozen=True)
class Entry:
    """One pair as the page shows it.

    Args:
        name: Of the item, as decisions name it.
        split: `train` or `val` where it was accepted.
        reason: Why it was rejected, one word; None where it was accepted.
        eyes: `as_given`, `swapped` or `undecided`: what was decided; None where nothing was.
        figures: Behind the verdict.
        strip: JPEG of three panes side by side, or None.
        strip_hw: Its height and width.
    """

    name: str
    split: str | None = None
    reason: str | None = None
    eyes: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    strip: bytes | None = None
    strip_hw: tuple[int, int] = (0, 0)


def read_previews(url: str) -> Iterator[Entry]:
    """Every item of the dataset at `url`, in order, from its `previews.tar`; one is in memory at a time.

    Raises:
        ShardError: The file is damaged or hostile.
    """
    where = join(url, PREVIEWS_NAME)
    with open_read(where) as file:
        try:
            for found in iter_samples(file, _MAX_PREVIEW_BYTES):
                yield _entry(found)
        except (ShardError, OSError) as error:
            raise ShardError(f"{shown(where)}: {error}; pack or copy the dataset again") from error


def read_samples(samples: Iterable[tuple[str, Sample]], url: str) -> Iterator[Entry]:
    """The samples, split and sample each, then the rejects that the dataset at `url` lists, without pictures.

    Raises:
        ShardError: A picture or the list of rejects is damaged.
    """
    for split, sample in samples:
        disparity = None
        if sample.disparity is not None:  # only order and proportion count for the colours
            disparity = decode_disparity(sample.disparity, {"scale": 1.0, "offset": 0.0})[0]
        try:
            strip = preview_strip(decode_jpeg(sample.image), None, disparity)
        except DecodeError as error:
            raise ShardError(f"sample {sample.key}: {error}") from error
        yield _described(sample.meta, sample.key, split=split, strip=strip)
    yield from read_rejects(url)


def read_rejects(url: str) -> Iterator[Entry]:
    """What the dataset at `url` lists as left out, without pictures; nothing where it has no such list.

    Raises:
        ShardError: The list is damaged.
    """
    where = join(url, _REJECTS_NAME)
    if not exists(where):
        return
    for number, line in enumerate(read_bytes(where, _MAX_REJECTS_BYTES).splitlines(), start=1):
        try:
            yield _described(_parse(line), f"line {number}")
        except ShardError as error:
            raise ShardError(f"{shown(where)}:{number}: {error}; pack or copy the dataset again") from error


def flat_figures(figures: Mapping[str, Any]) -> dict[str, float | int | bool | str | None]:
    """Figures as name and value: those of a nested object as `outer.inner`, anything longer cut; at most 64."""
    flat: dict[str, Any] = {}
    for name, value in figures.items():
        inner = {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {name: value}
        flat.update(inner)
    return {
        printable(name)[:_MAX_TEXT]: value if isinstance(value, (int, float, bool, type(None))) else _shown(value)
        for name, value in list(flat.items())[:_MAX_FIGURES]
    }


def _entry(found: TarSample) -> Entry:
    strip = found.members.get("jpg")
    if "json" not in found.members:
        raise ShardError(f"preview {found.key} has no json")
    try:
        return _described(_parse(found.members["json"]), found.key, strip=strip)
    except (ShardError, DecodeError) as error:
        raise ShardError(f"preview {found.key}: {error}") from error


def _described(record: Mapping[str, Any], key: str, *, split: str | None = None, strip: bytes | None = None) -> Entry:
    """An entry from a record of a sample, a reject or a preview, whose fields have the same names."""
    figures = record.get("figures")
    height, width = jpeg_hw(strip) if strip is not None else (0, 0)
    if max(height, width) > _MAX_STRIP_SIDE_PX:
        raise ShardError(f"a strip of {height} x {width} pixels; the sides are at most {_MAX_STRIP_SIDE_PX}")
    return Entry(
        name=_text(record.get("name")) or key,
        split=split or _text(record.get("split")),
        reason=_text(record.get("reason")),
        eyes=_text(record.get("eyes")),
        figures=figures if isinstance(figures, dict) else {},
        strip=strip,
        strip_hw=(height, width),
    )


def _parse(data: bytes) -> dict[str, Any]:
    """A JSON object; numbers that are not finite become null, as the page could not hold them."""
    try:
        record = json.loads(data, parse_float=_finite, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise ShardError(f"it is not JSON ({str(error)[:100]})") from error
    if not isinstance(record, dict):
        raise ShardError("it is no JSON object")
    return record


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _text(value: Any) -> str | None:
    return printable(value)[:4096] if isinstance(value, str) else None


def _shown(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value)[:_MAX_TEXT])[:_MAX_TEXT]
