"""Names that an archive or a server gives: taken where they are plain relative paths, else passed over and named.

Usage:

    census = Census()
    census.add("holiday/a.jpg", place)        # census.places["holiday/a.jpg"], census.listing()
"""

import re
from typing import Generic, TypeVar

from shards.errors import SourceError
from shards.sources.files import Listing

__all__ = ["MAX_FILES", "Census", "plain_name"]

MAX_FILES = 2_000_000
"""Most files of a collection in an archive or at a URL; each costs some hundred bytes of memory in each process."""
_MAX_NAME = 1024
_DRIVE = re.compile(r"[A-Za-z]:")
Place = TypeVar("Place")


def plain_name(name: str) -> str | None:
    """A member's name as a relative path without `.` and empty parts; None where it is no such thing.

    Refused are absolute paths, `..`, drives, backslashes, control characters and overlong names.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or _DRIVE.match(name) or "\\" in name or ".." in parts or not parts:
        return None
    if len(name) > _MAX_NAME or any(ord(char) < 32 or ord(char) == 127 for char in name):
        return None
    return "/".join(parts)


class Census(Generic[Place]):
    """The files seen so far: name -> place, and reason -> names of what was passed over."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self._passed_over: dict[str, set[str]] = {}
        self._seen = 0

    def add(self, name: str, place: Place, reason: str | None = None) -> None:
        """Take a file, or pass it over for `reason`, a hidden or unsafe name.

        Of several files of one name the last counts, as when unpacking; the name is noted as `duplicate_name`.

        Raises:
            SourceError: There are more than `MAX_FILES`.
        """
        self._seen += 1
        if self._seen > MAX_FILES:
            raise SourceError(f"more than {MAX_FILES} files; split the collection")
        plain = plain_name(name)
        if plain is None:
            self._pass_over("unsafe_name", name)
        elif (hidden := _hidden_part(plain)) is not None:
            self._pass_over("hidden", hidden)
        elif reason is not None:
            self._pass_over(reason, plain)
        else:
            if plain in self.places:
                self._pass_over("duplicate_name", plain)
            self.places[plain] = place

    def listing(self) -> Listing:
        """What a source gets to see."""
        return Listing(
            tuple(sorted(self.places)), {reason: sorted(names) for reason, names in self._passed_over.items()}
        )

    def _pass_over(self, reason: str, name: str) -> None:
        self._passed_over.setdefault(reason, set()).add(name)


def _hidden_part(name: str) -> str | None:
    """The path up to the first hidden part; macOS puts its own notes into each zip."""
    parts = name.split("/")
    for count, part in enumerate(parts, start=1):
        if part.startswith(".") or part == "__MACOSX":
            return "/".join(parts[:count])
    return None
