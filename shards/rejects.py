"""Everything that packing leaves out: a line each for `rejects.jsonl`, counts and first names by reason.

log = RejectLog(); log.add("IMG_01_L.JPG", "flat", {"range_share": 0.004}); log.counts
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from shards.names import printable

__all__ = ["RejectLog"]

_NUM_EXAMPLES = 3


class RejectLog:
    """The list of what was left out, in the order in which it is told."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self._lines: list[str] = []

    def add(self, name: str, reason: str, figures: Mapping[str, Any]) -> None:
        """One picture and why."""
        name = printable(name)
        self.counts[reason] += 1
        if self.counts[reason] <= _NUM_EXAMPLES:
            self.examples.setdefault(reason, []).append(name)
        self._lines.append(json.dumps({"name": name, "reason": reason, "figures": figures}, sort_keys=True))

    def lines(self) -> bytes:
        """Content of `rejects.jsonl`."""
        return "".join(f"{line}\n" for line in self._lines).encode("utf-8")

    def __str__(self) -> str:
        """Counts, the most frequent reason first, with an example each."""
        return ", ".join(
            f"{reason} {count} (first: {self.examples[reason][0]})" for reason, count in self.counts.most_common()
        )
