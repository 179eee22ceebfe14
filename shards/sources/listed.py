"""Collections whose labels stand in a list that names its pictures: where the list is, and which file it means.

Usage:

    lists = LabelLists(files)
    name = lists.find("DIW_train.csv")
    file = locate("./DIW_train_val/a.thumb", name, set(files.listing().names))
    line = lists.part((name, "120-163"))              # the bytes 120 to 162 of the list
"""

from collections.abc import Container, Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from shards.errors import SourceError
from shards.names import printable
from shards.sources.files import Files

__all__ = ["LabelLists", "lines_of", "locate"]

_MAX_LIST_BYTES = 1 << 30
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LabelLists:
    """The lists of a collection, each read once a process."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._read: dict[str, bytes] = {}

    def find(self, pattern: str) -> str:
        """The one file whose base name fits a pattern such as `DIW_train.csv` or `750_train*.csv`.

        Raises:
            SourceError: None does, or several.
        """
        names = self._files.listing().names
        found = [name for name in names if fnmatchcase(PurePosixPath(name).name.lower(), pattern.lower())]
        if len(found) != 1:
            seen = f"several: {', '.join(map(printable, found[:3]))}" if found else "none"
            lists = [printable(name) for name in names if name.lower().endswith((".csv", ".json"))][:5]
            raise SourceError(
                f"source.path: one list {pattern} is needed somewhere in the collection, but there is {seen}; "
                f"lists seen: {', '.join(lists) or 'none'}"
            )
        return found[0]

    def content(self, name: str) -> bytes:
        """All of a list, without a byte order mark."""
        if name not in self._read:
            self._read[name] = self._files.read(name, _MAX_LIST_BYTES).removeprefix(_BYTE_ORDER_MARK)
        return self._read[name]

    def part(self, place: tuple[str, ...]) -> bytes:
        """The bytes of a list that `Item.labels` points to: its name and `START-END`."""
        name, span = place
        start, stop = map(int, span.split("-"))
        return self.content(name)[start:stop]


def lines_of(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each line, counted from 1, without copying any."""
    number, start = 0, 0
    while start < len(data):
        number += 1
        stop = data.find(b"\n", start)
        stop = len(data) if stop < 0 else stop
        yield number, start, stop
        start = stop + 1


def locate(path: str, list_name: str, names: Container[str]) -> str | None:
    """The file that a list means, or None.

    Lists name pictures as they once lay somewhere: relative to the list, to the collection, or on another machine. The
    longest end of the path that is a file of the collection counts, beside the list before elsewhere.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        return None
    beside = str(PurePosixPath(list_name).parent)
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        for candidate in (end,) if beside == "." else (f"{beside}/{end}", end):
            if candidate in names:
                return candidate
    return None
