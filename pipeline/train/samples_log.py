"""`samples.jsonl`: which samples each step consumed, the audit of the data (`monitor.log_samples`).

A line a step, written when the step is done:

    {"step": 1201, "session": 2, "again": true, "samples": [[0, 3, 512, "mpo-0512"], [0, 3, 77, "mpo-0077", 80], ...]}

The samples are the global batch in the order of its slots, whatever processes took them, each with the number of its
dataset, that dataset's epoch, the sample's number in the index and its key; a fifth value is the number of the sample
that could not be read, for which this one stands in. `again` marks a step that an earlier session had done already:
after a kill those since the last checkpoint are done again. Nothing is removed from the file; which lines count is told
by `surviving_path`.

    for consumed in surviving_path(run_dir / "samples.jsonl"): print(consumed.step, consumed.samples)
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.train.append import read_lines
from pipeline.train.session_log import SessionLog, read_record

__all__ = [
    "ConsumedSample",
    "ConsumedStep",
    "SamplesLog",
    "in_slot_order",
    "own_samples",
    "read_samples",
    "surviving_path",
]


class ConsumedSample(NamedTuple):
    """A sample that a step was trained on."""

    dataset: int
    """Number of the dataset in the mixture."""
    epoch: int
    """Of that dataset."""
    sample: int
    """Row number in its index."""
    key: str
    instead_of: int | None = None
    """The sample that could not be read, where this one stands in for it (`data.on_bad_shard`)."""


class ConsumedStep(NamedTuple):
    """A line of the log."""

    step: int
    session: int
    again: bool
    """An earlier session had done this step already."""
    samples: tuple[ConsumedSample, ...]


class SamplesLog(SessionLog):
    """Appends a line a step; damaged lines of earlier sessions stay, all but the torn end of the file."""

    def __init__(self, path: Path) -> None:
        """Open the log of a run, new or not.

        Raises:
            OSError: It cannot be read or written.
        """
        super().__init__()
        whole_bytes = total_bytes = 0
        for line, _ in self.survey(path):
            total_bytes = line.end
            if line.is_whole:
                whole_bytes = line.end
        if whole_bytes < total_bytes:
            os.truncate(path, whole_bytes)  # else the next line would be part of it
        self.open(path)

    def write(self, step: int, samples: Iterable[ConsumedSample], *, again: bool) -> None:
        """Append the line of a step.

        Raises:
            OSError: The line could not be written.
        """
        mark = {"again": True} if again else {}
        rows = [list(one if one.instead_of is not None else one[:-1]) for one in samples]
        entry = {"step": step, "session": self.session, **mark, "samples": rows}
        self.append(json.dumps(entry))


def own_samples(micro_batches: Sequence[Mapping[str, Any]]) -> list[str]:
    """The samples of this process in a step, as text for the other processes; `in_slot_order` reads it."""
    return [
        json.dumps(one)
        for batch in micro_batches
        for one in zip(
            batch["positions"].tolist(), batch["dataset"].tolist(), batch["sample"].tolist(), batch["keys"], strict=True
        )
    ]


def in_slot_order(texts: Iterable[str], locate: Callable[[int], tuple[int, int, int]]) -> list[ConsumedSample]:
    """The global batch of a step, of what `own_samples` told on each process.

    Args:
        texts: Of all processes, in any order.
        locate: Dataset, epoch and sample that belong at a position of the stream.
    """
    consumed = []
    for position, dataset, sample, key in sorted(map(json.loads, texts)):
        _, epoch, meant = locate(position)
        consumed.append(ConsumedSample(dataset, epoch, sample, key, None if sample == meant else meant))
    return consumed


def read_samples(path: Path) -> Iterator[ConsumedStep]:
    """All lines as they were written, those of every session; damaged ones are left out.

    Raises:
        OSError: The file cannot be read.
    """
    for line in read_lines(path):
        consumed = _consumed(line.text)
        if consumed is not None:
            yield consumed


def surviving_path(path: Path) -> Iterator[ConsumedStep]:
    """The lines that count, step after step: of each step that of the last session that did it.

    A session that begins at a step throws away what earlier ones had done from there on, so a step counts only as far
    as the last session came. Reads the file twice; memory is that of one line and two numbers a session.

    Raises:
        OSError: The file cannot be read.
    """
    # Where the step does not rise, a session has begun at an earlier one.
    begins: list[int] = []
    former = -1
    for consumed in read_samples(path):
        if not begins or consumed.step <= former:
            begins.append(consumed.step)
        former = consumed.step
    ends = [*list(accumulate(reversed(begins), min))[-2::-1], math.inf]
    number, former = -1, -1
    for consumed in read_samples(path):
        if number < 0 or consumed.step <= former:
            number += 1
        former = consumed.step
        if consumed.step < ends[number]:
            yield consumed


def _consumed(text: bytes) -> ConsumedStep | None:
    entry = read_record(text)
    if entry is None or not isinstance(entry.get("samples"), list):
        return None
    samples = [_sample(row) for row in entry["samples"]]
    whole = tuple(one for one in samples if one is not None)
    if len(whole) < len(samples):
        return None
    return ConsumedStep(entry["step"], entry["session"], entry.get("again") is True, whole)


def _sample(row: object) -> ConsumedSample | None:
    if not isinstance(row, list) or len(row) not in (4, 5):
        return None
    *numbers, key = (row[:3] + row[4:]) + [row[3]]
    return ConsumedSample(*row) if all(type(number) is int for number in numbers) and isinstance(key, str) else None
