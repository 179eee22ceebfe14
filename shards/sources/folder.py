"""A folder of stereo pictures, two files a pair, told apart by the ends of their names.

The folder is searched recursively; file extensions are compared without regard to case. What belongs to no pair (a
left without a right, two files that claim the same place, links that leave the folder) is passed over and named.

    source = FolderSource(FolderSourceConfig(kind="folder", path="pictures"))
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from shards.errors import SourceError
from shards.images import original_jpeg, read_picture
from shards.names import printable
from shards.sources.base import Item, StereoPair
from shards.sources.config import FolderSourceConfig
from shards.sources.files import open_files
from shards.storage import shown

__all__ = ["FolderSource"]


@dataclass(frozen=True)
class _Listing:
    items: list[Item]
    leftovers: dict[str, list[str]]
    masks: frozenset[str]


class FolderSource:
    """Left/right pictures in one folder tree."""

    def __init__(self, config: FolderSourceConfig) -> None:
        self.config = config
        self.files = open_files(config.path)

    def items(self) -> list[Item]:
        """All pairs, sorted by the left name (its parts relative to the folder, joined by `/`).

        Raises:
            SourceError: No such folder, or no pair in it.
        """
        return list(self._listing.items)

    def leftovers(self) -> dict[str, list[str]]:
        """Reason -> names of what belongs to no pair.

        They are `ambiguous`, `no_partner`, `matches_no_pattern`, `link_leaves_folder`, `hidden`, `unreadable_folder`.
        """
        return {reason: list(names) for reason, names in self._listing.leftovers.items()}

    def load(self, item: Item) -> StereoPair:
        """Decode both pictures.

        Raises:
            DecodeError: One of them cannot be decoded or breaks a bound; the message names it.
        """
        if item.partner is None:
            raise SourceError(f"{printable(item.name)}: a pair of a folder needs both files")
        left, right = (self.files.read(name) for name in (item.name, item.partner))
        return StereoPair(
            left=read_picture(left, name=printable(item.name)),
            right=read_picture(right, name=printable(item.partner)),
            left_jpeg=original_jpeg(left),
            right_jpeg=original_jpeg(right),
            left_sky=self._sky(item.name),
            right_sky=self._sky(item.partner),
        )

    def _sky(self, name: str) -> NDArray[np.bool_] | None:
        """The mask beside a picture, where there is one: white is sky."""
        mask = self._mask_of(name)
        if mask is None or mask not in self._listing.masks:
            return None
        return np.asarray(read_picture(self.files.read(mask), name=printable(mask))[..., 0] >= 128)

    def _masks_of(self, item: Item, masks: frozenset[str]) -> tuple[str, ...]:
        found = (self._mask_of(name) for name in (item.name, item.partner) if name is not None)
        return tuple(mask for mask in found if mask in masks)

    def _mask_of(self, name: str) -> str | None:
        suffix = self.config.sky_suffix
        return None if suffix is None else str(PurePosixPath(name).with_suffix("")) + suffix + ".png"

    @cached_property
    def _listing(self) -> _Listing:
        listing = self.files.listing()
        files, leftovers = set(listing.names), dict(listing.passed_over)
        pictures = {name for name in files if Path(name).suffix.lower().removeprefix(".") in self.config.extensions}
        masks = frozenset(mask for name in pictures if (mask := self._mask_of(name)) is not None) & files
        items, more = _pair_up(pictures - masks, self.config.patterns)
        leftovers.update(more)
        items = [replace(item, labels=self._masks_of(item, masks)) for item in items]
        if not items:
            raise SourceError(self._explain_no_pairs(files, leftovers))
        return _Listing(items, {reason: sorted(names) for reason, names in sorted(leftovers.items()) if names}, masks)

    def _explain_no_pairs(self, files: set[str], leftovers: dict[str, list[str]]) -> str:
        endings = Counter(Path(name).suffix.lower() or "no extension" for name in files)
        seen = ", ".join(f"{count} x {printable(ending)}" for ending, count in endings.most_common(5)) or "no files"
        example = f", such as {printable(min(files))}" if files else ""
        passed = "".join(f"; {reason}: {len(names)}" for reason, names in sorted(leftovers.items()) if names)
        tried = ", ".join(f"{left}/{right}" for left, right in self.config.patterns)
        both = [ending for ending in (".mpo", ".jps", ".pns") if ending in endings]
        hint = f"{' and '.join(both)} files hold both eyes: source.kind=combined; " if both else ""
        return (
            f"source.path: no left/right pairs in {printable(shown(self.config.path))}: tried {tried} with "
            f"{' '.join('.' + e for e in self.config.extensions)}; saw {seen}{example}{passed}; "
            f"{hint}set source.patterns or source.extensions"
        )


def _pair_up(names: set[str], patterns: tuple[tuple[str, str], ...]) -> tuple[list[Item], dict[str, list[str]]]:
    """Join files to pairs; an earlier pattern wins a file from a later one."""
    items: list[Item] = []
    used: set[str] = set()
    matched: set[str] = set()
    ambiguous: set[str] = set()
    for pattern in patterns:
        sides = [_by_shared_name(names, stem) for stem in pattern]
        matched.update(name for side in sides for group in side.values() for name in group)
        for shared in sorted(sides[0].keys() & sides[1].keys()):
            lefts, rights = (sorted(set(side[shared]) - used) for side in sides)
            if len(lefts) == len(rights) == 1:
                items.append(Item(name=lefts[0], partner=rights[0]))
                used.update(lefts + rights)
            elif lefts and rights:
                ambiguous.update(lefts + rights)
    ambiguous -= used
    leftovers = {
        "ambiguous": sorted(ambiguous),
        "no_partner": sorted(matched - used - ambiguous),
        "matches_no_pattern": sorted(names - matched),
    }
    return sorted(items, key=lambda item: item.name), leftovers


def _by_shared_name(names: set[str], stem_pattern: str) -> dict[str, list[str]]:
    """Files whose stem fits the pattern, grouped by folder and the part that `{name}` stands for."""
    before, after = (re.escape(part) for part in stem_pattern.split("{name}"))
    stem = re.compile(f"{before}(.+){after}", re.DOTALL)
    groups: dict[str, list[str]] = {}
    for name in names:
        path = Path(name)
        if match := stem.fullmatch(path.stem):
            groups.setdefault(f"{path.parent.as_posix()}/{match[1]}", []).append(name)
    return groups
