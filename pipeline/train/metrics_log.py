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

from pipeline.train.append import AppendFile

__all__ = ["MetricsLog", "read_metrics"]


class MetricsLog:
    """Appends lines, each with the number of the session that wrote it.

    Attributes:
        session: Number of this session, 1 for the first.
    """

    def __init__(self, path: Path, *, resume_step: int) -> None:
        """Open the log of a run that continues after `resume_step`; 0 for a new one."""
        entries = list(read_metrics(path))
        self.session = 1 + max((entry["session"] for entry in entries), default=0)
        kept = b"".join(_line(entry) for entry in entries if entry["step"] <= resume_step)
        if path.exists() and path.read_bytes() != kept:
            partial = path.with_name(f".{path.name}.tmp")
            with partial.open("wb") as file:
                file.write(kept)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
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
    """The entries of a log; lines that are torn or damaged are left out, and so is a file that is not there."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            # A torn line can be valid JSON by chance: `12` of `12}`; a whole one ends its line.
            whole = isinstance(entry, dict) and line.endswith(b"\n")
            if whole and all(type(entry.get(name)) is int for name in ("step", "session")):
                yield entry


def _line(entry: Mapping[str, Any]) -> bytes:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in entry.items()
    }
    return json.dumps(finite, allow_nan=False).encode() + b"\n"
