"""OpenCV on a single thread while pictures are prepared, in however many threads of the program that happens.

The processes share the cores already, and a flow must not depend on their number. OpenCV's setting belongs to the whole
process, so it is restored when the last of them is done.

    with one_opencv_thread(): ...
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

__all__ = ["one_opencv_thread"]

_LOCK = threading.Lock()
_INSIDE: list[int] = []  # for each that is inside, the number of threads that was set before the first of them


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Let OpenCV use no threads of its own until the block, and any that runs beside it, has ended."""
    with _LOCK:
        _INSIDE.append(_INSIDE[0] if _INSIDE else cv2.getNumThreads())
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        with _LOCK:
            before = _INSIDE.pop()
            if not _INSIDE:
                cv2.setNumThreads(before)
