"""What a packing job knows of its items, in memory and on disk, so that the next start of a killed job begins there.

Usage:

    record = JobRecord(folder, settings=digest)
    steps = record.recall(items, stamps, plan)     # the leading steps that may be believed
    record.begin(steps); record.add(prepared, stamp, write); record.remove()
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

from shards.journal import Journal, Step, Write, program_digest
from shards.names import sample_key
from shards.prepared import Prepared
from shards.preview_tar import PreviewSpool
from shards.sources import Item
from shards.split import SplitPlan

__all__ = ["NEAR_DUPLICATE", "JobRecord", "leaving_out"]

NEAR_DUPLICATE = "near_duplicate_of_val"
"""Reason of a picture given to train that shows the same as one given to val."""
_JOURNAL_NAME = ".packing.jsonl"
_SPOOL_NAME = ".previews.part"


class JobRecord:
    """Journal and previews of one job.

    Args:
        folder: Where they are kept.
        settings: Digest of the settings that define the dataset.
    """

    def __init__(self, folder: Path, *, settings: str) -> None:
        program = f"{program_digest()} zlib {zlib.ZLIB_RUNTIME_VERSION}"  # which compresses the maps, in this process
        self.journal = Journal(folder / _JOURNAL_NAME, settings=settings, program=program)
        self.spool = PreviewSpool(folder / _SPOOL_NAME)
        self.steps: list[Step] = []

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a job left its record in a folder."""
        return (folder / _JOURNAL_NAME).is_file()

    def recall(self, items: Sequence[Item], stamps: Sequence[str | None], plan: SplitPlan) -> list[Step]:
        """The leading steps of a former start that this one would repeat; the shards are still to be looked at."""
        steps = self.journal.read()[: len(items)]
        numbers = {sample_key(item.name): number for number, item in enumerate(items)}
        for place, (step, item, stamp) in enumerate(zip(steps, items, stamps, strict=False)):
            leaks_into = plan.leaking.get(place)
            fits = (step.name, step.stamp) == (item.name, stamp)
            if leaks_into is not None:
                fits = fits and (step.reason, step.figures) == (NEAR_DUPLICATE, leaving_out(item, leaks_into).figures)
            else:
                fits = fits and step.reason != NEAR_DUPLICATE
            if step.write is not None:
                number = numbers.get(step.write.key)
                fits = fits and number is not None and plan.splits[number] == step.write.split
            if not fits:
                steps = steps[:place]
                break
        return steps[: self.spool.num_good(steps)]

    def begin(self, steps: Sequence[Step]) -> None:
        """Go on after these steps, a beginning of those recalled.

        Raises:
            ShardError: The record cannot be written.
        """
        self.steps = list(steps)
        self.spool.begin(self.steps)
        self.journal.begin(len(self.steps))

    def add(self, prepared: Prepared, stamp: str | None, write: Write | None) -> None:
        """Write down what became of the next item; the bytes of `write` have been handed over before.

        Raises:
            ShardError: The record cannot be written.
        """
        eyes = prepared.figures.get("eyes") if prepared.sample is None else prepared.sample.meta.get("eyes")
        preview = None if prepared.preview is None else self.spool.append(prepared.preview)
        reason = None if prepared.sample is not None else prepared.reason or "unknown"
        step = Step(prepared.item.name, stamp, reason, prepared.figures, eyes, preview, write)
        self.journal.append(step)
        self.steps.append(step)

    def close(self) -> None:
        """Close the files; they stay for the next start."""
        self.journal.close()
        self.spool.close()

    def remove(self) -> None:
        """The job is done: remove the files."""
        self.spool.remove()
        self.journal.remove()


def leaving_out(item: Item, near_duplicate: str) -> Prepared:
    """What becomes of a picture given to train that shows the same as this one given to val."""
    return Prepared(item, reason=NEAR_DUPLICATE, figures={"like": near_duplicate})
