"""What a run was trained and validated on: figures of the manifests, and of some of the samples.

for facts in data_facts(config.data): print(facts.name, facts.samples)
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.data.config import DataConfig
from pipeline.eval.report.privacy import public
from shards.errors import ShardError
from shards.format import read_sample
from shards.inspect import Inspection
from shards.manifest import Manifest, SplitName, read_manifest
from shards.reading import stored_samples
from shards.storage import shown

__all__ = ["BINS", "DataFacts", "data_facts"]

BINS = 40
MAX_DATASETS = 8
SAMPLES_READ = 100
_FULL_SCALE = 65535


@dataclass
class DataFacts:
    """A split of a dataset, as the run uses it."""

    split: SplitName
    name: str
    """Last part of its URL."""
    samples: int = 0
    shards: int = 0
    size_bytes: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    """Of the whole dataset: reason to number of pictures left out, most frequent first."""
    read: int = 0
    """Samples that were looked at, evenly spread, for the figures below."""
    pairs: int = 0
    """Stored pairs of those."""
    relation_shares: dict[str, float] = field(default_factory=dict)
    known_share: float | None = None
    """Mean share of the pixels with disparity."""
    histogram: NDArray[np.float64] | None = None
    """(BINS,) shares of the known pixels by stored disparity, from 0 to the full scale of 16 bits; every picture counts
    alike. None where no sample has disparity."""
    problem: str | None = None
    """Why it could not be read, or not all of it."""


def data_facts(data: DataConfig, progress: Callable[[str], None] = lambda what: None) -> list[DataFacts]:
    """Figures of each dataset of a run; one that cannot be read says so.

    Args:
        data: Of the run.
        progress: Called with what is read next.
    """
    places: list[tuple[SplitName, str]] = [("train", dataset.url) for dataset in data.datasets[:MAX_DATASETS]]
    if data.val is not None:
        places.append(("val", data.val))
    found = []
    for split, url in places:
        facts = DataFacts(split, public(shown(url)).rstrip("/").rpartition("/")[2] or "shards")
        progress(f"{split} split of {facts.name}")
        try:
            _fill(facts, url)
        except ShardError as error:
            facts.problem = public(error)
        found.append(facts)
    return found


def _fill(facts: DataFacts, url: str) -> None:
    manifest = read_manifest(url)
    facts.rejects = dict(sorted(manifest.rejects.items(), key=lambda item: -item[1])[:30])
    entry = manifest.splits.get(facts.split)
    if entry is None:
        facts.problem = f"the dataset has no split {facts.split}"
        return
    facts.samples, facts.shards = entry.samples, len(entry.shards)
    facts.size_bytes = sum(shard.bytes for shard in entry.shards)
    _look(facts, url, manifest)


def _look(facts: DataFacts, url: str, manifest: Manifest) -> None:
    """Figures of some samples; what was read before one that is damaged counts."""
    entry = manifest.splits[facts.split]
    number = min(SAMPLES_READ, entry.samples)
    rows = np.arange(number, dtype=np.int64) * entry.samples // max(number, 1)
    seen = Inspection(url, manifest)
    shares = np.zeros(BINS)
    maps = 0
    try:
        for stored in stored_samples(url, facts.split, entry, numbers=rows):
            sample = read_sample(stored.key, stored.members)
            seen.add(sample)
            if sample.disparity is not None and (known := sample.disparity[sample.disparity > 0]).size:
                shares += np.histogram(known, bins=BINS, range=(0, _FULL_SCALE))[0] / known.size
                maps += 1
    finally:
        facts.read, facts.pairs = seen.samples, seen.relations.total()
        if facts.pairs:
            names = {1: "A farther", 0: "equal", -1: "A nearer"}
            facts.relation_shares = {name: seen.relations[sign] / facts.pairs for sign, name in names.items()}
        if seen.known_shares:
            facts.known_share = float(np.mean(seen.known_shares))
        if maps:
            facts.histogram = shares / maps
