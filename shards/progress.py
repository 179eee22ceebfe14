"""How far long work is: a bar with rate and time left on a terminal, elsewhere a plain line every ten seconds.

with Progress("pictures") as progress:
    for done, _ in enumerate(work, 1):
        progress.show(done, total, what="packed", note="3 left out")

Work that is over within five seconds stays silent. It all goes to stderr, as the output may be somebody's input.
"""

import sys
import time
from collections.abc import Callable
from typing import Never

from tqdm import tqdm

__all__ = ["QUIET_SECONDS", "Progress", "time_left"]

QUIET_SECONDS = 5.0
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows one stage of work after the other.

    Args:
        unit: What is counted, in the plural.
        clock: Seconds, for tests.
    """

    def __init__(self, unit: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._unit = unit
        self._clock = clock
        self._bar: tqdm[Never] | None = None
        self._stage: str | None = None
        self._first = 0.0
        self._start = self._last = clock()
        self._has_spoken = False

    def show(self, done: float, total: float | None, *, what: str = "", note: str = "") -> None:
        """So much of the stage `what` is done; another name begins another stage. It is called as often as one likes.

        Args:
            done: Of the stage, counted from its begin; what an earlier start had done counts too.
            total: The same at its end, None where nobody knows.
            what: Name of the stage.
            note: Said at the end of the line.
        """
        now = self._clock()
        if what != self._stage:
            self._begin(what, done, total, now)
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
            if done == total:
                self._bar.close()
            return
        at_the_end = done == total and self._has_spoken
        if at_the_end or now - self._last >= SECONDS_BETWEEN_LINES:
            self._last, self._has_spoken = now, True
            sys.stderr.write(self._line(done, total, now - self._start, note) + "\n")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        tqdm.write(text, file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The work is over, or has failed."""
        if self._bar is not None:
            self._bar.close()

    def _begin(self, what: str, done: float, total: float | None, now: float) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._stage, self._first, self._start, self._last, self._has_spoken = what, done, now, now, False
        if sys.stderr.isatty():
            unit = f" {self._unit}"
            self._bar = tqdm(
                desc=what or None, total=total, initial=done, unit=unit, delay=QUIET_SECONDS, dynamic_ncols=True
            )

    def _line(self, done: float, total: float | None, seconds: float, note: str) -> str:
        rate = (done - self._first) / max(seconds, 1e-9)
        of = "" if total is None else f"/{total:.0f}"
        parts = [f"{self._stage} {done:.0f}{of} {self._unit}".lstrip(), f"{rate:.3g} {self._unit}/s"]
        if total is not None and rate > 0 and done < total:
            parts.append(f"{time_left((total - done) / rate)} left")
        return " | ".join([*parts, *([note] if note else [])])


def time_left(seconds: float) -> str:
    """A duration, as exact as one wants to know it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
