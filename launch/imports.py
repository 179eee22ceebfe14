"""Import torch without a look for garbage.

    import_torch(trains=True)

It and what belongs to it make a million objects that live as long as the process. Python looks through them again and
again meanwhile, then in every full collection, and once more at the exit: a fifth of a dry run (docs/performance.md).
"""

import gc
import sys
from importlib import import_module

__all__ = ["import_torch"]


def import_torch(*, trains: bool = False) -> None:
    """Import torch; what the process holds then is not looked through for garbage again.

    Nothing happens where torch is there already: the process has work of its own by then, which may become garbage.

    Args:
        trains: Import Accelerate and torch's compiler too. The latter comes with the first optimizer anyway.
    """
    if "torch" in sys.modules or not gc.isenabled():
        return
    gc.disable()
    try:
        import_module("torch")
        if trains:
            import_module("accelerate")
        gc.freeze()
        if trains:
            import_module("torch._dynamo")  # not frozen, or Triton's bindings report leaks at the exit
    finally:
        gc.enable()
