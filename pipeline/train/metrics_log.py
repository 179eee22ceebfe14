"""`metrics.jsonl`: every figure of a run as one JSON object a line, the greppable truth beside TensorBoard.

    log = MetricsLog(run_dir / "metrics.jsonl", resume_step=1200)
    log.write({"step": 1250, "train/loss": 0.43})

A run that is resumed repeats the steps after its checkpoint, so their lines are cut first, together with a last line
that a kill left torn: on the page, as in the weights, the run looks as if it had never been stopped.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.train.append import AppendFile, read_lines

__all__ = ["MetricsLog", "read_metrics", "read_record"]

_NUMBER_LIMIT = 1 << 53
"""No run has so many steps or sessions; a larger number is damage."""


class MetricsLog:
    """Appends lines, each with the number of the session that wrote it.

    Attributes:
        session: Number of this session, 1 for the first.
        reached_step: Last step of which earlier sessions left figures, done again or not; 0 for none.
        damaged_lines: Lines that could not be read, and were left out.
    """

    def __init__(self, path: Path, *, resume_step: int) -> None:
        """Open the log of a run that continues after `resume_step`; 0 for a new one.

        Raises:
            OSError: It cannot be read or written.
        """
        self.session, self.reached_step, self.damaged_lines = 1, 0, 0
        kept_bytes = total_bytes = 0
        is_start = True  # what is kept is the start of the file: nothing was left out before it
        for line in read_lines(path):
            entry = read_record(line.text)
            if entry is None:
                self.damaged_lines += 1
            else:
                self.session = max(self.session, entry["session"] + 1)
                self.reached_step = max(self.reached_step, entry["step"])
                if entry["step"] <= resume_step:
                    is_start = is_start and kept_bytes == total_bytes
                    kept_bytes = line.end
            total_bytes = line.end
        if not is_start:
            _rewrite(path, resume_step)
        elif kept_bytes < total_bytes:
            os.truncate(path, kept_bytes)
        self._file = AppendFile(path)

    def write(self, figures: Mapping[str, Any]) -> None:
        """Append one line; values that are not finite become null, as JSON knows none.

        Raises:
            OSError: The line could not be written.
        """
        self._file.append(_line({**figures, "session": self.session}))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a log; lines that are torn or damaged are left out, and so is a file that is not there.

    Raises:
        OSError: It cannot be read.
    """
    for line in read_lines(path):
        entry = read_record(line.text)
        if entry is not None:
            yield entry


def read_record(text: bytes) -> dict[str, Any] | None:
    """The JSON object of a line that has a `step` and a `session`; None for a torn or damaged line."""
    # A torn line can be valid JSON by chance: `12` of `12}`; a whole one ends its line.
    if not text.endswith(b"\n"):
        return None
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(entry, dict) and all(_is_count(entry.get(name)) for name in ("step", "session")):
        return entry
    return None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _NUMBER_LIMIT


def _rewrite(path: Path, resume_step: int) -> None:
    """Leave out damaged lines and those after `resume_step`, wherever they are; the file is whole at any moment."""
    partial = path.with_name(f".{path.name}.tmp")
    try:
        with partial.open("wb") as file:
            for line in read_lines(path):
                entry = read_record(line.text)
                if entry is not None and entry["step"] <= resume_step:
                    file.write(line.text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _line(entry: Mapping[str, Any]) -> bytes:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in entry.items()
    }
    return json.dumps(finite, allow_nan=False).encode() + b"\n"
