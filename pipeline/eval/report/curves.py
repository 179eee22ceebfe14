"""Curves of a run and bars of its data as SVG that stands in a page: it takes the page's colour and scales with it.

for curve in draw_curves(history_of(read_metrics(path))): page.write(curve.svg)

Titles are the page's business; inside the SVG is no text but numbers, units and the names of figures.
"""

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.eval.report.history import History, Series

__all__ = ["STYLE", "Curve", "draw_curves", "draw_shares"]

MAX_POINTS = 600
"""Points of a curve; of more, the least and the greatest of each stretch are drawn."""
SIZE_INCHES = (4.6, 2.6)
MARGINS = {"left": 0.14, "right": 0.98, "bottom": 0.17, "top": 0.92}
"""Of the axes; a layout that measures its texts takes longer than all the drawing."""
_INK = "#010203"  # becomes the page's own colour
_LINES = ("#2f7fe0", "#e0791b", "#1d9e63", "#b452d9", "#d9447a", "#8a8f99")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
"""How the project's plots look, but for their ink."""
_STYLE = STYLE | dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK)


class Curve(NamedTuple):
    """A figure of the page."""

    title: str
    svg: str


class _Panel(NamedTuple):
    title: str
    unit: str
    tags: tuple[str, ...]
    factor: float = 1.0
    best: bool = False


_PANELS = (
    _Panel("Validation WHDR", "wrong pairs in %", ("val/whdr",), 100, best=True),
    _Panel("Learning rate", "rate (decoder)", ("train/lr",)),
    _Panel("Gradient norm", "l2 norm before clipping", ("health/grad_norm",)),
    _Panel("Speed", "images/s, all processes", ("perf/images_per_s",)),
    _Panel("Wait for data", "% of the time", ("perf/data_wait",), 100),
    _Panel("GPU memory", "GiB, largest so far", ("perf/memory_gib",)),
)
_COUNTS = re.compile(r"health/\w+_(?:steps|samples)")
_NOT_DRAWN = {"val/pairs", "val/best_whdr"}


def draw_curves(history: History) -> list[Curve]:
    """The curves of a run: loss and its terms, validation, rate, health, speed, then whatever else was logged.

    A thin line is the border between two sessions. A counter that never left 0 is not drawn.
    """
    return [Curve(panel.title, _draw(panel, history, number)) for number, panel in enumerate(_panels(history))]


def draw_shares(edges: NDArray[np.float64], shares: NDArray[np.float64], label: str, name: str) -> str:
    """A histogram as SVG.

    Args:
        edges: (N + 1,) borders of the bins.
        shares: (N,) shares of the whole.
        label: Title of the horizontal axis.
        name: Sets the names inside the SVG apart from those of the page's other ones.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _figure()
        axes.stairs(100 * shares, edges, fill=True, color=_LINES[0], alpha=0.75)
        axes.set(xlabel=label, ylabel="% of the known pixels", ylim=(0, None), xlim=(edges[0], edges[-1]))
        return _svg(figure)


def _panels(history: History) -> list[_Panel]:
    drawn = {tag: series for tag, series in history.series.items() if np.isfinite(series.values).any()}
    drawn = {
        tag: series
        for tag, series in drawn.items()
        if tag not in _NOT_DRAWN and not (_COUNTS.fullmatch(tag) and not np.nan_to_num(series.values).any())
    }
    losses = tuple(tag for tag in drawn if tag == "train/loss" or tag.startswith("train/loss_"))
    known = [_Panel("Loss", "mean loss of the steps", losses)] if losses else []
    known += [panel for panel in _PANELS if panel.tags[0] in drawn]
    taken = {tag for panel in known for tag in panel.tags}
    return known + [_Panel(tag, tag.partition("/")[2].replace("_", " "), (tag,)) for tag in drawn if tag not in taken]


def _draw(panel: _Panel, history: History, number: int) -> str:
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"curve{number}"}):
        figure, axes = _figure()
        values = []
        for place, tag in enumerate(panel.tags):
            steps, scaled = _thinned(history.series[tag])
            scaled = scaled * panel.factor
            values.append(scaled[np.isfinite(scaled)])
            few = len(steps) <= 40
            axes.plot(
                steps,
                scaled,
                color=_LINES[place % len(_LINES)],
                linewidth=1.2,
                marker="." if few else None,
                markersize=4,
                label=tag.removeprefix("train/").replace("_", " "),
            )
        if len(panel.tags) > 1:
            axes.legend(frameon=False, fontsize=8)
        for border in history.borders:
            axes.axvline(border, color=_INK, linewidth=0.6, linestyle=(0, (2, 3)), alpha=0.7)
        if panel.best:
            _mark_best(axes, panel, history)
        axes.set(xlabel="optimizer step", xlim=(0, 1.02 * max(1, *(s.last_step for s in history.sessions))))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        _scale(axes, np.concatenate(values), panel)
        return _svg(figure)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES)
    axes = figure.subplots(gridspec_kw=MARGINS)
    axes.grid(color="#8a8f99", alpha=0.25, linewidth=0.6)
    return figure, axes


def _scale(axes: Axes, values: NDArray[np.float64], panel: _Panel) -> None:
    axes.set_ylabel(panel.unit, parse_math=False)
    low, high = values.min(), values.max()
    if "norm" in panel.tags[0] and low > 0 and high > 30 * low:
        axes.set_yscale("log")
    elif low >= 0 and (low < 0.5 * high or panel.tags[0].startswith("perf/")) and not panel.best:
        axes.set_ylim(bottom=0)
    if axes.get_yscale() == "linear" and (high >= 1e5 or 0 < high < 1e-2):
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=False)


def _mark_best(axes: Axes, panel: _Panel, history: History) -> None:
    best = history.least(panel.tags[0])
    if best is None:
        return
    step, value = best[0], best[1] * panel.factor
    axes.plot([step], [value], "o", color=_LINES[2], markersize=6)
    steps = history.series[panel.tags[0]].steps
    right = step > (steps[0] + steps[-1]) / 2
    axes.annotate(
        f"best {value:.2f}",
        (step, value),
        (-6 if right else 6, 8),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=9,
    )


def _thinned(series: Series) -> Series:
    """At most about `MAX_POINTS` points: the least and the greatest of each stretch, so that no peak is lost."""
    steps, values = series
    if len(steps) <= MAX_POINTS:
        return series
    kept: set[int] = {0, len(steps) - 1}
    for stretch in np.array_split(np.arange(len(steps)), MAX_POINTS // 2):
        known = stretch[np.isfinite(values[stretch])]
        kept |= {int(stretch[0])} if not len(known) else {_first(values, known, -1), _first(values, known, 1)}
    places = np.array(sorted(kept))
    return Series(steps[places], values[places])


def _first(values: NDArray[np.float64], places: NDArray[np.int64], sign: int) -> int:
    return int(places[np.argmax(sign * values[places])])


def _svg(figure: Figure) -> str:
    """The figure as an element for HTML: no head, no style sheet, no names that the next one would repeat."""
    written = io.StringIO()
    nothing: Sequence[str] = ("Date", "Creator", "Format", "Type")
    figure.savefig(written, format="svg", transparent=True, metadata=dict.fromkeys(nothing))
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"\s*\n\s*", " ", text)
    return text.replace(_INK, "currentColor").strip()
