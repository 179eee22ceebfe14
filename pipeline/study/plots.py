"""One picture an experiment: every seed as a dot, the mean with its interval over the pictures, the baseline as a line.

svg = draw_experiment(study, ["mae", "ranking"], titles={"mae": "MAE (L1)", ...})
"""

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.eval.report.curves import STYLE
from pipeline.study.analysis import WEB, ZERO_SHOT, Study, Yardstick
from pipeline.study.claims import BASELINE

__all__ = ["draw_experiment"]

_COLOURS = {WEB: "#2f7fe0", ZERO_SHOT: "#e0791b"}


def draw_experiment(study: Study, arms: Sequence[str], titles: Mapping[str, str], name: str) -> str:
    """The arms that have results as an SVG file, the same bytes for the same results.

    Args:
        study: All results.
        arms: In the order from top to bottom.
        titles: Name of an arm -> what the picture calls it.
        name: Sets the names inside the SVG apart from those of other pictures.
    """
    shown = [arm for arm in arms if study.has(arm)]
    yardsticks = [yardstick for yardstick in (WEB, ZERO_SHOT) if study.sets(yardstick)]
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(8.2, 0.9 + 0.42 * max(len(shown), 1)), layout="constrained", facecolor="white")
        columns = figure.subplots(1, len(yardsticks), sharey=True, squeeze=False)[0]
        for axes, yardstick in zip(columns, yardsticks, strict=True):
            _draw(axes, study, shown, yardstick)
        columns[0].set_yticks(range(len(shown)), [titles[arm] for arm in shown], parse_math=False)
        columns[0].set_ylim(len(shown) - 0.5, -0.5)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", written.getvalue(), flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _draw(axes: Axes, study: Study, arms: Sequence[str], yardstick: Yardstick) -> None:
    colour = _COLOURS[yardstick]
    for row, arm in enumerate(arms):
        figure = study.figure(arm, yardstick)
        if figure is None:
            continue
        if figure.interval is not None:
            axes.plot([100 * limit for limit in figure.interval], [row, row], color=colour, alpha=0.35, linewidth=5)
        axes.plot(
            [100 * value for value in figure.by_seed], [row] * len(figure.by_seed), "o", color=colour, markersize=3.5
        )
        axes.plot([100 * figure.value] * 2, [row - 0.25, row + 0.25], color=colour, linewidth=1.6)
    baseline = study.figure(BASELINE, yardstick)
    if baseline is not None:
        axes.axvline(100 * baseline.value, color="#444444", linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_title(f"{yardstick.title}; dashed: {BASELINE}", fontsize=9, parse_math=False)
    axes.set_xlabel("WHDR in %, lower is better", parse_math=False)
    axes.grid(axis="x", color="#8a8f99", alpha=0.25, linewidth=0.6)
