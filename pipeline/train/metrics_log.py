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

from pipeline.train.append import read_lines
from pipeline.train.session_log import SessionLog, read_record

__all__ = ["MetricsLog", "read_metrics"]


class MetricsLog(SessionLog):
    """Appends a line of figures; damaged lines of earlier sessions are left out of the file."""

    def __init__(self, path: Path, *, resume_step: int) -> None:
        """Open the log of a run that continues after `resume_step`; 0 for a new one.

        Raises:
            OSError: It cannot be read or written.
        """
        super().__init__()
        kept_bytes = total_bytes = 0
        is_start = True  # what is kept is the start of the file: nothing was left out before it
        for line, entry in self.survey(path):
            if entry is not None and entry["step"] <= resume_step:
                is_start = is_start and kept_bytes == total_bytes
                kept_bytes = line.end
            total_bytes = line.end
        if not is_start:
            _rewrite(path, resume_step)
        elif kept_bytes < total_bytes:
            os.truncate(path, kept_bytes)
        self.open(path)

    def write(self, figures: Mapping[str, Any]) -> None:
        """Append one line; values that are not finite become null, as JSON knows none.

        Raises:
            OSError: The line could not be written.
        """
        self.append(_text({**figures, "session": self.session}))


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a log; lines that are torn or damaged are left out, and so is a file that is not there.

    Raises:
        OSError: It cannot be read.
    """
    for line in read_lines(path):
        entry = read_record(line.text)
        if entry is not None:
            yield entry


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


def _text(entry: Mapping[str, Any]) -> str:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in entry.items()
    }
    return json.dumps(finite, allow_nan=False)
