"""Import torch without a look for garbage.

    import_torch("accelerate")

It and what belongs to it make hundreds of thousands of objects that live as long as the process. Python looks through
them again and again meanwhile, then in every full collection, and once more at the exit: a fifth of a dry run
(docs/performance.md).
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

__all__ = ["collecting_later", "import_torch"]


def import_torch(*others: str) -> None:
    """Import torch and other modules; what the process holds then is not looked through for garbage again.

    Nothing happens where torch is there already: the process has work of its own by then, which may become garbage.
    Nor where garbage is not collected at all.
    """
    if "torch" in sys.modules or not gc.isenabled():
        return
    with collecting_later():
        for name in ("torch", *others):
            import_module(name)
        gc.freeze()


@contextmanager
def collecting_later() -> Iterator[None]:
    """Look for no garbage until the block ends."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
