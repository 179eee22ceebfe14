"""Memory that is freed stays with the process.

A training step frees a gigabyte of feature maps and asks for it again. glibc gives such memory back to the system each
time, and the system hands out zeroed pages, one fault for each 4 kB: a tenth of a step on a CPU (docs/performance.md).

    keep_freed_memory()
"""

import ctypes
import platform

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = -1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for its own use; returns whether the C library is one that can be told.

    What it holds stays as large as it once was. Loader processes are not told.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
