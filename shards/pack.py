"""A raw collection to a dataset of shards, on any number of processes, in the same bytes.

Items are prepared in any process and written by this one in the order of their names; no more than a few results wait
at a time. The split is drawn from each name alone, near-duplicates together (`shards.split`). Killed at any moment and
started again, the job continues where it was (`shards.record`) and ends in the same bytes. Beside the shards go
`rejects.jsonl` (every picture left out, reason and figures), `contact_sheet.jpg` and `previews.tar` (every picture,
for the review page).

Usage:

    report = pack(PackConfig(...), progress=lambda stage, done, total, *_: print(stage, done, total))
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shards.config import PackConfig
from shards.decisions import read_decisions
from shards.duplicates import groups, look_at
from shards.images import read_bytes_bounded
from shards.job import CONTACT_SHEET_NAME, REJECTS_NAME, PackJob
from shards.journal import state_folder
from shards.manifest import Manifest
from shards.pool import Run, open_pool
from shards.prepare import opened_source
from shards.record import JobRecord
from shards.sources import Item, ReportsLeftovers, open_source
from shards.sources.config import CollectionConfig, SyntheticSourceConfig
from shards.sources.files import collection_name
from shards.split import plan_splits
from shards.storage import join, shown
from shards.writer import DatasetWriter

__all__ = ["PackReport", "Progress", "Stage", "dataset_settings", "pack"]

Stage = Literal["compared", "packed"]
Progress = Callable[[Stage, int, int, int, Mapping[str, int]], None]
"""Called after each item, first compared for near-duplicates, then packed: items done, in all, accepted, and what was
left out by reason."""


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
        carried_on: Items that an earlier start of the same job had done.
    """

    manifest: Manifest
    accepted: dict[str, int]
    rejected: dict[str, int]
    examples: dict[str, list[str]]
    rejects_url: str
    contact_sheet_url: str
    carried_on: int


def pack(
    config: PackConfig,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> PackReport:
    """Pack a source into shards, or go on with what a killed start of the same job left.

    Args:
        config: Source, destination and settings. `shards.workers` processes are used where no executor is given.
        executor: Any `concurrent.futures.Executor`; it is left open. `shards.workers` says how many workers it has.
        progress: Called after each item.
        notice: Called with a line of text where something is worth knowing.

    Raises:
        SourceError: The source is missing or empty, or every pair of it was rejected.
        ShardError: The destination holds another dataset or cannot be written.
        DataError: A process died, or the decisions file is no such file.
    """
    say = notice or (lambda text: None)
    opened_source.cache_clear()  # this process may have packed from an older listing
    source = open_source(config.source)
    items = source.items()
    defines = dataset_settings(config)
    _note_unmatched_decisions(config, items, say)
    with (
        DatasetWriter(
            config.out, shard_bytes=config.shards.shard_bytes, config=defines, keep_in=state_folder(config.out)
        ) as writer,
        open_pool(config.shards.workers, len(items), executor) as run,
        _opened_record(config.out, defines, is_finished=writer.compares) as record,
    ):
        plan = plan_splits(items, _near_duplicates(items, config, run, progress, say), config.shards.val_share)
        job = PackJob(config, items, plan, writer, record)
        if isinstance(source, ReportsLeftovers):
            for reason, names in source.leftovers().items():
                for name in names:
                    job.log.add(name, reason, {})
        carried_on = job.carry_on(say)
        if carried_on and progress is not None:
            progress("packed", carried_on, len(items), job.num_accepted, job.log.counts)
        for done in job.work(run):
            if progress is not None:
                progress("packed", done, len(items), job.num_accepted, job.log.counts)
        manifest = job.publish()
        record.remove()
    return PackReport(
        manifest,
        dict(job.accepted),
        dict(job.log.counts),
        job.log.examples,
        join(config.out, REJECTS_NAME),
        join(config.out, CONTACT_SHEET_NAME),
        carried_on,
    )


@contextmanager
def _opened_record(out: str, defines: Mapping[str, Any], *, is_finished: bool) -> Iterator[JobRecord]:
    """The record of the job on `out`; a temporary one where there is nothing left to continue."""
    folder = state_folder(out)
    settings = hashlib.sha256(json.dumps(defines, sort_keys=True).encode("ascii")).hexdigest()
    with tempfile.TemporaryDirectory(prefix="depthrank-pack-") as temporary:
        if is_finished and not JobRecord.is_in(folder):
            folder = Path(temporary)
        record = JobRecord(folder, settings=settings)
        try:
            yield record
        finally:
            record.close()


def _near_duplicates(
    items: Sequence[Item],
    config: PackConfig,
    run: Run,
    progress: Progress | None,
    say: Callable[[str], None],
) -> list[list[int]]:
    """Groups of items that show the same, where they could fall on both sides."""
    given = {item.split for item in items}
    both_sides = (None in given and config.shards.val_share > 0) or len(given) > 1
    if not (config.shards.near_duplicate_bits and both_sides and isinstance(config.source, CollectionConfig)):
        return []
    looks = []
    for seen in run(look_at, items, config):
        looks.append(seen)
        if progress is not None:
            progress("compared", len(looks), len(items), 0, {})
    found = groups(looks, config.shards.near_duplicate_bits)
    if found:
        groups_are = "1 group is" if len(found) == 1 else f"{len(found)} groups are"
        say(f"{sum(map(len, found))} near-duplicates in {groups_are} kept on one side of the split")
    return found


def dataset_settings(config: PackConfig) -> dict[str, Any]:
    """The settings on which the content depends: not the destination, the number of processes or whose disk it was."""
    source = config.source.model_dump(mode="json")
    if isinstance(config.source, CollectionConfig):
        source["path"] = collection_name(config.source.path)
    if isinstance(config.source, SyntheticSourceConfig) and config.source.photos is not None:
        source["photos"] = collection_name(config.source.photos)
    shards = config.shards.model_dump(mode="json", exclude={"workers"})
    if config.shards.decisions is not None:
        shards["decisions"] = read_decisions(config.shards.decisions).digest
    if config.shards.match.raft_weights is not None:
        from shards.raft import raft_file  # torch is loaded only where it is used

        weights = read_bytes_bounded(raft_file(config.shards.match.raft_weights))
        shards["match"]["raft_weights"] = hashlib.sha256(weights).hexdigest()
    return {"source": source, "shards": shards}


def _note_unmatched_decisions(config: PackConfig, items: Sequence[Item], say: Callable[[str], None]) -> None:
    if config.shards.decisions is None:
        return
    strangers = read_decisions(config.shards.decisions).unmatched(item.name for item in items)
    if strangers:
        say(
            f"{len(strangers)} names in {shown(config.shards.decisions)} belong to no picture of the source "
            f"(first: {strangers[0]})"
        )
