"""An evaluated benchmark as text: sets, the methods below each, the published figures, and what a reader must know."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.eval.protocols.base import Metric
from pipeline.eval.table import format_table

if TYPE_CHECKING:
    from pipeline.eval.compare import Difference, Figure, Measured

__all__ = ["benchmark_table"]

_NAMED = 5
_FEW = 10


def benchmark_table(part: "Measured") -> str:
    """The table of one benchmark with its notes."""
    scores = part.scores
    sources: dict[str, int] = {}
    rows: list[list[str]] = []
    for set_name in dict.fromkeys(figure.set_name for figure in part.figures):
        figures = [figure for figure in part.figures if figure.set_name == set_name]
        if set_name == "mean" and len(scores.sets) == 1:
            continue  # it would repeat the one set
        own = [figure for figure in figures if figure.method == scores.methods[0]]
        about = (_cell(figure) if figure.metric.of_the_set else "" for figure in own)
        rows.append([f"{set_name} ({_count(own[0].num_pictures, 'picture')})", *about])
        for method in scores.methods:
            rows.append([f"  {method}", *_cells(figures, method)])
        for published in part.published(set_name):
            mark = sources.setdefault(published.source, len(sources) + 1)
            values = [f"{value:.2f}".removesuffix("0") for value in published.values]
            cells = [*values, *("" for _ in range(len(scores.metrics) - len(values)))]
            rows.append([f"  {published.method}, {published.setting} [{mark}]", *cells])
    headings = [scores.label, *(metric.heading for metric in scores.metrics)]
    table = format_table(headings, rows)
    return "\n".join([table, *_notes(part), *(f"[{mark}] {source}" for source, mark in sources.items())])


def _cells(figures: "list[Figure]", method: str) -> Iterator[str]:
    for figure in figures:
        if figure.method == method:
            yield "" if figure.metric.of_the_set else _cell(figure)


def _notes(part: "Measured") -> Iterator[str]:
    scores = part.scores
    yield f"{', '.join(metric.name for metric in scores.metrics)}"
    higher = [metric.heading.removesuffix(" %") for metric in scores.metrics if not metric.lower_is_better]
    better = "lower is better" + (f"; of {', '.join(higher)} higher" if higher else "")
    if len(higher) == len(scores.metrics):
        better = "higher is better"
    yield f"{better}; [low, high]: 95 % interval over the pictures (bootstrap)"
    several = len(scores.sets) > 1
    shown = {figure.set_name: figure for figure in part.figures if several or figure.set_name != "mean"}
    lone = [name for name, figure in shown.items() if figure.interval is None]
    if lone:
        yield f"no interval, as fewer than two pictures count: {', '.join(lone)}"
        if "mean" in shown and "mean" not in lone:
            yield "the interval of the mean holds these sets fixed, so it is too narrow"
    few = [name for name, figure in shown.items() if figure.interval and figure.num_pictures < _FEW]
    if few:
        yield f"so few pictures that the interval is rather too narrow: {', '.join(few)}"
    yield from (f"{method}: {tuned.note}" for method, tuned in scores.settings.items() if tuned.note)
    yield from scores.notes
    if scores.unjudged:
        yield f"counted in no WHDR, no unequal pair: {_listed(scores.unjudged)}"
    if scores.failed:
        reasons = [failure.reason for failure in scores.failed]
        yield f"NOT EVALUATED, {_count(len(reasons), 'picture')} could not be read: {_listed(reasons)}"
    yield from (_sentence(difference) for difference in part.differences if difference.set_name in shown)


def _sentence(difference: "Difference") -> str:
    one, other, metric = difference.method, difference.other, difference.metric
    text = f"{difference.set_name}: {one} less {other}: {_value(difference.value, metric, sign='+')}"
    if difference.interval is None:
        return f"{text}, {difference.verdict} (no interval)"
    low, high = (_value(limit, metric, sign="+") for limit in difference.interval)
    return f"{text} [{low}, {high}], better in {100 * difference.better:.0f} % of draws: {difference.verdict}"


def _cell(figure: "Figure") -> str:
    if figure.value != figure.value:
        return "-"
    text = _value(figure.value, figure.metric)
    if figure.interval is None:
        return text
    low, high = (_value(limit, figure.metric) for limit in figure.interval)
    return f"{text} [{low}, {high}]"


def _value(value: float, metric: Metric, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if metric.percent else f"{value:{sign}.3f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _listed(names: "list[str] | tuple[str, ...]") -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{'; '.join(names[:_NAMED])}{more}"
