"""What a check has found, and how that is told.

found = Finding.wrong("torch", "cannot be imported", mend="pip install torch torchvision")
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

__all__ = ["Finding", "State", "describe", "guarded"]

State = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    """One thing that was looked at."""

    state: State
    """`wrong`: something here will fail; `note`: worth knowing; `ok`."""
    what: str
    text: str
    mend: str = ""
    """What to do about it."""

    @staticmethod
    def ok(what: str, text: str) -> "Finding":
        """All is well."""
        return Finding("ok", what, text)

    @staticmethod
    def note(what: str, text: str, mend: str = "") -> "Finding":
        """It works, and somebody may want to know."""
        return Finding("note", what, text, mend)

    @staticmethod
    def wrong(what: str, text: str, mend: str) -> "Finding":
        """Something will fail."""
        return Finding("wrong", what, text, mend)


def guarded(what: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check; a check that fails is itself a finding, so one oddity never hides the rest."""
    try:
        yield from check()
    except Exception as error:  # whatever a strange machine makes of it
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        yield Finding.note(what, f"could not be looked at: {reason}")


def describe(findings: Iterable[Finding]) -> str:
    """The findings as a table, a line each and one more for what to do."""
    width = max((len(finding.what) for finding in findings), default=0)
    lines = []
    for finding in findings:
        state = "WRONG" if finding.state == "wrong" else finding.state
        lines.append(f"{state:<5}  {finding.what:<{width}}  {finding.text}")
        if finding.mend:
            lines.append(f"{'':<5}  {'':<{width}}  -> {finding.mend}")
    return "\n".join(lines)
