"""A raw collection to a dataset of shards, on any number of processes, in the same bytes.

Items are prepared in any process and written by this one in the order of their names; no more than a few results wait
at a time. The split is drawn from each name alone, so adding pictures moves none of the old ones. Beside the shards
go `rejects.jsonl` (every picture left out, reason and figures) and `contact_sheet.jpg`.

Usage:

    report = pack(PackConfig(...), progress=lambda done, total, rejects: print(done, total))
"""

import json
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from shards.config import PackConfig
from shards.errors import DataError, SourceError
from shards.format import Sample
from shards.manifest import MANIFEST_NAME, Manifest
from shards.names import printable
from shards.prepare import begin_worker, prepare
from shards.prepared import Prepared
from shards.randomness import digest_key
from shards.review import ContactSheet
from shards.sources import Item, ReportsLeftovers, open_source
from shards.sources.config import CollectionConfig
from shards.storage import exists, join, publish_bytes, shown
from shards.writer import DatasetWriter

__all__ = ["PackReport", "Progress", "draw_split", "pack"]

Progress = Callable[[int, int, Mapping[str, int]], None]
"""Called after each item with: items done, items in all, rejects by reason so far."""
Split = Literal["train", "val"]

_WAITING_PER_WORKER = 4


@dataclass(frozen=True)
class PackReport:
    """What packing made.

    Args:
        manifest: Of the finished dataset.
        accepted: Samples by split.
        rejected: What was left out, by reason; pictures of a pair first, then files that belong to no pair.
        examples: The first names of each reason.
        rejects_url: The list of all of them.
        contact_sheet_url: Pictures and disparity to look at.
    """

    manifest: Manifest
    accepted: dict[str, int]
    rejected: dict[str, int]
    examples: dict[str, list[str]]
    rejects_url: str
    contact_sheet_url: str


def pack(config: PackConfig, *, executor: Executor | None = None, progress: Progress | None = None) -> PackReport:
    """Pack a source into shards.

    Args:
        config: Source, destination and settings. `shards.workers` processes are used where no executor is given.
        executor: Any `concurrent.futures.Executor`; it is left open.
        progress: Called after each item.

    Raises:
        SourceError: The source is missing or empty, or every pair of it was rejected.
        ShardError: The destination holds another dataset or cannot be written.
        DataError: A process died.
    """
    source = open_source(config.source)
    items = source.items()
    log = _RejectLog()
    if isinstance(source, ReportsLeftovers):
        for reason, names in source.leftovers().items():
            for name in names:
                log.add(name, reason, {})
    finished_before = exists(join(config.out, MANIFEST_NAME))
    accepted: Counter[str] = Counter()
    sheet = ContactSheet()
    with DatasetWriter(config.out, shard_bytes=config.shards.shard_bytes, config=_what_defines(config)) as writer:

        def write(split: Split, sample: Sample) -> None:
            writer.add(split, sample)
            accepted[split] += 1
            sheet.offer(sample)

        # The last sample of a drawn split waits: it fills a split that the draw left empty.
        held: Sample | None = None
        with _prepared_in_order(items, config, executor) as results:
            for done, prepared in enumerate(results, start=1):
                if prepared.sample is None:
                    log.add(prepared.item.name, prepared.reason or "unknown", prepared.figures)
                elif prepared.item.split is not None:
                    write(_known_split(prepared.item), prepared.sample)
                else:
                    if held is not None:
                        write(draw_split(held.meta["name"], config.shards.val_share), held)
                    held = prepared.sample
                if progress is not None:
                    progress(done, len(items), log.counts)
        if held is not None:
            write(_last_split(held, accepted, config.shards.val_share), held)

        urls = {name: join(config.out, name) for name in ("rejects.jsonl", "contact_sheet.jpg")}
        if not accepted:
            if not finished_before:
                publish_bytes(urls["rejects.jsonl"], log.lines())
            raise SourceError(_all_rejected(config, items, log))
        extras = {"rejects.jsonl": log.lines(), "contact_sheet.jpg": sheet.render()}
        if not finished_before:  # the manifest comes last, as it says that everything is there
            _publish(urls, extras)
        manifest = writer.finish(log.counts)
        if finished_before:
            _publish(urls, extras)
    return PackReport(
        manifest, dict(accepted), dict(log.counts), log.examples, urls["rejects.jsonl"], urls["contact_sheet.jpg"]
    )


def draw_split(name: str, val_share: float) -> Split:
    """The split of a picture whose source has none: `val` with probability `val_share`, by a hash of its name."""
    return "val" if int.from_bytes(digest_key("split", name)[:8], "big") < val_share * 2**64 else "train"


def _last_split(sample: Sample, accepted: Mapping[str, int], val_share: float) -> Split:
    """The split of the last sample: the one that would stay empty, else the drawn one."""
    if not accepted:
        return "train"
    if val_share > 0 and len(accepted) == 1:
        return "val" if "train" in accepted else "train"
    return draw_split(sample.meta["name"], val_share)


def _known_split(item: Item) -> Split:
    if item.split == "train":
        return "train"
    if item.split == "val":
        return "val"
    raise DataError(f"{printable(item.name)}: the source names the split {item.split!r}; there are train and val")


def _what_defines(config: PackConfig) -> dict[str, Any]:
    """The settings on which the content depends: not the destination, the number of processes or whose disk it was."""
    source = config.source.model_dump(mode="json")
    if isinstance(config.source, CollectionConfig):
        source["path"] = PurePath(config.source.path).name
    return {"source": source, "shards": config.shards.model_dump(mode="json", exclude={"workers"})}


def _publish(urls: Mapping[str, str], contents: Mapping[str, bytes]) -> None:
    for name, data in contents.items():
        publish_bytes(urls[name], data)


class _RejectLog:
    """Everything left out: lines for the file, counts and first names by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self._lines: list[str] = []

    def add(self, name: str, reason: str, figures: Mapping[str, Any]) -> None:
        name = printable(name)
        self.counts[reason] += 1
        if self.counts[reason] <= 3:
            self.examples.setdefault(reason, []).append(name)
        self._lines.append(json.dumps({"name": name, "reason": reason, "figures": figures}, sort_keys=True))

    def lines(self) -> bytes:
        return "".join(f"{line}\n" for line in self._lines).encode("utf-8")


def _all_rejected(config: PackConfig, items: Sequence[Item], log: _RejectLog) -> str:
    reasons = ", ".join(
        f"{reason} {count} (first: {log.examples[reason][0]})" for reason, count in log.counts.most_common()
    )
    return (
        f"all {len(items)} pairs were rejected: {reasons}; figures of each are in "
        f"{shown(join(config.out, 'rejects.jsonl'))}, thresholds under shards.quality"
    )


@contextmanager
def _prepared_in_order(
    items: Sequence[Item], config: PackConfig, executor: Executor | None
) -> Iterator[Iterator[Prepared]]:
    """Results in the order of the items; leaving early drops what has not begun."""
    workers = min(config.shards.workers or _num_cores(), len(items))
    if executor is not None:
        yield _in_order(items, config, executor, _WAITING_PER_WORKER * (config.shards.workers or _num_cores()))
    elif workers == 1:
        yield (prepare(item, config) for item in items)
    else:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=begin_worker)
        try:
            yield _in_order(items, config, pool, _WAITING_PER_WORKER * workers)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _in_order(items: Sequence[Item], config: PackConfig, executor: Executor, num_waiting: int) -> Iterator[Prepared]:
    waiting: deque[tuple[Item, Future[Prepared]]] = deque()
    upcoming = iter(items)
    try:
        while True:
            while len(waiting) < num_waiting and (item := next(upcoming, None)) is not None:
                waiting.append((item, executor.submit(prepare, item, config)))
            if not waiting:
                return
            item, future = waiting.popleft()
            yield future.result()
    except BrokenProcessPool as error:
        raise DataError(
            f"a packing process died near {printable(item.name) if item else 'the end'}, most likely for want of "
            "memory; lower shards.workers and start again"
        ) from error
    finally:
        for _, future in waiting:
            future.cancel()


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
