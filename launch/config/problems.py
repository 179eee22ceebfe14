"""A mistake in the settings, where it was made, and how all of them are raised together.

raise_all([Problem(Place("configs/x.yaml", 12), ("optim", "lr"), "must be > 0, got -1")])
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from shards.errors import ConfigError

__all__ = ["COMMAND_LINE", "KeyPath", "Place", "Problem", "Value", "dotted", "raise_all", "show"]

Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | dict[str, Value] | None"
"""What a settings file can say. Sequences are tuples, as settings are frozen."""
KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the top of a config to a value; integers index a list."""


@dataclass(frozen=True)
class Place:
    """Where a value was written: a file and its line, or a name alone."""

    name: str
    line: int | None = None

    def __str__(self) -> str:
        return self.name if self.line is None else f"{self.name}:{self.line}"


COMMAND_LINE = Place("command line")
_SHOWN = 50
"""Mistakes that are listed; more than these have one cause."""


@dataclass(frozen=True)
class Problem:
    """One mistake: its place, the key it concerns (empty for the file as a whole) and what is wrong."""

    place: Place
    path: KeyPath
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {dotted(self.path)}: {self.text}" if self.path else f"{self.place}: {self.text}"


def dotted(path: Iterable[str | int]) -> str:
    """`("optim", "betas", 0)` -> `optim.betas[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def show(value: object, limit: int = 60) -> str:
    """A value as a settings file would write it, shortened to about `limit` characters."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, str):
        text = repr(value)
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items()) + "}"
    elif isinstance(value, Sequence):
        text = "[" + ", ".join(show(item) for item in value) + "]"
    else:
        text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def raise_all(problems: Iterable[Problem]) -> NoReturn:
    """Raise one ConfigError for all problems: those of files by line, then the command line's in their order."""

    def by_place(problem: Problem) -> tuple[bool, bool, int]:
        line = problem.place.line
        return problem.place == COMMAND_LINE, line is None, line or 0

    lines = [str(problem) for problem in sorted(problems, key=by_place)]
    if len(lines) == 1:
        raise ConfigError(lines[0])
    more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    listed = "\n".join(f"  {line}" for line in lines[:_SHOWN] + more)
    raise ConfigError(f"{len(lines)} mistakes in the settings\n{listed}")
