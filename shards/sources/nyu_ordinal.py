"""The ordinal lists of NYUDv2 (Zoran et al. 2015, as published with Chen et al., NIPS 2016).

    750_train_from_795_NYU_MITpaper_train_imgs_800_points_resize_240_320.csv: one header line, then for each picture
        ./795_NYU_MITpaper_train_imgs/12.png,1,800        path, a number that is not used, how many pairs
        120,44,201,310,>                                  y and x of A, y and x of B, the relation; so many times

Points count from 1, y first. `>` says that A is farther, `<` that it is nearer, `=` that both are equally far.

    source = NyuOrdinalSource(NyuOrdinalSourceConfig(kind="nyu_ordinal", path="relative_depth/data"))
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.errors import DecodeError, SourceError
from shards.format import MAX_PAIRS
from shards.images import original_jpeg, read_picture
from shards.names import printable
from shards.sources.base import Item, LabelledPicture
from shards.sources.config import NyuOrdinalSourceConfig
from shards.sources.files import open_files
from shards.sources.listed import LabelLists, lines_of, locate

__all__ = ["NyuOrdinalSource"]

_RELATIONS = {b">": 1, b"<": -1, b"=": 0}


class NyuOrdinalSource:
    """The pictures that the lists name; see `shards.sources.base.Source`."""

    def __init__(self, config: NyuOrdinalSourceConfig) -> None:
        self.config = config
        self.files = open_files(config.path)
        self._lists = LabelLists(self.files)

    def items(self) -> list[Item]:
        """All pictures that are there and have pairs, sorted.

        Raises:
            SourceError: No such collection, a list is missing or of another format, or no picture that it names.
        """
        return list(self._listing[0])

    def leftovers(self) -> dict[str, list[str]]:
        """Reason -> `LIST:LINE` of what a list says in vain, and names of files that get no label from a list.

        They are `malformed_line`, `too_few_points`, `too_many_points`, `no_picture`, `named_twice`,
        `unlabelled`.
        """
        return self._listing[1]

    def load(self, item: Item) -> LabelledPicture:
        """Decode a picture and read its pairs.

        Raises:
            DecodeError: It cannot be decoded or breaks a bound, or one of its pairs is malformed.
        """
        data = self.files.read(item.name)
        return LabelledPicture(
            image=read_picture(data, name=printable(item.name)),
            jpeg=original_jpeg(data),
            pairs=_parse_points(self._lists.part(item.labels), f"{printable(item.name)} in {item.labels[0]}"),
            pairs_hw=self.config.points_hw,
        )

    @cached_property
    def _listing(self) -> tuple[list[Item], dict[str, list[str]]]:
        listing = self.files.listing()
        names = frozenset(listing.names)
        leftovers: defaultdict[str, list[str]] = defaultdict(list, listing.passed_over)
        found: dict[str, Item] = {}
        wanted = {"train": self.config.train_list, "val": self.config.val_list}
        lists = {self._lists.find(pattern): split for split, pattern in wanted.items() if pattern}
        for name, split in lists.items():
            first: _Entry | None = None
            is_list = False
            for entry in _scan(self._lists.content(name)):
                first, is_list = first or entry, is_list or bool(entry.path)
                file = locate(entry.path, name, names) if entry.path else None
                reason = entry.fault or ("no_picture" if file is None else "named_twice" if file in found else None)
                if reason is not None or file is None:
                    leftovers[reason or "no_picture"].append(f"{printable(name)}:{entry.line}")
                else:
                    found[file] = Item(file, split, labels=(name, f"{entry.start}-{entry.stop}"))
            if not is_list:
                raise SourceError(_explain(name, first))
        if not found:
            raise SourceError(
                f"source.path: {printable(self.config.path)} holds none of the pictures that {', '.join(lists)} name"
            )
        leftovers["unlabelled"] += sorted(names - found.keys() - lists.keys())
        return [found[file] for file in sorted(found)], {why: what for why, what in leftovers.items() if what}


class _Entry(NamedTuple):
    """What a list says of a picture: its path and where its pairs stand, or what is wrong at a line."""

    line: int
    path: str = ""
    start: int = 0
    stop: int = 0
    fault: str | None = None


def _scan(data: bytes) -> Iterator[_Entry]:
    """Walk a list once, past its header line; after a fault it goes on at the next line that names a picture."""
    head: _Entry | None = None
    missing, lost = 0, False
    for number, start, stop in lines_of(data):
        if number == 1 or not data[start:stop].strip():
            continue
        if data.count(b",", start, stop) >= 4:
            if head is not None:
                missing -= 1
                if missing == 0:
                    yield head._replace(stop=stop)
                    head = None
            elif not lost:
                yield _Entry(number, fault="malformed_line")
                lost = True
            continue
        if head is not None:
            yield _Entry(head.line, fault="too_few_points")
        head, lost = None, False
        path, *_, count = ["", *data[start:stop].strip().decode("utf-8", "surrogateescape").rsplit(",", 2)][-3:]
        if not path or not count.strip().isdecimal() or int(count) == 0:
            yield _Entry(number, fault="malformed_line")
            lost = True
        elif int(count) > MAX_PAIRS:
            yield _Entry(number, fault="too_many_points")
            lost = True
        else:
            head, missing = _Entry(number, path, min(stop + 1, len(data))), int(count)
    if head is not None:
        yield _Entry(head.line, fault="too_few_points")


def _parse_points(data: bytes, where: str) -> NDArray[np.int32]:
    """int32 (N, 5) pairs, zero-based."""
    rows = []
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        fields = [field.strip().strip(b'"') for field in line.split(b",")]
        try:
            rows.append([*(int(field) - 1 for field in fields[:4]), _RELATIONS[fields[4]]])
        except (ValueError, KeyError):
            shown = printable(line[:60].decode("utf-8", "surrogateescape").strip())
            raise DecodeError(f"{where}: {shown!r} is not y,x,y,x and one of > < =") from None
    pairs = np.array(rows, dtype=np.int64)
    if (np.abs(pairs) > np.iinfo(np.int32).max).any():
        raise DecodeError(f"{where}: a point far outside of any picture")
    return pairs.astype(np.int32)


def _explain(name: str, first: _Entry | None) -> str:
    where = f"{printable(name)}:{first.line}: {first.fault}" if first else f"{printable(name)}: empty"
    return (
        f"source.path: {where}; this is no ordinal list of NYUDv2, which has one header line and then for each picture "
        "PATH,FIELD,COUNT and COUNT lines y_a,x_a,y_b,x_b,RELATION"
    )
