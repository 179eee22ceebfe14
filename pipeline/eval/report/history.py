"""The figures of a run over its steps, its sessions joined into one curve.

history = history_of(read_metrics(path)); steps, values = history.series["train/loss"]
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

__all__ = ["History", "Series", "Session", "history_of"]

_TAG = re.compile(r"[a-z]{1,16}/[\w.@=-]{1,48}", re.ASCII)
_MAX_TAGS = 64


class Series(NamedTuple):
    """One figure."""

    steps: NDArray[np.int64]
    """(N,), rising."""
    values: NDArray[np.float64]
    """(N,), NaN where the figure was not finite."""


@dataclass(frozen=True)
class Session:
    """One session of a run, as far as its figures count: steps that a later one did again are the later one's."""

    number: int
    first_step: int
    """First and last step with a figure."""
    last_step: int
    samples: int | None
    images_per_s: float | None
    """Median over its step lines."""
    data_wait: float | None
    """Mean share of the time spent waiting for data."""
    hours: float | None
    """Of steps, from the rate; evaluation, saving and starting are not in it."""


@dataclass(frozen=True)
class History:
    """All figures of a run."""

    series: dict[str, Series]
    sessions: list[Session]
    ignored_tags: int = 0
    """Figures whose name is none of this program, or beyond the 64th."""

    @property
    def borders(self) -> list[int]:
        """Last step of each session but the last."""
        return [session.last_step for session in self.sessions[:-1]]

    def latest(self, tag: str) -> tuple[int, float] | None:
        """Step and value of the last finite figure."""
        finite = self._finite(tag)
        return None if finite is None else (int(finite.steps[-1]), float(finite.values[-1]))

    def least(self, tag: str) -> tuple[int, float] | None:
        """Step and value of the least figure, the first of equal ones."""
        finite = self._finite(tag)
        if finite is None:
            return None
        place = int(np.argmin(finite.values))
        return int(finite.steps[place]), float(finite.values[place])

    def _finite(self, tag: str) -> Series | None:
        series = self.series.get(tag)
        if series is None or not np.isfinite(series.values).any():
            return None
        known = np.isfinite(series.values)
        return Series(series.steps[known], series.values[known])


def history_of(entries: Iterable[Mapping[str, Any]]) -> History:
    """Join the entries of a metrics log.

    A killed session may leave figures of steps that the next one does again; only the later ones count.
    """
    kept = _without_repeated_steps(list(entries))
    points: dict[str, dict[int, float]] = defaultdict(dict)
    ignored = set()
    for entry in kept:
        for tag, value in entry.items():
            if tag in ("step", "session", "samples_seen") or not (value is None or _is_number(value)):
                continue
            if not _TAG.fullmatch(tag) or (tag not in points and len(points) == _MAX_TAGS):
                ignored.add(tag)
                continue
            points[tag][entry["step"]] = _float(value)
    series = {
        tag: Series(np.array(sorted(of), dtype=np.int64), np.array([of[step] for step in sorted(of)], dtype=np.float64))
        for tag, of in points.items()
    }
    return History(series, _sessions(kept), len(ignored))


def _without_repeated_steps(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    first: dict[int, int] = {}
    for entry in entries:
        first[entry["session"]] = min(entry["step"], first.get(entry["session"], entry["step"]))
    limit: float = math.inf
    limits = {}
    for number in sorted(first, reverse=True):
        limits[number] = limit
        limit = min(limit, first[number])
    kept = [entry for entry in entries if entry["step"] < limits[entry["session"]]]
    return sorted(kept, key=lambda entry: int(entry["step"]))


def _sessions(kept: Sequence[Mapping[str, Any]]) -> list[Session]:
    found, seen_before = [], 0
    for number in sorted({entry["session"] for entry in kept}):
        lines = [entry for entry in kept if entry["session"] == number]
        rates = [_float(line.get("perf/images_per_s")) for line in lines]
        known = [rate for rate in rates if rate > 0]
        waits = [wait for line in lines if math.isfinite(wait := _float(line.get("perf/data_wait")))]
        usual = float(np.median(known)) if known else None
        seen = [(line["samples_seen"], rate) for line, rate in zip(lines, rates, strict=True) if _counts(line)]
        seconds, last = 0.0, seen_before
        for samples, rate in seen:
            if usual:
                seconds += max(0, samples - last) / (rate if rate > 0 else usual)
            last = max(last, samples)
        found.append(
            Session(
                number,
                lines[0]["step"],
                lines[-1]["step"],
                last - seen_before if seen else None,
                usual,
                float(np.mean(waits)) if waits else None,
                seconds / 3600 if usual and seen else None,
            )
        )
        seen_before = last
    return found


def _counts(line: Mapping[str, Any]) -> bool:
    return type(line.get("samples_seen")) is int and 0 <= line["samples_seen"] < 1 << 53


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: object) -> float:
    """A number as float, NaN for what is none, not finite or beyond a float's range."""
    return float(value) if _is_number(value) and abs(value) < 1e300 else math.nan
