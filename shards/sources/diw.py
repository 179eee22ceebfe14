"""Depth in the Wild (Chen et al., NIPS 2016): web pictures with the order of one pair of points each.

    DIW_train.csv, DIW_val.csv, DIW_test.csv, without a header, two lines a picture:
        ./DIW_train_val/0a1b.thumb
        204,117,33,98,>,640,480

The numbers are y and x of A, y and x of B, the relation, then width and height of the picture; points count from 1, y
first, and `>` says that A is farther. Of the relation only the first character counts. There is no disparity.

A picture may be a scaled copy of the one that the list describes: its points move with it. One of another shape is
rejected (`size_mismatch`), as nobody knows where its points went.

    source = DiwSource(DiwSourceConfig(kind="diw", path="DIW"))
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from math import floor, isfinite
from typing import NamedTuple

import numpy as np

from shards.errors import SourceError
from shards.images import original_jpeg, read_picture
from shards.maps import MAX_MAP_SIDE_PX
from shards.names import printable
from shards.sources.base import Item, LabelledPicture
from shards.sources.config import DiwSourceConfig
from shards.sources.files import open_files
from shards.sources.listed import LabelLists, lines_of, locate

__all__ = ["DiwSource", "Pair", "parse_pair"]

_RELATIONS = {b">": 1, b"<": -1}


class DiwSource:
    """The pictures of DIW that its lists name; see `shards.sources.base.Source`."""

    def __init__(self, config: DiwSourceConfig) -> None:
        self.config = config
        self.files = open_files(config.path)
        self._lists = LabelLists(self.files)

    def items(self) -> list[Item]:
        """All pictures that are there and have one good pair, sorted.

        Raises:
            SourceError: No such collection, a list is missing or of another format, or no picture that it names.
        """
        return list(self._listing[0])

    def leftovers(self) -> dict[str, list[str]]:
        """Reason -> `LIST:LINE` of what a list says in vain, and names of files that get no label from a list.

        They are `malformed_line`, `equal_relation`, `unknown_relation`, `point_outside`, `same_point`, `no_labels`,
        `labels_without_picture`, `named_twice`, `no_picture`, `unlabelled`.
        """
        return self._listing[1]

    def load(self, item: Item) -> LabelledPicture:
        """Decode a picture and look up its pair.

        Raises:
            DecodeError: It cannot be decoded or breaks a bound.
        """
        pair = parse_pair(self._lists.part(item.labels))
        data = self.files.read(item.name)
        return LabelledPicture(
            image=read_picture(data, name=printable(item.name)),
            jpeg=original_jpeg(data),
            pairs=np.array([[*pair.points_yx, pair.relation]], dtype=np.int32),
            pairs_hw=pair.picture_hw,
        )

    @cached_property
    def _listing(self) -> tuple[list[Item], dict[str, list[str]]]:
        listing = self.files.listing()
        names = frozenset(listing.names)
        leftovers: defaultdict[str, list[str]] = defaultdict(list, listing.passed_over)
        found: dict[str, Item] = {}
        lists = {self._lists.find(self.config.lists.replace("{split}", split)): split for split in self.config.splits}
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
                    span = f"{entry.start}-{entry.stop}"
                    found[file] = Item(file, "train" if split == "train" else "val", labels=(name, span))
            if not is_list:
                raise SourceError(_explain(name, first))
        if not found:
            raise SourceError(
                f"source.path: {printable(self.config.path)} holds none of the pictures that {', '.join(lists)} name; "
                "unpack the archives of pictures beside the lists"
            )
        leftovers["unlabelled"] += sorted(names - found.keys() - lists.keys())
        return [found[file] for file in sorted(found)], {why: what for why, what in leftovers.items() if what}


class Pair(NamedTuple):
    """One labelled pair: zero-based y_a, x_a, y_b, x_b, the relation, height and width of the picture."""

    points_yx: tuple[int, int, int, int]
    relation: int
    picture_hw: tuple[int, int]


def parse_pair(line: bytes) -> Pair:
    """Read the second of the two lines of a picture.

    Raises:
        ValueError: It cannot be used; the message is the reason in one word.
    """
    fields = [field.strip().strip(b'"') for field in line.split(b",")]
    if len(fields) < 7:
        raise ValueError("malformed_line")
    try:
        numbers = [float(field) for field in (*fields[:4], *fields[5:7])]
    except ValueError:
        raise ValueError("malformed_line") from None
    width, height = numbers[4:]
    if not all(map(isfinite, numbers)) or not (1 <= width <= MAX_MAP_SIDE_PX and 1 <= height <= MAX_MAP_SIDE_PX):
        raise ValueError("malformed_line")
    relation = _RELATIONS.get(fields[4][:1])
    if relation is None:
        raise ValueError("equal_relation" if fields[4][:1] == b"=" else "unknown_relation")
    y_a, x_a, y_b, x_b = (floor(number + 0.5) - 1 for number in numbers[:4])
    if not all(0 <= y < height for y in (y_a, y_b)) or not all(0 <= x < width for x in (x_a, x_b)):
        raise ValueError("point_outside")
    if (y_a, x_a) == (y_b, x_b):
        raise ValueError("same_point")
    return Pair((y_a, x_a, y_b, x_b), relation, (round(height), round(width)))


class _Entry(NamedTuple):
    """What a list says of a picture: its path and where its pair stands, or what is wrong at a line."""

    line: int
    path: str = ""
    start: int = 0
    stop: int = 0
    fault: str | None = None


def _scan(data: bytes) -> Iterator[_Entry]:
    """Walk a list once; after a fault it goes on at the next path."""
    waiting: tuple[int, str] | None = None
    for number, start, stop in lines_of(data):
        line = data[start:stop].strip()
        if not line:
            continue
        if line.startswith((b"./", b"/")):
            if waiting:
                yield _Entry(waiting[0], fault="no_labels")
            waiting = number, line.decode("utf-8", "surrogateescape")
            continue
        if waiting is None:
            yield _Entry(number, fault="labels_without_picture")
            continue
        try:
            parse_pair(line)
        except ValueError as error:
            yield _Entry(number, fault=str(error))
        else:
            yield _Entry(waiting[0], waiting[1], start, stop)
        waiting = None
    if waiting:
        yield _Entry(waiting[0], fault="no_labels")


def _explain(name: str, first: _Entry | None) -> str:
    where = f"{printable(name)}:{first.line}: {first.fault}" if first else f"{printable(name)}: empty"
    return (
        f"source.path: {where}; this is no list of DIW, which has two lines a picture: ./PATH and "
        "y_a,x_a,y_b,x_b,RELATION,width,height"
    )
