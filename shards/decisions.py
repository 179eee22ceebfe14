"""What a person, or a trained checkpoint, decided about single pairs: an input of the next packing.

    {"format": "depthrank-decisions", "version": 1, "decisions": [
        {"name": "beach/IMG_01_L.JPG", "keep": true, "eyes": "swapped", "by": "person"},
        {"name": "beach/IMG_02_L.JPG", "keep": false}]}

`name` is the item's, as `rejects.jsonl` and the samples write it (`shards.names.printable`). What is absent or null
is left to the program.

- `keep` false: the pair is rejected, `dropped_by_hand`. True: the rules of quality do not apply to it; what cannot be
  read or matched is still rejected.
- `eyes`: which eye the source's first picture is, `as_given` the left one, `swapped` the right one. It takes the place
  of the automatic decision.

    decisions = read_decisions("decisions.json")
    decision = decisions.of(item.name)                        # a Decision; one that says nothing where there is none
    strangers = decisions.unmatched(item.name for item in items)
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shards.errors import DataError
from shards.names import printable
from shards.storage import publish_bytes, read_bytes, shown

__all__ = ["MAX_DECISIONS_BYTES", "Decision", "Decisions", "read_decisions", "write_decisions"]

MAX_DECISIONS_BYTES = 1 << 26
"""Largest decisions file that is read."""
Eyes = Literal["as_given", "swapped"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Decision(_Part):
    """What was decided about one pair."""

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    """Of the item."""
    keep: bool | None = None
    """True keeps it whatever the rules of quality say, False drops it, None leaves it to the rules."""
    eyes: Eyes | None = None
    """Whether the source's first picture is the left eye's; None leaves it to the program."""
    by: Annotated[str, Field(max_length=200)] | None = None
    """Who decided: `person`, `checkpoint`, ..."""
    note: Annotated[str, Field(max_length=1000)] | None = None
    """For people to read."""


class Decisions(_Part):
    """A decisions file; names are unique.

    Args:
        dataset: Fingerprint of the dataset that was reviewed, where it was one.
        decisions: In any order.
    """

    format: Literal["depthrank-decisions"] = "depthrank-decisions"
    version: Literal[1] = 1
    dataset: Annotated[str, Field(max_length=200)] | None = None
    decisions: Annotated[tuple[Decision, ...], Field(max_length=1_000_000, strict=False)] = ()

    def of(self, name: str) -> Decision:
        """The decision about the item of this name; where there is none, one that says nothing."""
        found = self._by_name.get(printable(name))
        return found if found is not None else Decision(name=printable(name))

    def unmatched(self, names: Iterable[str]) -> list[str]:
        """Decided names that belong to none of these items, sorted: a typing mistake, or another collection's file."""
        return sorted(self._by_name.keys() - {printable(name) for name in names})

    @cached_property
    def digest(self) -> str:
        """Sha256 of all that changes a dataset (name, keep, eyes), whatever the order; for the manifest."""
        content = sorted((entry.name, entry.keep, entry.eyes) for entry in self._by_name.values())
        return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()

    @cached_property
    def _by_name(self) -> dict[str, Decision]:
        return {entry.name: entry for entry in self.decisions}


def read_decisions(url: str) -> Decisions:
    """Read and check a decisions file.

    Args:
        url: Path or fsspec URL.

    Raises:
        DataError: It is missing, too large or not a decisions file, or names an item twice.
    """
    try:
        content = json.loads(read_bytes(url, MAX_DECISIONS_BYTES))
        decisions = Decisions.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{shown(url)}: {where or 'the whole'}: {first['msg']}; {_EXPECTED}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(url)}: not JSON ({str(error)[:200]}); {_EXPECTED}") from error
    doubled = [name for name, count in Counter(entry.name for entry in decisions.decisions).items() if count > 1]
    if doubled:
        raise DataError(
            f"{shown(url)}: {printable(min(doubled))} is decided twice"
            + (f", and so are {len(doubled) - 1} other names" if len(doubled) > 1 else "")
            + "; leave one decision for each name"
        )
    return decisions


def write_decisions(url: str, decisions: Decisions) -> None:
    """Write a decisions file, a line for each decision, in the order of the names.

    Raises:
        ShardError: It cannot be written.
    """
    head = decisions.model_dump(mode="json", exclude={"decisions"}, exclude_none=True)
    entries = sorted(decisions.decisions, key=lambda entry: entry.name)
    lines = ",\n".join(json.dumps(entry.model_dump(mode="json", exclude_none=True)) for entry in entries)
    text = json.dumps(head)[:-1] + f', "decisions": [\n{lines}\n]}}\n'
    publish_bytes(url, text.encode("ascii"))


_EXPECTED = 'expected {"format": "depthrank-decisions", "version": 1, "decisions": [{"name": ..., "keep": ...}, ...]}'
