"""Entry points: `python -m launch.NAME`, or `depthrank NAME`. Wiring only; the work is done below."""

import sys
from types import TracebackType

__all__ = ["__version__"]

__version__ = "0.1.0"


def _quiet_on_ctrl_c(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None, /
) -> None:  # the signature of sys.excepthook
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)


# A command takes seconds to import what it needs, and whoever presses Ctrl-C then wants no traceback either. Python
# still ends by the signal. Where this package is only imported by a program, that program's hook stays.
if sys.argv[:1] == ["-m"] or sys.argv[0].endswith("depthrank"):
    sys.excepthook = _quiet_on_ctrl_c
