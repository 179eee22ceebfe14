"""The files that a prediction is written as: their names and what each holds.

chosen = choose_kinds("png16,npy")      # ("png16", "npy")
KINDS["npy"].suffix                     # ".inverse_depth.npy"
"""

from difflib import get_close_matches
from typing import NamedTuple

from shards.errors import ConfigError

__all__ = ["DEFAULT_KINDS", "KINDS", "FileKind", "choose_kinds"]


class FileKind(NamedTuple):
    """One of the files that a prediction can be written as."""

    suffix: str
    """What follows the stem of the picture in the file's name."""
    what: str
    """What it holds, for help texts."""


KINDS = {
    "png16": FileKind(".inverse_depth.png", "16-bit grey PNG, 0..65535 from the picture's least to its greatest value"),
    "npy": FileKind(".inverse_depth.npy", "float32, the network's own values"),
    "colour": FileKind(".colour.png", "red = near, blue = far"),
    "colour-jpg": FileKind(".colour.jpg", "the same as a JPEG"),
    "side-by-side": FileKind(".side_by_side.jpg", "the picture beside its colours"),
    "ply": FileKind(".relative.ply", "point cloud of relative depth"),
}
"""By the names that `--format` takes."""
DEFAULT_KINDS = ("png16", "colour", "side-by-side")


def choose_kinds(text: str) -> tuple[str, ...]:
    """The kinds of a list with commas between, each once, in the order of `KINDS`.

    Raises:
        ConfigError: one of them is unknown, or there is none.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in KINDS:
            close = get_close_matches(name, KINDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(KINDS)}"
            raise ConfigError(f"--format {text}: there is no '{name}' ({hint})")
    return tuple(kind for kind in KINDS if kind in names)
