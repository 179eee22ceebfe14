"""The page itself: facts, curves and gallery of a run put into one HTML file.

page = render_page(read_run(path), gallery=None)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import ValidationError

from pipeline.data.config import DataConfig
from pipeline.eval.report.curves import Curve, draw_curves, draw_shares
from pipeline.eval.report.data_facts import BINS, DataFacts, data_facts
from pipeline.eval.report.evaluation import tables_of
from pipeline.eval.report.gallery import NETWORK, Gallery
from pipeline.eval.report.history import History, history_of
from pipeline.eval.report.privacy import public
from pipeline.eval.report.run_folder import RunFolder
from pipeline.eval.report.settings import settings_of

__all__ = ["MAX_PAGE_BYTES", "GalleryPart", "data_config", "render_page"]

MAX_PAGE_BYTES = 8_000_000
_COUNTERS = {
    "health/empty_steps": "steps without a pair, left out",
    "health/overflowed_steps": "fp16 steps that overflowed, left out",
    "health/clipped_steps": "steps whose gradient was shortened",
    "health/replaced_samples": "unreadable samples that others stood in for",
}


@dataclass(frozen=True)
class GalleryPart:
    """The gallery, or why there is none."""

    gallery: Gallery | None
    network: str = ""
    """Which network it is of, and where it computed."""
    absence: str = ""
    refused: Sequence[str] = ()
    """Checkpoints that were passed over as damaged, and why."""


def data_config(run: RunFolder) -> DataConfig | None:
    """The `data` section of a run's config; None where there is none that this version understands."""
    try:
        return DataConfig.model_validate(run.config.get("data"))
    except ValidationError:
        return None


def render_page(run: RunFolder, part: GalleryPart, *, progress: Callable[[str], None] = lambda what: None) -> str:
    """The page of a run.

    Args:
        run: What its folder holds.
        part: Its pictures.
        progress: Called with what is done next.
    """
    progress("curves")
    history = history_of(run.entries)
    config = data_config(run)
    datasets = data_facts(config, progress) if config else []
    settings = settings_of(run.config)
    notes = [*run.notes, *(f"passed over: {refused}" for refused in part.refused)]
    if run.config and config is None:
        notes.append("config.yaml: its data section is not one of this version; the data is not described")
    if history.ignored_tags:
        notes.append(f"metrics.jsonl: {history.ignored_tags} figures of unknown names are not drawn")
    environment = Environment(
        loader=PackageLoader("pipeline.eval.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": _size, "count": _count, "percent": _percent, "public": public}
    return environment.get_template("page.html").render(
        run=run,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        headline=_headline(run, history),
        curves=draw_curves(history),
        history=history,
        part=part,
        gallery=part.gallery,
        network=NETWORK,
        evaluations={name: tables_of(record) for name, record in run.evaluations.items()},
        datasets=datasets,
        histograms=_histograms(datasets),
        settings=settings,
        changed=[setting for setting in settings if setting.is_changed],
        health=_health(history),
        whdr_at=_whdr_at(history),
        notes=[public(note) for note in notes],
    )


def _headline(run: RunFolder, history: History) -> dict[str, Any]:
    """State, progress, best and latest figure."""
    status = run.status
    last = max((session.last_step for session in history.sessions), default=0)
    step, total = (status.step, status.total_steps) if status else (last, 0)
    return {
        "state": status.state if status else "unknown",
        "reason": public(status.reason) if status else "",
        "step": step,
        "total": total,
        "share": min(1.0, step / total) if total else None,
        "best": history.least("val/whdr"),
        "latest": history.latest("val/whdr"),
        "hours": status.hours if status else None,
        "samples": status.samples_seen if status else None,
        "updated": public(status.updated).replace("T", " ").replace("+00:00", " UTC") if status else "",
        "next_command": public(status.next_command) if status else "",
    }


def _histograms(datasets: Sequence[DataFacts]) -> list[Curve]:
    edges = np.linspace(0, 1, BINS + 1)
    return [
        Curve(
            f"Disparity, {facts.split}: {facts.name}",
            draw_shares(edges, facts.histogram, "stored disparity (1 = full scale, nearer)", f"data{number}"),
        )
        for number, facts in enumerate(datasets)
        if facts.histogram is not None
    ]


def _health(history: History) -> dict[str, int]:
    latest = {what: history.latest(tag) for tag, what in _COUNTERS.items()}
    return {what: int(found[1]) for what, found in latest.items() if found is not None}


def _whdr_at(history: History) -> dict[int, float]:
    series = history.series.get("val/whdr")
    if series is None:
        return {}
    return {int(step): float(value) for step, value in zip(*series, strict=True) if np.isfinite(value)}


def _size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.0f} {unit}" if unit == "B" or size_bytes >= 99.5 else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def _count(number: int) -> str:
    return f"{number:,}"


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"
