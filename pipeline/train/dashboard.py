"""What TensorBoard shows of a run besides curves: charts put together, settings as columns, settings as text.

log.layout(LAYOUT, step); log.text("config", as_text(settings), step)
log.settings_table(columns(settings), FIRST_COLUMNS, FINAL_METRICS, step)
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.eval.report.privacy import public
from pipeline.train.contradictions import decisive_settings

__all__ = ["FINAL_METRICS", "FIRST_COLUMNS", "LAYOUT", "as_text", "columns"]

LAYOUT = {
    "progress": {
        "loss and its terms": ["train/loss"],
        "WHDR, lower is better": ["val/whdr", "val/best_whdr"],
        "learning rate": ["train/lr"],
    },
    "health": {
        "gradient norm": ["health/grad_norm"],
        "size of an update": ["health/update_norm"],
        "steps that did not count": ["health/empty_steps", "health/overflowed_steps", "health/replaced_samples"],
    },
    "speed": {
        "images a second": ["perf/images_per_s"],
        "share of the time spent waiting for data": ["perf/data_wait"],
    },
}
"""Category -> chart -> its curves, by regular expressions of their tags."""

FINAL_METRICS = {
    "val/whdr": "WHDR",
    "val/best_whdr": "best WHDR",
    "train/loss": "loss",
    "perf/images_per_s": "images/s",
}
"""Tag -> name of the figures that stand beside the settings: the last points of these curves."""


FIRST_COLUMNS = ("loss.name", "model.encoder", "optim.lr", "train.batch_size", "train.size")
"""Settings that the table shows at once; of the others each has a box to tick."""


def columns(settings: Mapping[str, Any]) -> dict[str, float | str | bool]:
    """Name -> value of the settings that decide what a run computes, in a form that TensorBoard can sort.

    Where a run lies and how it is saved and watched may change from session to session and is left out.
    """
    return {name: _cell(value) for name, value in decisive_settings(settings).items()}


def as_text(facts: Mapping[str, Any]) -> str:
    """Facts as YAML in a code block of Markdown; of absolute paths the last part, of URLs no user and no query."""
    lines = yaml.safe_dump(_public(facts), sort_keys=False, allow_unicode=True).splitlines()
    return "".join(f"    {line}\n" for line in lines)


def _cell(value: object) -> float | str | bool:
    if isinstance(value, bool | int | float | str):
        return public(value) if isinstance(value, str) else value
    return "none" if value is None else json.dumps(value)


def _public(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _public(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_public(inner) for inner in value]
    return public(value) if isinstance(value, str) else value
