"""Several predictors on several benchmarks: figures, intervals, differences; the table and the record of an evaluation.

data = [open_data("gt=/data/gt"), open_data("shards=runs/web-shards")]
comparison = compare({"ours": predictor, **BASELINES}, data)
print(comparison.table()); json.dumps(comparison.record())
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.baselines import BASELINES
from pipeline.eval.bootstrap import Interval, interval, resample
from pipeline.eval.comparison_table import benchmark_table
from pipeline.eval.protocols.base import Benchmark, Metric
from pipeline.eval.protocols.dense import TruthData
from pipeline.eval.published import Published, published_for
from pipeline.eval.scores import Scores, measure
from pipeline.eval.whdr import Predict
from shards.errors import DataError
from shards.randomness import CounterRng

__all__ = ["RESAMPLES", "Comparison", "Difference", "Figure", "Measured", "TruthData", "compare", "summarise"]

RESAMPLES = 2000
REFERENCE = "lower is nearer"
"""The baseline that every network is compared with."""


class Figure(NamedTuple):
    """One method on one set by one metric."""

    method: str
    set_name: str
    metric: Metric
    value: float
    """In the unit of the metric, shares from 0 to 1; NaN where no picture counts."""
    interval: Interval | None
    """95 % over the pictures; None where fewer than two count."""
    num_pictures: int


class Difference(NamedTuple):
    """One method less another on the same pictures, by the first metric of a benchmark."""

    method: str
    other: str
    set_name: str
    metric: Metric
    value: float
    interval: Interval | None
    better: float
    """Share of the resamples in which the first is better, equal ones half; NaN without an interval."""

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `no difference shown` where the interval holds 0 or does not exist."""
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return "no difference shown"
        return "better" if (self.value < 0) == self.metric.lower_is_better else "worse"


@dataclass(frozen=True)
class Measured:
    """One benchmark with all that follows from its scores."""

    scores: Scores
    figures: tuple[Figure, ...]
    differences: tuple[Difference, ...]

    def published(self, set_name: str) -> tuple[Published, ...]:
        """What others report for a set."""
        number = next((figure.num_pictures for figure in self.figures if figure.set_name == set_name), 0)
        return published_for(self.scores.kind, set_name, number, self.scores.metrics[0].name)


@dataclass(frozen=True)
class Comparison:
    """An evaluation."""

    parts: tuple[Measured, ...]

    @property
    def whdr_percent(self) -> dict[str, dict[str, float]]:
        """Method -> set -> WHDR in percent, `mean` over the sets of a benchmark with dense truth among them."""
        table: dict[str, dict[str, float]] = {}
        for part in self.parts:
            for figure in part.figures:
                if figure.metric == part.scores.metrics[0] and figure.metric.name.startswith("whdr"):
                    table.setdefault(figure.method, {})[figure.set_name] = 100 * figure.value
        return table

    def table(self) -> str:
        """The figures as text, a table for each benchmark, and below it what a reader must know."""
        return "\n\n".join(benchmark_table(part) for part in self.parts)

    def record(self) -> dict[str, Any]:
        """The same as a JSON object; a figure that does not exist is null. Shares are from 0 to 1."""
        percent = {method: _rounded(row) for method, row in self.whdr_percent.items()}
        return {"whdr_percent": percent, "benchmarks": [_record(part) for part in self.parts]}


def compare(
    methods: Mapping[str, Predict],
    data: Sequence[Benchmark],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> Comparison:
    """Evaluate each predictor on each benchmark; all see the same pictures and the same pairs.

    Args:
        methods: name in the table -> predictor.
        data: what `open_data` opens, or pictures made by the caller; sets have names of their own.
        resamples: draws of pictures for the intervals.
        seed: of these draws.
        report: called with a line before each benchmark; progress is shown on stderr where it is given.

    Raises:
        DataError: nothing of a benchmark can be read, or two of `data` hold a set of the same name.
    """
    parts: list[Measured] = []
    origin: dict[str, int] = {}
    for number, benchmark in enumerate(data):
        if report:
            report(f"{benchmark.label}, {len(methods)} methods ...")
        scores = measure(methods, benchmark, progress=report is not None)
        for set_name in scores.sets:
            first = origin.setdefault(set_name, number)
            if first != number:
                raise DataError(
                    f"{data[first].label} and {scores.label} both hold a set {set_name}; evaluate them apart"
                )
        parts.append(summarise(scores, resamples=resamples, seed=seed))
    return Comparison(tuple(parts))


def summarise(scores: Scores, *, resamples: int = RESAMPLES, seed: int = 0) -> Measured:
    """Figures with intervals, and differences, from the scores of a benchmark.

    The mean over sets draws the pictures of each set anew; a set in which one picture counts stays as it is.
    """
    shape = (len(scores.methods), len(scores.metrics))
    values: dict[str, NDArray[np.float64]] = {}
    drawn: dict[str, NDArray[np.float64] | None] = {}
    numbers: dict[str, int] = {}

    def add(name: str, members: NDArray[np.int64]) -> None:
        values[name], numbers[name] = scores.figures(members), scores.num_judged(members)
        rng = CounterRng("bootstrap", seed, scores.kind, name)
        few = numbers[name] < 2
        drawn[name] = None if few else resample(*scores.columns(members), resamples, rng).reshape(resamples, *shape)

    for set_name in scores.sets:
        add(set_name, scores.members(set_name))
    if scores.over_sets == "overall":
        add("overall", np.arange(len(scores.names)))
    elif scores.over_sets == "mean":
        judged = [name for name in scores.sets if numbers[name]]
        numbers["mean"] = sum(numbers[name] for name in judged)
        values["mean"] = np.mean([values[name] for name in judged], axis=0) if judged else np.full(shape, np.nan)
        parts = [drawn[name] for name in judged]
        moved = any(part is not None for part in parts)
        fixed = [values[name][None] if part is None else part for name, part in zip(judged, parts, strict=True)]
        drawn["mean"] = np.mean(np.broadcast_arrays(*fixed), axis=0) if moved else None
    return Measured(scores, _figures(scores, values, drawn, numbers), _differences(scores, values, drawn))


def _figures(
    scores: Scores,
    values: Mapping[str, NDArray[np.float64]],
    drawn: Mapping[str, NDArray[np.float64] | None],
    numbers: Mapping[str, int],
) -> tuple[Figure, ...]:
    found = []
    for name, table in values.items():
        resampled = drawn[name]
        for m, method in enumerate(scores.methods):
            for k, metric in enumerate(scores.metrics):
                limits = None if resampled is None else interval(resampled[:, m, k])
                found.append(Figure(method, name, metric, float(table[m, k]), limits, numbers[name]))
    return tuple(found)


def _differences(
    scores: Scores, values: Mapping[str, NDArray[np.float64]], drawn: Mapping[str, NDArray[np.float64] | None]
) -> tuple[Difference, ...]:
    """Each network less the networks after it, and less the reference baseline."""
    metric = scores.metrics[0]
    place = {method: number for number, method in enumerate(scores.methods)}
    networks = [method for method in scores.methods if method not in BASELINES]
    pairs = [(one, other) for number, one in enumerate(networks) for other in networks[number + 1 :]]
    pairs += [(one, REFERENCE) for one in networks if REFERENCE in place]
    found = []
    for name, table in values.items():
        for one, other in pairs:
            a, b, resampled = place[one], place[other], drawn[name]
            limits, better = None, math.nan
            if resampled is not None:
                gain = (resampled[:, b, 0] - resampled[:, a, 0]) * (1 if metric.lower_is_better else -1)
                limits = interval(resampled[:, a, 0] - resampled[:, b, 0])
                better = float(np.mean(gain > 0) + np.mean(gain == 0) / 2)
            found.append(Difference(one, other, name, metric, float(table[a, 0] - table[b, 0]), limits, better))
    return tuple(found)


def _record(part: Measured) -> dict[str, Any]:
    scores = part.scores
    sets = {figure.set_name: figure.num_pictures for figure in part.figures}
    return {
        "data": scores.label,
        "kind": scores.kind,
        "metrics": [metric.name for metric in scores.metrics],
        "pictures": sets,
        "figures": [
            {"method": f.method, "set": f.set_name, "metric": f.metric.name, "value": _number(f.value)}
            | _limits(f.interval)
            for f in part.figures
        ],
        "differences": [
            {"method": d.method, "other": d.other, "set": d.set_name, "metric": d.metric.name}
            | {"value": _number(d.value), **_limits(d.interval), "better": _number(d.better), "verdict": d.verdict}
            for d in part.differences
        ],
        "published": [
            {"set": name, "method": p.method, "values": list(p.values), "setting": p.setting, "source": p.source}
            for name in sets
            for p in part.published(name)
        ],
        "settings": {method: tuned.note for method, tuned in scores.settings.items() if tuned.note},
        "notes": list(scores.notes),
        "unjudged": list(scores.unjudged),
        "failed": [failure._asdict() for failure in scores.failed],
    }


def _limits(limits: Interval | None) -> dict[str, float | None]:
    low, high = limits or (math.nan, math.nan)
    return {"low": _number(low), "high": _number(high)}


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _rounded(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 4) for name, value in figures.items()}
