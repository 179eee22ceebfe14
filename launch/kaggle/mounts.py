"""What is attached to a Kaggle session: datasets of shards, outputs of earlier versions, wheels, recipes, weights.

Two layouts of the read-only input exist side by side in 2026:

    /kaggle/input/SLUG/                              older sessions
    /kaggle/input/datasets/OWNER/SLUG/               newer ones, with notebooks/OWNER/SLUG/ for notebooks' outputs

So nothing here is looked up by such a path: the input is searched for what lies in it, a few levels deep, because to
walk all of a mount with many files takes minutes.

    place = KagglePlace.here(); attached = look(place.input); attached.shards, attached.runs
"""

import os
import re
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

__all__ = ["ROOT_VARIABLE", "Attached", "KagglePlace", "look", "newest_step"]

ROOT_VARIABLE = "DEPTHRANK_KAGGLE_ROOT"
"""Environment variable with the folder that stands for /kaggle, for trying the notebook on another machine."""
MAX_DEPTH = 6
"""Levels below the input: datasets/OWNER/SLUG/ and what a person may have put around a run or a dataset."""
MAX_FOLDERS = 2000
MAX_ENTRIES = 20_000
"""Of one folder: more are pictures."""
INDEX_NAMES = ("train.index", "val.index")
FILE_SUFFIXES = (".whl", ".yaml", ".yml", ".safetensors")
STEP_FOLDER = re.compile(r"step_(\d{8,})")


@dataclass(frozen=True)
class KagglePlace:
    """The folders of a session."""

    root: Path

    @classmethod
    def here(cls) -> "KagglePlace":
        """Of this machine: `/kaggle`, or what $DEPTHRANK_KAGGLE_ROOT names."""
        return cls(Path(os.environ.get(ROOT_VARIABLE) or "/kaggle"))

    @property
    def input(self) -> Path:
        """Attached datasets and outputs, read-only."""
        return self.root / "input"

    @property
    def working(self) -> Path:
        """What Kaggle keeps as the output of a version: 20 GB."""
        return self.root / "working"

    @property
    def scratch(self) -> Path:
        """Gone with the session; it does not count as output."""
        return self.root / "tmp" / "depthrank"


@dataclass
class Attached:
    """What a search has found, each list sorted."""

    shards: list[Path] = field(default_factory=list)
    """Datasets of shards: folders with an index."""
    runs: list[Path] = field(default_factory=list)
    """Run folders with checkpoints."""
    files: list[Path] = field(default_factory=list)
    """Wheels (as files, or as the folders into which a host has unpacked them), recipes and weights."""
    is_cut: bool = False
    """Whether the search ended before it had seen everything down to its depth."""

    def named(self, name: str) -> list[Path]:
        """The files of this name."""
        return [path for path in self.files if path.name == name]

    @property
    def wheels(self) -> list[Path]:
        """Wheels, packed or unpacked."""
        return [path for path in self.files if path.suffix == ".whl" or path.is_dir()]


def look(folder: Path) -> Attached:
    """Search a folder level by level; links are not followed, and what is recognised is not searched further.

    Args:
        folder: The input of a session; nothing is found where there is none.
    """
    found = Attached()
    level, visited = [folder], 0
    for _ in range(MAX_DEPTH + 1):
        below: list[Path] = []
        for path in level:
            if visited >= MAX_FOLDERS:
                found.is_cut = True
                break
            visited += 1
            if any((path / name).is_file() for name in INDEX_NAMES):
                found.shards.append(path)  # not listed: a host may have unpacked all of its samples here
                continue
            if newest_step(path) is not None:
                found.runs.append(path)
                continue
            inner, files = _entries(path)
            if any(name.endswith(".dist-info") for name in inner):
                found.files.append(path)
                continue
            found.files += [path / name for name in files if name.endswith(FILE_SUFFIXES)]
            below += [path / name for name in inner if not name.startswith(".")]
        level = below
    for paths in (found.shards, found.runs, found.files):
        paths.sort()
    return found


def newest_step(run: Path) -> int | None:
    """The highest step among the checkpoints of a run folder, going by their names; None where there is none."""
    try:
        names = [path.name for path in (run / "checkpoints").iterdir()]
    except OSError:
        return None
    return max((int(match[1]) for name in names if (match := STEP_FOLDER.fullmatch(name))), default=None)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as listing:
            for entry in islice(listing, MAX_ENTRIES):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
    except OSError:
        pass  # a mount that cannot be read holds nothing for us
    return sorted(folders), sorted(files)
