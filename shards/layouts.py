"""How two views lie in one picture: side by side or top-bottom, of full size or squeezed.

Usage:

    layout = named_layout("beach_half-sbs.jpg")                       # "side_by_side"
    first, second = split_views(rgb, layout)                          # the left or upper half is the first
    if is_squeezed("beach_half-sbs.jpg", rgb.shape, layout): first = stretch_view(first, layout)
"""

import re
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Layout", "is_squeezed", "named_layout", "shaped_layout", "split_views", "stretch_view"]

Layout = Literal["side_by_side", "top_bottom"]

_SIDE_BY_SIDE = ("left-right", "right-left", "side-by-side", "sbs", "fsbs", "crossview", "cross-view", "crosseyed",
                 "cross-eyed", "crosseye", "parallel-view", "parallelview")  # fmt: skip
_TOP_BOTTOM = ("top-bottom", "topbottom", "over-under", "overunder", "above-below", "tb", "tab", "ou", "ftab", "fou")
_SQUEEZED = {
    "side_by_side": ("hsbs", "sbsh", "half-sbs", "sbs-half", "half-side-by-side", "half-width"),
    "top_bottom": ("htab", "htb", "hou", "half-ou", "half-tab", "half-tb", "half-over-under", "half-top-bottom"),
}
_STEREO_SUFFIXES = (".jps", ".pns")  # by definition side by side
_VIDEO_ASPECT = 16 / 9


def named_layout(name: str) -> Layout | None:
    """The layout that a file name tells; None where it tells none.

    Args:
        name: Relative to the collection. A word such as `sbs` or `top-bottom` counts between signs, as in `a_sbs.jpg`.
    """
    words = _words(name)
    if PurePosixPath(name).suffix.lower() in _STEREO_SUFFIXES or _has(words, _SIDE_BY_SIDE + _SQUEEZED["side_by_side"]):
        return "side_by_side"
    return "top_bottom" if _has(words, _TOP_BOTTOM + _SQUEEZED["top_bottom"]) else None


def shaped_layout(shape: tuple[int, ...]) -> Layout | None:
    """The layout that a shape (H, W, ...) suggests: what is very wide may be two views, or what is high."""
    aspect = shape[1] / shape[0]
    if aspect >= 1.9:
        return "side_by_side"
    return "top_bottom" if aspect <= 1.2 else None


def split_views(rgb: NDArray[np.uint8], layout: Layout) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both halves of uint8 (H, W, 3), the left or upper one first; an odd row or column in the middle is left out."""
    height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
    if layout == "side_by_side":
        return rgb[:, :width], rgb[:, rgb.shape[1] - width :]
    return rgb[:height], rgb[rgb.shape[0] - height :]


def is_squeezed(name: str, shape: tuple[int, ...], layout: Layout) -> bool:
    """Whether the views were squeezed to fit, as 3D television has it; where in doubt they were not.

    The name may say so, or the shape of both views together (H, W, ...): a 16:9 frame would leave 8:9 to each of two
    views beside each other, which no camera takes; one above the other, views wider than 2.6:1 are as rare.
    """
    aspect = shape[1] / shape[0]
    if _has(_words(name), _SQUEEZED[layout]):
        return True
    return aspect >= 1.3 if layout == "top_bottom" else abs(aspect / _VIDEO_ASPECT - 1) < 0.01


def stretch_view(view: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint8]:
    """Undo the squeeze of uint8 (H, W, 3): twice the width, or one above the other twice the height."""
    height, width = view.shape[:2]
    size = (2 * width, height) if layout == "side_by_side" else (width, 2 * height)
    return np.array(Image.fromarray(view).resize(size, Image.Resampling.BICUBIC))


def _words(name: str) -> str:
    """`IMG_01 Half-SBS.jpg` -> `-img-01-half-sbs-`."""
    return f"-{'-'.join(re.findall(r'[a-z0-9]+', PurePosixPath(name).stem.lower()))}-"


def _has(words: str, hints: tuple[str, ...]) -> bool:
    return any(f"-{hint}-" in words for hint in hints)
