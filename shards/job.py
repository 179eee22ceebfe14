"""The work of one packing job: take over what is done, prepare and write the rest, publish.

Usage:

    job = PackJob(config, items, plan, writer, record)
    job.carry_on(print)
    for done in job.work(run): ...
    manifest = job.publish()
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from shards.config import PackConfig
from shards.contact_sheet import ContactSheet
from shards.errors import DataError, SourceError
from shards.format import Sample
from shards.journal import Step, Write
from shards.manifest import Manifest, SplitName
from shards.names import printable, sample_key
from shards.pool import Run
from shards.prepare import prepare
from shards.prepared import Prepared
from shards.preview_tar import write_preview_tar
from shards.record import JobRecord, leaving_out
from shards.rejects import RejectLog
from shards.review_entries import PREVIEWS_NAME
from shards.sources import Item
from shards.sources.config import CollectionConfig
from shards.split import SplitPlan
from shards.stamps import stamp
from shards.storage import join, publish_bytes, publish_file, shown
from shards.writer import DatasetWriter

__all__ = ["CONTACT_SHEET_NAME", "REJECTS_NAME", "PackJob"]

REJECTS_NAME = "rejects.jsonl"
CONTACT_SHEET_NAME = "contact_sheet.jpg"


class PackJob:
    """One job, from the plan to the published dataset.

    Args:
        config: Of the job.
        items: Of the source, in their order.
        plan: Where each goes.
        writer: Of the dataset.
        record: Of what is done; begun by `carry_on`.
    """

    def __init__(
        self, config: PackConfig, items: Sequence[Item], plan: SplitPlan, writer: DatasetWriter, record: JobRecord
    ) -> None:
        self.config = config
        self.items = items
        self.plan = plan
        self.writer = writer
        self.record = record
        self.log = RejectLog()
        self.accepted: Counter[str] = Counter()
        self.sheet = ContactSheet()
        self.split_of: dict[str, SplitName] = {}
        # The last sample of a drawn split waits: it fills a split that the draw left empty.
        self.held: tuple[int, Sample] | None = None
        path = config.source.path if isinstance(config.source, CollectionConfig) else None
        self.stamps = [stamp(item, path) if path is not None else None for item in items]

    @property
    def num_accepted(self) -> int:
        """Items that became samples so far."""
        return self.accepted.total() + (self.held is not None)

    def carry_on(self, say: Callable[[str], None]) -> int:
        """Take over what an earlier start did; how many items that are."""
        steps = self.record.recall(self.items, self.stamps, self.plan)
        if self.record.journal.differs is not None:
            say(f"what lies unfinished in {shown(self.config.out)} {self.record.journal.differs}: starting over")
        writes = [step.write for step in steps if step.write is not None]
        num_good = self.writer.carry_on(writes)
        if num_good < len(writes):
            steps = steps[: next(place for place, step in enumerate(steps) if step.write is writes[num_good])]
        self.record.begin(steps)
        for step in steps:
            if step.reason is not None:
                self.log.add(step.name, step.reason, step.figures)
        for write in writes[:num_good]:
            self._count(write)
            if self.sheet.wants(write.key):
                self.sheet.offer(self.writer.read(write))
        self._recall_held(steps)
        if steps:
            say(f"carried on: {len(steps)} of {len(self.items)} items were done")
        return len(steps)

    def work(self, run: Run) -> Iterator[int]:
        """Prepare and write the items that are left; after each, how many are done."""
        start = len(self.record.steps)
        left = range(start, len(self.items))
        leaking = self.plan.leaking
        results = run(prepare, [self.items[number] for number in left if number not in leaking], self.config)
        for number in left:
            like = leaking.get(number)
            prepared = next(results) if like is None else leaving_out(self.items[number], like)
            self._take(number, prepared)
            yield number + 1

    def publish(self) -> Manifest:
        """Write what is left; the manifest comes last, as it says that everything is there."""
        if self.held is not None:
            number, sample = self.held
            self._write(self._last_split(number), sample)
        out, is_finished = self.config.out, self.writer.compares
        if not self.accepted:
            if not is_finished:
                publish_bytes(join(out, REJECTS_NAME), self.log.lines())
            raise SourceError(
                f"all {len(self.items)} pairs were rejected: {self.log}; figures of each are in "
                f"{shown(join(out, 'rejects.jsonl'))}, thresholds under shards.quality"
            )
        if is_finished:
            manifest = self.writer.finish(self.log.counts)
            self._publish_extras()
            return manifest
        self._publish_extras()
        return self.writer.finish(self.log.counts)

    def _take(self, number: int, prepared: Prepared) -> None:
        write = None
        if prepared.sample is None:
            self.log.add(prepared.item.name, prepared.reason or "unknown", prepared.figures)
        elif number in self.plan.may_fill:
            if self.held is not None:
                write = self._write(self.plan.splits[self.held[0]], self.held[1])
            self.held = number, prepared.sample
        else:
            write = self._write(self.plan.splits[number], prepared.sample)
        self.record.add(prepared, self.stamps[number], write)

    def _write(self, split: SplitName, sample: Sample) -> Write:
        write = self.writer.add(split, sample)
        self._count(write)
        self.sheet.offer(sample)
        return write

    def _count(self, write: Write) -> None:
        self.accepted[write.split] += 1
        self.split_of[write.key] = write.split

    def _recall_held(self, steps: Sequence[Step]) -> None:
        """Prepare again the one sample that had been accepted and was still waiting to be written."""
        for number, step in enumerate(steps):
            if step.reason is None and sample_key(step.name) not in self.split_of:
                sample = prepare(self.items[number], self.config).sample
                if sample is None:
                    raise DataError(
                        f"{printable(step.name)} was accepted before the job was interrupted and is refused now: the "
                        f"picture changed unnoticed; delete {self.record.journal.path} to start over"
                    )
                self.held = number, sample

    def _last_split(self, number: int) -> SplitName:
        """The split of the sample that waited to the end: the one that would stay empty, else its own."""
        if not self.accepted:
            return "train"
        if self.config.shards.val_share > 0 and len(self.accepted) == 1:
            return "val" if "train" in self.accepted else "train"
        return self.plan.splits[number]

    def _publish_extras(self) -> None:
        out = self.config.out
        publish_bytes(join(out, REJECTS_NAME), self.log.lines())
        publish_bytes(join(out, CONTACT_SHEET_NAME), self.sheet.render())
        tar = self.record.spool.path.with_name(f".{PREVIEWS_NAME}.part")
        write_preview_tar(tar, self.record.steps, self.split_of, self.record.spool)
        publish_file(tar, join(out, PREVIEWS_NAME))
