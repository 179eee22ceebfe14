"""Entry points: `python -m launch.NAME`, or `depthrank NAME`. Wiring only; the work is done below."""

import sys
from types import TracebackType

__all__ = ["__version__"]

__version__ = "0.1.0"


_OWN = {"launch", "pipeline", "shards", "model"}


def _last_words(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None, /
) -> None:  # the signature of sys.excepthook
    """Neither Ctrl-C nor a Python without our packages is a defect, so neither leaves a traceback."""
    if issubclass(kind, KeyboardInterrupt):
        return  # Python still ends by the signal
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not name or name in _OWN:
        sys.__excepthook__(kind, error, traceback)
        return
    sys.stderr.write(
        f"error: the package {name!r} is not installed for {sys.executable}; `make setup` makes an environment, whose "
        "commands are .venv/bin/python and .venv/bin/depthrank. `python -m launch.doctor` names all that is missing\n"
    )
    sys.exit(2)


# A command takes seconds to import what it needs, before its errors are looked after. Where this package is only
# imported by a program, that program's hook stays.
if sys.argv[:1] == ["-m"] or sys.argv[0].endswith("depthrank"):
    sys.excepthook = _last_words
