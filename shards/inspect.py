"""What is in a dataset: counts, sizes, how much is labelled and how, as figures and as a page of text.

found = inspect_dataset("runs/web-shards", sheet=ContactSheet())
print(describe(found))
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shards.contact_sheet import ContactSheet
from shards.format import MAX_SIDE_PX, Sample, jpeg_hw, read_sample
from shards.manifest import Manifest, read_manifest
from shards.names import printable
from shards.pairs import equal_share
from shards.reading import stored_samples
from shards.storage import shown

__all__ = ["Inspection", "describe", "inspect_dataset"]

Progress = Callable[[int, int], None]
"""Called with: samples read, samples to read."""
_LISTED = 8  # values of a kind that are listed, the most frequent first


@dataclass
class Inspection:
    """What was seen in a dataset.

    Args:
        url: Of the dataset.
        manifest: Of the dataset.
        samples: How many were looked at.
        sizes_hw: Height and width of each picture.
        known_shares: Known share of each disparity map.
        equal_shares: Share of equal pairs of each sample with stored pairs.
        relations: Stored pairs by relation.
        distances_px: int64 (D,), stored pairs by distance, rounded to whole pixels.
        kinds: For each of eyes, tolerance, sampler, source: value to number of samples.
        without: What samples lack (`disparity`, `confidence`, `pairs`): number of samples.
    """

    url: str
    manifest: Manifest
    samples: int = 0
    sizes_hw: list[tuple[int, int]] = field(default_factory=list)
    known_shares: list[float] = field(default_factory=list)
    equal_shares: list[float] = field(default_factory=list)
    relations: Counter[int] = field(default_factory=Counter)
    distances_px: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * MAX_SIDE_PX, dtype=np.int64))
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    without: Counter[str] = field(default_factory=Counter)

    def add(self, sample: Sample) -> None:
        """Count a sample."""
        self.samples += 1
        self.sizes_hw.append(jpeg_hw(sample.image))
        self.without["disparity"] += sample.disparity is None
        self.without["confidence"] += sample.confidence is None
        self.without["pairs"] += not len(sample.pairs)
        if sample.disparity is not None:
            self.known_shares.append(float((sample.disparity > 0).mean()))
        if len(sample.pairs):
            self.equal_shares.append(equal_share(sample.pairs))
            self.relations.update(sample.pairs[:, 4].tolist())
            step = sample.pairs[:, :2].astype(np.float64) - sample.pairs[:, 2:4]
            distances = np.rint(np.hypot(step[:, 0], step[:, 1])).astype(np.int64)
            self.distances_px += np.bincount(distances, minlength=len(self.distances_px))
        for kind, value in _kinds(sample.meta).items():
            self.kinds.setdefault(kind, Counter())[value] += 1


def inspect_dataset(
    url: str, *, limit: int | None = None, sheet: ContactSheet | None = None, progress: Progress | None = None
) -> Inspection:
    """Read a dataset and gather its figures.

    Args:
        url: Folder or fsspec URL.
        limit: Look at about so many samples only, evenly spread over each split; None looks at all.
        sheet: Offered each sample that is read.
        progress: Called after each sample.

    Raises:
        ShardError: It is no dataset, or damaged.
    """
    found = Inspection(url, read_manifest(url))
    splits = found.manifest.splits
    total = sum(entry.samples for entry in splits.values())
    chosen = {
        split: _spread(entry.samples, 1.0 if limit is None else limit / max(total, 1))
        for split, entry in splits.items()
    }
    for split, entry in splits.items():
        for stored in stored_samples(url, split, entry, numbers=chosen[split]):
            sample = read_sample(stored.key, stored.members)
            found.add(sample)
            if sheet is not None:
                sheet.offer(sample)
            if progress is not None:
                progress(found.samples, sum(map(len, chosen.values())))
    return found


def describe(found: Inspection) -> str:
    """The figures as text, some twenty lines."""
    manifest = found.manifest
    total = sum(split.samples for split in manifest.splits.values())
    lines = [f"{shown(found.url)}: format {manifest.format_version}, fingerprint {manifest.fingerprint[:16]}"]
    lines += [f"  {'split':<10} {'samples':>9} {'shards':>7} {'bytes':>10}"]
    for name, split in manifest.splits.items():
        size = sum(shard.bytes for shard in split.shards)
        lines.append(f"  {name:<10} {split.samples:>9,} {len(split.shards):>7,} {_bytes(size):>10}")
    if found.samples < total:
        lines.append(f"figures of {found.samples:,} of the {total:,} samples, evenly spread:")
    sides = np.array(found.sizes_hw, dtype=np.int64).reshape(-1, 2)
    rows = [
        ("long side", _spread_text(sides.max(axis=1), "px")),
        ("short side", _spread_text(sides.min(axis=1), "px")),
        ("sizes", _most_frequent(Counter(f"{w} × {h}" for h, w in found.sizes_hw), limit=4)),
        ("known", _spread_text(100 * np.array(found.known_shares), "%") or "no disparity: ordinal labels only"),
        ("pairs", _pairs_text(found)),
        ("equal pairs", _spread_text(100 * np.array(found.equal_shares), "%")),
        ("distance", _spread_text(_expand(found.distances_px), "px") + " between the two points"),
    ]
    rows += [(kind, _most_frequent(values)) for kind, values in found.kinds.items()]
    lacking = {what: count for what, count in found.without.items() if count and what != "confidence"}
    if 0 < found.without["confidence"] < found.samples:
        lacking["confidence"] = found.without["confidence"]
    rows.append(("without", ", ".join(f"{what}: {count:,}" for what, count in lacking.items())))
    rows.append(("left out", _most_frequent(Counter(manifest.rejects), limit=20)))
    return "\n".join(lines + [f"  {label:<12} {text}" for label, text in rows if text and not text.startswith(" ")])


def _kinds(meta: Mapping[str, Any]) -> dict[str, str]:
    """What is counted by value; the JSON is anybody's, so nothing of it is believed to be of a type."""
    tolerance, sampler = meta.get("tolerance"), meta.get("sampler")
    if isinstance(tolerance, dict):
        tolerance = f"{tolerance.get('kind')} {tolerance.get('value')}"
    if isinstance(sampler, dict):
        sampler = sampler.get("sampler", sampler.get("name"))
    values = {"eyes": meta.get("eyes"), "tolerance": tolerance, "sampler": sampler, "source": meta.get("source")}
    return {kind: "not given" if value is None else printable(str(value)[:60]) for kind, value in values.items()}


def _spread(total: int, share: float) -> NDArray[np.int64]:
    """Rows spread evenly over a split, at least one where there are any."""
    wanted = min(total, max(1, round(total * share)))
    return np.arange(wanted, dtype=np.int64) * total // max(wanted, 1)


def _spread_text(values: ArrayLike, unit: str) -> str:
    values = np.asarray(values)
    if not values.size:
        return ""
    low, p5, median, p95, high = np.percentile(values, (0, 5, 50, 95, 100))
    return f"median {median:.0f} {unit}, 5–95 %: {p5:.0f}–{p95:.0f}, all: {low:.0f}–{high:.0f}"


def _expand(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """About ten thousand values distributed as these counts are."""
    total = int(counts.sum())
    if not total:
        return np.zeros(0, dtype=np.int64)
    places = (np.arange(min(total, 10_001)) * (total - 1)) // max(min(total, 10_001) - 1, 1)
    return np.searchsorted(np.cumsum(counts), places, side="right")


def _pairs_text(found: Inspection) -> str:
    total = sum(found.relations.values())
    if not total:
        return "none stored"
    farther, equal, nearer = (100 * found.relations[relation] / total for relation in (1, 0, -1))
    return f"{total:,} stored: A farther {farther:.1f} %, equal {equal:.1f} %, A nearer {nearer:.1f} %"


def _most_frequent(values: Mapping[str, int], limit: int = _LISTED) -> str:
    order = sorted(values.items(), key=lambda entry: (-entry[1], entry[0]))
    listed = ", ".join(f"{value}: {count:,}" for value, count in order[:limit])
    return listed + (f" and {len(order) - limit} others" if len(order) > limit else "")


def _bytes(size: float) -> str:
    units: Sequence[str] = ("B", "kB", "MB", "GB", "TB")
    place = 0
    while size >= 999.5 and place < len(units) - 1:
        size, place = size / 1000, place + 1
    return f"{size:.0f} {units[place]}" if place == 0 or size >= 100 else f"{size:.1f} {units[place]}"
