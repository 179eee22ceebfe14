"""The folder of an export, in the layout of the Hugging Face Hub: written aside, then moved in, `config.json` last.

    require_export_folder(out)                       # nothing else may be replaced
    with ExportFolder(out) as part:
        net.save_pretrained(part)

`config.json` makes a folder a network, so an export that was interrupted has none.
"""

import contextlib
import re
import shutil
from pathlib import Path
from types import TracebackType

from shards.errors import RunError
from shards.storage import fsync_folder

__all__ = [
    "CARD_NAME",
    "EXPORT_NAMES",
    "ONNX_NAME",
    "ExportFolder",
    "is_our_card",
    "require_export_folder",
    "stated_license",
]

CARD_NAME = "README.md"
ONNX_NAME = "model.onnx"
_MARK = "library_name: depthrank"
EXPORT_NAMES = (CARD_NAME, "model.safetensors", ONNX_NAME, "config.json")
"""In this order they are moved in: a card of ours tells an interrupted export from a folder of somebody else's."""
_PART_NAME = ".export.part"
_HEAD_BYTES = 4096
_LICENSE = re.compile(r"^license:[ \t]*[\"']?([a-z0-9][a-z0-9.+-]*)[\"']?[ \t]*$", re.MULTILINE)


def require_export_folder(out: Path) -> bool:
    """Make sure that an export into `out` replaces nothing but an earlier one; hidden files (a clone's `.git`) stay.

    Returns:
        Whether there is an earlier one.

    Raises:
        RunError: It holds something else.
    """
    advice = "choose another folder with --out"
    if not out.exists():
        return False
    if not out.is_dir():
        raise RunError(f"{out}: is a file; {advice}")
    found = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    foreign = [name for name in found if name not in EXPORT_NAMES or not (out / name).is_file()]
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise RunError(f"{out}: holds other things than an earlier export ({foreign[0]}{more}); {advice}")
    if found and not is_our_card(out / CARD_NAME):
        raise RunError(f"{out}: holds {found[0]}, which no earlier export has written; {advice}")
    return bool(found)


class ExportFolder:
    """Gives a hidden folder to write into; what is there at the end takes the place of the earlier export.

    Raises:
        RunError: On leaving or entering, the folder cannot be written; no half-done export looks like a whole one.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._part = out / _PART_NAME
        self._is_new = not out.exists()

    def __enter__(self) -> Path:
        try:
            shutil.rmtree(self._part, ignore_errors=True)
            self._part.mkdir(parents=True)
        except OSError as error:
            raise RunError(f"{self._out}: cannot be written ({error.strerror})") from error
        return self._part

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._move_in()
            elif isinstance(error, OSError):
                raise RunError(f"{self._out}: cannot be written ({error.strerror or error})") from error
        except OSError as fault:
            raise RunError(f"{self._out}: cannot be written ({fault.strerror})") from fault
        finally:
            shutil.rmtree(self._part, ignore_errors=True)
            if error is not None and self._is_new:
                with contextlib.suppress(OSError):
                    self._out.rmdir()

    def _move_in(self) -> None:
        (self._out / EXPORT_NAMES[-1]).unlink(missing_ok=True)
        for name in EXPORT_NAMES:
            if (self._part / name).is_file():
                (self._part / name).replace(self._out / name)
            else:
                (self._out / name).unlink(missing_ok=True)  # of the earlier export, and of other weights
        fsync_folder(self._out)


def is_our_card(path: Path) -> bool:
    """Whether a file is a model card that an export has written."""
    return _MARK in _head(path).splitlines()


def stated_license(path: Path) -> str | None:
    """The licence in the header of a model card, by the Hub's name; None where it states none."""
    found = _LICENSE.search(_head(path).partition("\n---\n")[0])
    return found[1] if found else None


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES).decode(errors="replace").replace("\r\n", "\n")
    except OSError:
        return ""
