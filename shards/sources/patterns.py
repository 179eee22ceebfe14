"""Files that belong together, told by their names: a picture and the maps that go with it.

A pattern is a path with one `{name}`, such as `Imgs/{name}.jpg`; the folders above it may be anything, but the same for
all files of a group. Upper and lower case count in the name, not in the rest.

    groups, leftovers = group_files(names, [("Imgs/{name}.jpg", "RDs/{name}.png")])
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Group", "check_pattern", "group_files"]


@dataclass(frozen=True)
class Group:
    """Files that belong together.

    Args:
        pattern: Which of the patterns they follow.
        files: One a place of the pattern, the picture first.
    """

    pattern: int
    files: tuple[str, ...]


def check_pattern(pattern: str) -> str:
    """The pattern itself.

    Raises:
        ValueError: It is not a relative path with exactly one `{name}`.
    """
    parts = pattern.split("/")
    if pattern.count("{name}") != 1 or any(part in {"", ".", ".."} for part in parts) or "\\" in pattern:
        raise ValueError(f"{pattern!r} must be a path below the collection with exactly one {{name}}")
    return pattern


def group_files(names: Iterable[str], patterns: Sequence[tuple[str, ...]]) -> tuple[list[Group], dict[str, list[str]]]:
    """Join files to groups; an earlier pattern wins a file from a later one.

    Args:
        names: Files, relative with `/`.
        patterns: For each layout, the picture's pattern and those of the files that it needs.

    Returns:
        The groups, sorted by picture, and what belongs to none by reason: `ambiguous`, `no_labels` (a picture),
        `no_picture` (a map), `matches_no_pattern`.
    """
    files = sorted(names)
    groups: list[Group] = []
    reasons: dict[str, str] = {}
    taken: set[str] = set()
    for number, pattern in enumerate(patterns):
        places: dict[tuple[str, str], list[list[str]]] = {}
        for place, expression in enumerate(map(_expression, pattern)):
            for file in files:
                if file not in taken and (found := expression.fullmatch(file)):
                    key = found["above"].lower(), found["name"]
                    places.setdefault(key, [[] for _ in pattern])[place].append(file)
        for found_files in places.values():
            members = [file for candidates in found_files for file in candidates]
            if all(len(candidates) == 1 for candidates in found_files):
                groups.append(Group(number, tuple(members)))
                taken.update(members)
                continue
            for place, candidates in enumerate(found_files):
                reason = "ambiguous" if all(found_files) else "no_labels" if place == 0 else "no_picture"
                for file in candidates:
                    reasons.setdefault(file, reason)
    leftovers: defaultdict[str, list[str]] = defaultdict(list)
    for file in files:
        if file not in taken:
            leftovers[reasons.get(file, "matches_no_pattern")].append(file)
    return sorted(groups, key=lambda group: group.files[0]), dict(sorted(leftovers.items()))


def _expression(pattern: str) -> re.Pattern[str]:
    before, after = map(re.escape, pattern.split("{name}"))
    return re.compile(rf"(?P<above>(?:.*/)?){before}(?P<name>[^/]+){after}", re.IGNORECASE | re.DOTALL)
