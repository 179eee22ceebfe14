"""The folder of an evaluation: `results.json`, `images.csv` and `worst/`.

save_evaluation(Path("runs/web/evaluation"), comparison, record)
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.eval.compare import Comparison
from shards.storage import make_folder, publish_bytes

__all__ = ["CSV_NAME", "RESULTS_NAME", "WORST_NAME", "images_csv", "save_evaluation"]

RESULTS_NAME = "results.json"
CSV_NAME = "images.csv"
WORST_NAME = "worst"
_COLUMNS = ("data", "set", "picture", "method", "metric", "value", "weight", "error")


def save_evaluation(folder: Path, comparison: Comparison, record: Mapping[str, Any]) -> None:
    """Write the record and the figures of each picture; the folder is made if missing.

    Raises:
        ShardError: it cannot be written.
    """
    make_folder(str(folder))
    publish_bytes(str(folder / CSV_NAME), images_csv(comparison).encode())
    publish_bytes(str(folder / RESULTS_NAME), json.dumps(record, allow_nan=False).encode() + b"\n")


def images_csv(comparison: Comparison) -> str:
    """A row for each picture, method and metric; one with an error for each picture that could not be evaluated.

    `value` is the picture's own figure, a share from 0 to 1 where the table has percent, and `weight` what it counts in
    the figure of its set: 1, or the number of its pairs.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_rows(comparison))
    return text.getvalue()


def _rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    for part in comparison.parts:
        scores, values = part.scores, part.scores.values()
        for n, (name, set_name) in enumerate(zip(scores.names, scores.picture_sets, strict=True)):
            for m, method in enumerate(scores.methods):
                for k, metric in enumerate(scores.metrics):
                    weight = scores.tallies[n, m, k, 1]
                    value = f"{values[n, m, k]:.6g}" if weight else ""
                    yield scores.label, set_name, name, method, metric.name, value, f"{weight:g}", ""
        for failure in scores.failed:
            yield scores.label, "", failure.name, "", "", "", "", failure.reason
