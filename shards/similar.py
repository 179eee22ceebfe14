"""The file or folder that somebody most likely meant whose path does not exist.

raise RunError(f"{path}: no such run folder{similar_path(path)}")
"""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

__all__ = ["similar_path"]

_MOST_NAMES = 10_000
"""In a larger folder looking would take longer than reading the message."""


def similar_path(path: str | Path, suits: Callable[[Path], bool] = lambda path: True) -> str:
    """` (did you mean 'runs/web'?)`, or nothing where no name is close or the path exists.

    Args:
        path: what does not exist.
        suits: which of the paths that exist may be proposed.
    """
    if "://" in str(path):
        return ""  # no folder of this machine
    try:
        return _hint(Path(path).expanduser(), suits)
    except (OSError, ValueError):
        return ""


def _hint(path: Path, suits: Callable[[Path], bool]) -> str:
    if path.exists():
        return ""
    rest = Path()
    while path.parent != path and not path.parent.is_dir():
        path, rest = path.parent, Path(path.name) / rest
    names = []
    for number, entry in enumerate(path.parent.iterdir()):
        if number == _MOST_NAMES:
            return ""
        if not entry.name.startswith("."):
            names.append(entry.name)
    for name in get_close_matches(path.name, names, n=3):
        meant = path.parent / name / rest if (path.parent / name / rest).exists() else path.parent / name
        if meant.name.isprintable() and suits(meant):
            return f" (did you mean '{meant}'?)"
    return ""
