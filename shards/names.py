"""What things are called: file names as they may be shown, and the keys of samples.

key = sample_key("beach/IMG_01_L.JPG")      # beach-img-01-l-5f0c9d0c4b1e
"""

import hashlib
import re
from pathlib import PurePath

__all__ = ["MAX_KEY_LENGTH", "is_sample_key", "printable", "sample_key"]

MAX_KEY_LENGTH = 80
"""Of a sample's key: with the longest extension it stays inside the 100 bytes of a ustar name."""
_KEY = re.compile(rf"[a-z0-9_-]{{1,{MAX_KEY_LENGTH}}}")


def printable(name: str) -> str:
    """A file name as it may be shown and stored: bytes that are no UTF-8 and control characters are escaped."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def sample_key(name: str) -> str:
    """Key of a sample in the tars: readable, unique and of plain characters whatever the file is called."""
    slug = re.sub(r"[^a-z0-9]+", "-", str(PurePath(name).with_suffix("")).lower()).strip("-")[:48].strip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{slug}-{digest}" if slug else digest


def is_sample_key(text: str) -> bool:
    """Whether this may be the key of a sample: 1 to `MAX_KEY_LENGTH` of a-z 0-9 _ -."""
    return _KEY.fullmatch(text) is not None
