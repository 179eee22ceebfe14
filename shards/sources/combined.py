"""Stereo pictures of which one file holds both eyes: MPO, JPS, side by side, top-bottom.

The files are searched recursively. An MPO is known by its content, other layouts by the setting, the name or the
shape, and then by their halves, which must show one scene. What is no stereo is refused with the reason: `anaglyph`,
`equirectangular` (360 degrees), `not_stereo`.

    source = CombinedSource(CombinedSourceConfig(kind="combined", path="pictures"))
"""

from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import DecodeError, SourceError
from shards.images import read_views
from shards.layouts import Layout, is_squeezed, named_layout, shaped_layout, split_views, stretch_view
from shards.names import printable
from shards.sources.base import Item, StereoPair
from shards.sources.config import CombinedSourceConfig
from shards.sources.files import Listing, open_files
from shards.stereo_checks import looks_anaglyph, looks_equirectangular, share_in_common
from shards.storage import shown

__all__ = ["CombinedSource"]

_MIN_SHARE_DECLARED = 0.05  # the setting or the name says it is stereo
_MIN_SHARE_GUESSED = 0.40  # only the shape does
_HALVES: dict[Layout, list[str]] = {"side_by_side": ["left", "right"], "top_bottom": ["top", "bottom"]}


class CombinedSource:
    """Files that each hold a stereo pair."""

    def __init__(self, config: CombinedSourceConfig) -> None:
        self.config = config
        self.files = open_files(config.path)

    def items(self) -> list[Item]:
        """All files with one of the extensions, sorted by name.

        Raises:
            SourceError: No such collection, or no such file in it.
        """
        names = [name for name in self._listing.names if self._counts(name)]
        if not names:
            saw = f"saw {len(self._listing.names)} others" if self._listing.names else "saw no files"
            example = f", such as {printable(self._listing.names[0])}" if self._listing.names else ""
            raise SourceError(
                f"source.path: no file with {' '.join('.' + e for e in self.config.extensions)} in "
                f"{printable(shown(self.config.path))}: {saw}{example}; set source.extensions"
            )
        return [Item(name) for name in names]

    def leftovers(self) -> dict[str, list[str]]:
        """Reason -> names of files that were not taken: `other_extension`, and what the files say themselves."""
        others = [name for name in self._listing.names if not self._counts(name)]
        reasons = dict(self._listing.passed_over) | {"other_extension": others}
        return {reason: list(names) for reason, names in sorted(reasons.items()) if names}

    def load(self, item: Item) -> StereoPair:
        """Decode both eyes; the first frame, the left or the upper half comes as `left`.

        `StereoPair.meta` says where they come from: `layout` with `frames` or `halves`, in that order.

        Raises:
            DecodeError: The file cannot be decoded or breaks a bound; or, by its `reason`, it is no stereo picture.
        """
        name = printable(item.name)
        views = read_views(self.files.read(item.name), name=name)
        if len(views) == 2 and self.config.layout in ("auto", "mpo"):
            left, right = views.values()
            return StereoPair(left, right, meta={"layout": "mpo", "frames": list(views)})
        if self.config.layout == "mpo":
            raise DecodeError(f"{name}: one picture, not an MPO with two of one size", reason="not_stereo")
        return self._split(item.name, views[min(views)])

    def _split(self, name: str, rgb: NDArray[np.uint8]) -> StereoPair:
        best: tuple[float, Layout] | None = None
        told = []
        for layout, least in self._candidates(name, rgb.shape):
            first, second = split_views(rgb, layout)
            if min(first.shape[:2]) < self.config.min_side_px // 2:
                continue
            share = share_in_common(first, second)
            told.append(f"{layout}: {'too little texture' if share is None else f'{share:.2f} in common'}")
            if share is None:  # nothing to tell them apart by: believe what was declared
                share = least if least == _MIN_SHARE_DECLARED else 0.0
            if share >= least and (best is None or share > best[0]):
                best = share, layout
        if best is None:
            if looks_anaglyph(rgb):
                raise DecodeError(f"{printable(name)}: an anaglyph: the colours show different views", "anaglyph")
            tried = ", ".join(told) or "neither its name nor its shape says that it holds two views"
            raise DecodeError(f"{printable(name)}: the halves are not two views of one scene ({tried})", "not_stereo")
        return self._pair(name, rgb, best[1])

    def _pair(self, name: str, rgb: NDArray[np.uint8], layout: Layout) -> StereoPair:
        first, second = split_views(rgb, layout)
        if looks_equirectangular(first) and looks_equirectangular(second):
            what = "a 360 degree picture; it would have to be rendered to a perspective first"
            raise DecodeError(f"{printable(name)}: {what}", "equirectangular")
        meta: dict[str, Any] = {"layout": layout, "halves": _HALVES[layout]}
        if self.config.views == "half" or (self.config.views == "auto" and is_squeezed(name, rgb.shape, layout)):
            first, second = stretch_view(first, layout), stretch_view(second, layout)
            meta["stretched"] = True
        return StereoPair(first, second, meta=meta)

    def _candidates(self, name: str, shape: tuple[int, ...]) -> list[tuple[Layout, float]]:
        """Layouts to try, each with the least share that the halves must have in common."""
        if self.config.layout in ("side_by_side", "top_bottom"):
            return [(self.config.layout, _MIN_SHARE_DECLARED)]
        named, shaped = named_layout(name), shaped_layout(shape)
        candidates = [(named, _MIN_SHARE_DECLARED)] if named else []
        if shaped and shaped != named:
            candidates.append((shaped, _MIN_SHARE_GUESSED))
        return candidates

    def _counts(self, name: str) -> bool:
        return PurePosixPath(name).suffix.lower().removeprefix(".") in self.config.extensions

    @cached_property
    def _listing(self) -> Listing:
        return self.files.listing()
