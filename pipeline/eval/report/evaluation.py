"""Records of evaluations as tables: those with benchmarks and intervals, and any other JSON of figures.

for table in tables_of(json.loads(text)): print(table.title, table.headings)
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeGuard

from pipeline.eval.report.privacy import public

__all__ = ["Table", "TableRow", "tables_of"]

_MAX_ROWS = 200
_MAX_COLUMNS = 40
_MAX_NOTES = 40
_MAX_TABLES = 40


class TableRow(NamedTuple):
    """A row of a table."""

    name: str
    cells: list[str]
    kind: str = ""
    """`set` for the heading of a group, `published` for the figures of others."""


class Table(NamedTuple):
    """A table of text."""

    title: str
    headings: list[str]
    """Of all columns, the names' included."""
    rows: list[TableRow]
    notes: list[str]


def tables_of(record: Mapping[str, Any]) -> list[Table]:
    """The tables of a record; what is in no known form is shown as it stands.

    Args:
        record: JSON object. `benchmarks` is known (`pipeline.eval.compare`); of other fields, an object of objects
            becomes a table, and the flat ones together become another.
    """
    benchmarks = record.get("benchmarks")
    if isinstance(benchmarks, list) and all(isinstance(part, dict) for part in benchmarks):
        tables = [_benchmark(part) for part in islice(benchmarks, _MAX_TABLES)]
        rest = {name: value for name, value in record.items() if name not in ("benchmarks", "whdr_percent")}
    else:
        tables, rest = [], dict(record)
    return [*tables, *_generic(rest)]


def _benchmark(part: Mapping[str, Any]) -> Table:
    """Sets, below each the methods and then what others have published."""
    figures = [figure for figure in _list(part.get("figures")) if isinstance(figure, dict)]
    metrics = [str(name) for name in _list(part.get("metrics"))][:_MAX_COLUMNS]
    pictures = sizes if isinstance(sizes := part.get("pictures"), dict) else {}
    published = [row for row in _list(part.get("published")) if isinstance(row, dict)]
    sets = list(dict.fromkeys(str(figure.get("set")) for figure in figures))
    if len(sets) == 2 and sets[1] == "mean":
        sets.pop()  # it would repeat the one set
    rows = []
    for name in sets:
        of_set = [figure for figure in figures if str(figure.get("set")) == name]
        number = pictures.get(name)
        size = f" ({_value(number)} {'picture' if number == 1 else 'pictures'})" if _is_number(number) else ""
        rows.append(TableRow(public(name) + size, [""] * len(metrics), "set"))
        for method in dict.fromkeys(str(figure.get("method")) for figure in of_set):
            by_metric = {str(f.get("metric")): f for f in of_set if str(f.get("method")) == method}
            rows.append(TableRow(public(method), [_figure(by_metric.get(metric), metric) for metric in metrics]))
        for other in published:
            if str(other.get("set")) == name:
                values = [_value(value) for value in _list(other.get("values"))][: len(metrics)]
                cells = values + [""] * (len(metrics) - len(values))
                rows.append(TableRow(public(f"{other.get('method')}, {other.get('setting')}"), cells, "published"))
    headings = [public(part.get("kind", "")), *(_heading(metric) for metric in metrics)]
    return Table(public(part.get("data", "figures")), headings, rows[:_MAX_ROWS], _notes(part, published, metrics))


def _notes(part: Mapping[str, Any], published: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[str]:
    notes = [f"{', '.join(map(public, metrics))}; [low, high]: 95 % interval over the pictures"]
    for gap in _list(part.get("differences")):
        if isinstance(gap, dict):
            text = f"{gap.get('set')}: {gap.get('method')} less {gap.get('other')}: "
            notes.append(public(f"{text}{_figure(gap, str(gap.get('metric')))}, {gap.get('verdict')}"))
    notes += [public(note) for note in _list(part.get("notes"))]
    settings = part.get("settings")
    notes += [public(f"{name}: {note}") for name, note in settings.items()] if isinstance(settings, dict) else []
    for name, what in (("unjudged", "without an unequal pair, counted in no WHDR"), ("failed", "could not be read")):
        if number := len(_list(part.get(name))):
            notes.append(f"{number} {'picture' if number == 1 else 'pictures'} {what}")
    notes += [f"published: {public(source)}" for source in dict.fromkeys(str(row.get("source")) for row in published)]
    return notes[:_MAX_NOTES]


def _generic(record: Mapping[str, Any]) -> Iterator[Table]:
    flat: dict[str, Mapping[str, Any]] = {}
    facts = []
    for name, value in islice(record.items(), _MAX_TABLES):
        title = public(name).replace("_", " ")
        if isinstance(value, dict) and value and all(_is_row(row) for row in value.values()):
            yield _table(title, value)
        elif isinstance(value, dict):
            flat[title] = value
        elif isinstance(value, list):
            if value:
                facts.append(f"{title}: {len(value)}, such as {public(value[0])[:200]}")
        else:
            facts.append(f"{title}: {_value(value)}")
    if flat:
        yield _table("", flat)
    if facts:
        yield Table("", [], [], facts)


def _is_row(value: object) -> bool:
    return isinstance(value, dict) and not {"value", "low", "high"} <= set(value)


def _table(title: str, rows: Mapping[str, Any]) -> Table:
    columns = list(dict.fromkeys(name for row in rows.values() if isinstance(row, dict) for name in row))
    columns = columns[:_MAX_COLUMNS]
    made = [
        TableRow(public(name), [_value(row[column]) if column in row else "" for column in columns])
        for name, row in islice(rows.items(), _MAX_ROWS)
    ]
    return Table(title, ["", *map(public, columns)], made, [])


def _figure(figure: Mapping[str, Any] | None, metric: str) -> str:
    """A figure with its interval; shares are shown in percent, as the tables of `launch.evaluate` do."""
    if figure is None or not _is_number(figure.get("value")):
        return "–"
    factor = 100 if _is_share(metric) else 1

    def text(value: float) -> str:
        return f"{factor * value:.1f}" if factor == 100 else f"{value:.3f}"

    low, high = figure.get("low"), figure.get("high")
    limits = f" [{text(low)}, {text(high)}]" if _is_number(low) and _is_number(high) else ""
    return text(figure["value"]) + limits


def _is_share(metric: str) -> bool:
    return not metric.startswith("abs_rel")


def _heading(metric: str) -> str:
    short = public(metric).partition("@")[0].replace("_", " ")
    return f"{short} %" if _is_share(metric) else short


def _value(value: object) -> str:
    """A value of unknown meaning; an object with `value`, `low`, `high` is a figure with its interval."""
    if isinstance(value, dict):
        if {"value", "low", "high"} <= set(value):
            return f"{_value(value['value'])} [{_value(value['low'])}, {_value(value['high'])}]"
        return ", ".join(f"{public(name)} {_value(item)}" for name, item in islice(value.items(), _MAX_COLUMNS))
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value[:_MAX_COLUMNS])
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        return f"{value:.2f}" if 1 <= abs(value) < 1e4 else f"{value:.4g}"
    return "–" if value is None else public(value)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
