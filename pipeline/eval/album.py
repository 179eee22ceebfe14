"""Which pictures are meant by files, folders and patterns, and what the files of each prediction are called.

album = find_pictures(["photo.jpg", "holiday/", "scans/**/*.png"])
album.jobs[0]               # PictureJob(path=Path("photo.jpg"), stem=Path("photo"))
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from pipeline.eval.prediction_files import KINDS
from shards.errors import DataError
from shards.names import printable
from shards.similar import similar_path
from shards.storage import home_path

__all__ = ["PICTURE_SUFFIXES", "Album", "PictureJob", "find_pictures", "refuse_overwriting", "still_to_do"]

PICTURE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".jps", ".mpo", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_NAMES_SHOWN = 3
_OWN_SUFFIXES = tuple(kind.suffix for kind in KINDS.values())


class PictureJob(NamedTuple):
    """A picture to predict."""

    path: Path
    stem: Path
    """Relative path of its output files, without their suffixes."""


class Album(NamedTuple):
    """What was found."""

    jobs: list[PictureJob]
    passed_over: list[Path]
    """Files that are no pictures."""
    num_earlier: int = 0
    """Files of earlier predictions, which are not predicted again."""

    def passed_over_text(self) -> str:
        """What was passed over, in a line; empty where nothing was."""
        others, earlier = len(self.passed_over), self.num_earlier
        names = ", ".join(printable(path.name) for path in self.passed_over[:_NAMES_SHOWN])
        more = ", …" if others > _NAMES_SHOWN else ""
        parts = [f"{others} other file{'s' * (others != 1)} passed over: {names}{more}"] if others else []
        parts += [f"{earlier} file{'s' * (earlier != 1)} of earlier predictions left alone"] if earlier else []
        return "; ".join(parts)


class _Named(NamedTuple):
    """A picture with the names that its output may have, the shorter first; the last is unlike any other's."""

    path: Path
    names: tuple[Path, Path, Path]


def find_pictures(given: Sequence[str | Path]) -> Album:
    """The pictures among files, folders with all below them, and patterns (`**` for any folders), each once.

    The output of a picture has its name without the extension, below the sub-folders in which it lies: those below
    the folder given, or below the part of a pattern before its first wildcard. Where two pictures would share a name,
    both keep their extension; where that does not tell them apart, their folders from where their ways part.

    In folders the extension tells what is a picture; hidden files, and folders that are hidden or links, are left
    alone. A file that is given by its name or matches a pattern may have any extension if it begins like a picture.
    What an earlier prediction has written is not a picture.

    Raises:
        DataError: there is no such file, folder or match, or no picture at all.
    """
    found: dict[Path, tuple[Path, Path]] = {}  # where it is -> how it was given, and its place below what was given
    others: dict[Path, Path] = {}
    earlier: set[Path] = set()
    for text in given:
        for path, relative, is_picture in _files_of(home_path(str(text))):
            place = path.parent.resolve() / path.name
            if path.name.endswith(_OWN_SUFFIXES):
                earlier.add(place)
            elif is_picture:
                found.setdefault(place, (path, relative))
            else:
                others.setdefault(place, path)
    if not found:
        empty = Album([], list(others.values()), len(earlier)).passed_over_text()
        shown = ", ".join(printable(str(text)) for text in given)
        raise DataError(f"{shown}: no picture there ({', '.join(sorted(PICTURE_SUFFIXES))}){empty and f'; {empty}'}")
    return Album(_jobs(found), list(others.values()), len(earlier))


def still_to_do(jobs: Sequence[PictureJob], out: Path, kinds: Sequence[str]) -> list[PictureJob]:
    """The jobs of which a file is missing below `out`, or older than the picture."""
    return [job for job in jobs if not _is_done(job, out, kinds)]


def refuse_overwriting(jobs: Sequence[PictureJob], out: Path, kinds: Sequence[str]) -> None:
    """Make sure that no picture would be replaced by an output.

    Raises:
        DataError: one would.
    """
    places = {job.path.parent.resolve() / job.path.name for job in jobs}
    for job in jobs:
        folder = (out / job.stem).parent.resolve()
        for kind in kinds:
            target = folder / f"{job.stem.name}{KINDS[kind].suffix}"
            if target in places:
                raise DataError(
                    f"{printable(str(target))}: is one of the pictures and would be overwritten by the prediction of "
                    f"{printable(str(job.path))}; give another --out"
                )


def _files_of(path: Path) -> Iterator[tuple[Path, Path, bool]]:
    """Files meant by an argument: path, place below what was given, and whether it is a picture."""
    if path.is_dir():
        yield from _files_below(path, path)
    elif path.exists() or path.is_symlink():  # a dead link is a picture that cannot be read
        yield path, Path(path.name), _is_picture(path)
    elif has_magic(str(path)):
        fixed = Path(*_before_wildcard(path))
        matches = [Path(match) for match in sorted(glob(str(path), recursive=True))]  # noqa: PTH207 - absolute ones too
        if not matches:
            raise DataError(f"{printable(str(path))}: nothing matches this pattern")
        for match in matches:
            if not match.is_dir():
                yield match, match.relative_to(fixed), _is_picture(match)
            elif path.name != "**":  # which matches what is below as well
                yield from _files_below(match, fixed)
    else:
        raise DataError(f"{printable(str(path))}: no such picture or folder{similar_path(path)}")


def _files_below(folder: Path, root: Path) -> Iterator[tuple[Path, Path, bool]]:
    def give_up(error: OSError) -> None:
        raise DataError(f"{printable(str(error.filename))}: cannot be listed ({error.strerror})")

    for here, folders, names in os.walk(folder, onerror=give_up):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                path = Path(here, name)
                yield path, path.relative_to(root), _is_called_a_picture(path)


def _before_wildcard(path: Path) -> Iterator[str]:
    for part in path.parts[:-1]:
        if has_magic(part):
            return
        yield part


def _is_called_a_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES


def _is_picture(path: Path) -> bool:
    if _is_called_a_picture(path):
        return True
    try:
        with Image.open(path):
            return True
    except Exception:  # decoders of strange bytes raise anything
        return False


def _jobs(found: dict[Path, tuple[Path, Path]]) -> list[PictureJob]:
    common = Path(os.path.commonpath([place.parent for place in found]))
    pictures = [
        _Named(path, (relative.with_suffix(""), relative, place.relative_to(common)))
        for place, (path, relative) in found.items()
    ]
    length = [0] * len(pictures)
    while True:
        stems = [picture.names[number] for picture, number in zip(pictures, length, strict=True)]
        counts = Counter(stems)
        doubled = [index for index, stem in enumerate(stems) if counts[stem] > 1 and length[index] < 2]
        if not doubled:
            return [PictureJob(picture.path, stem) for picture, stem in zip(pictures, stems, strict=True)]
        for index in doubled:
            length[index] += 1


def _is_done(job: PictureJob, out: Path, kinds: Sequence[str]) -> bool:
    stem = out / job.stem
    try:
        made = [stem.with_name(stem.name + KINDS[kind].suffix).stat().st_mtime_ns for kind in kinds]
        return min(made) >= job.path.stat().st_mtime_ns
    except OSError:
        return False
