"""What `metrics.jsonl` and `samples.jsonl` have in common: JSON lines, each with a step and the session that wrote it.

A log of its own kind goes through `survey`, mends the file as it sees fit, and opens it for what is added.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.train.append import AppendFile, Line, read_lines

__all__ = ["SessionLog", "read_record"]

_NUMBER_LIMIT = 1 << 53
"""No run has so many steps or sessions; a larger number is damage."""


class SessionLog:
    """A log that every session of a run goes on with.

    Attributes:
        session: Number of this session, 1 for the first; part of each line.
        reached_step: Last step that earlier sessions left lines of, done again or not; 0 for none.
        damaged_lines: Lines that could not be read and do not count.
    """

    def __init__(self) -> None:
        self.session, self.reached_step, self.damaged_lines = 1, 0, 0
        self._file: AppendFile | None = None

    def survey(self, path: Path) -> Iterator[tuple[Line, dict[str, Any] | None]]:
        """The lines that earlier sessions left, each with what it holds, None where it is damaged; counts them.

        Raises:
            OSError: The file cannot be read.
        """
        for line in read_lines(path):
            entry = read_record(line.text)
            if entry is None:
                self.damaged_lines += 1
            else:
                self.session = max(self.session, entry["session"] + 1)
                self.reached_step = max(self.reached_step, entry["step"])
            yield line, entry

    def open(self, path: Path) -> None:
        """Open the file for what this session adds.

        Raises:
            OSError: It cannot be opened.
        """
        self._file = AppendFile(path)

    def append(self, text: str) -> None:
        """Add one line.

        Raises:
            OSError: It could not be written; the file is as it was before.
        """
        if self._file is None:
            raise OSError("the file is not open")
        self._file.append(text.encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


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
