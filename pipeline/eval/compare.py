"""Several predictors on several sets of pictures: the table and the record of an evaluation.

data = [open_data("gt=/data/gt"), open_data("shards=runs/web-shards"), open_data("synthetic=100")]
comparison = compare({"ours": predictor, **BASELINES}, data)
print(comparison.table()); json.dumps(comparison.record())
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.data.store import ShardStore
from pipeline.eval.table import format_percent, format_table
from pipeline.eval.truth import TruthFolder, TruthPicture, synthetic_truth
from pipeline.eval.whdr import Predict, evaluate_samples, evaluate_truth
from shards.errors import ConfigError, DataError
from shards.format import Sample
from shards.sources.config import SyntheticSourceConfig
from shards.storage import home_path, shown

__all__ = ["STORED_PAIRS_METRIC", "Comparison", "Figure", "StoredPairs", "TruthData", "compare", "open_data"]

STORED_PAIRS_METRIC = "whdr_stored_pairs"
"""WHDR on the ordinal pairs that the samples of a set of shards hold; every unequal pair counts alike."""
MAX_SYNTHETIC_SCENES = 5000  # they are kept in memory, some 0.2 MB each


class TruthData(NamedTuple):
    """Pictures with truth, of one or more sets; each predictor iterates over them anew."""

    label: str
    pictures: Iterable[TruthPicture]


class StoredPairs:
    """The validation samples of a set of shards; each predictor iterates over them anew.

    Args:
        url: folder or fsspec URL of the dataset.

    Raises:
        ShardError: it is missing or damaged, or has no split `val`.
    """

    def __init__(self, url: str) -> None:
        self.label = f"shards={shown(url)}"
        self.set_name = shown(url).rstrip("/").rpartition("/")[2] or "shards"
        self._store = ShardStore(url, "val")

    def __len__(self) -> int:
        return len(self._store)

    def __iter__(self) -> Iterator[Sample]:
        return (self._store.read(sample) for sample in range(len(self._store)))


@dataclass(frozen=True)
class Figure:
    """WHDR of one method on one set."""

    method: str
    set_name: str
    metric: str
    whdr_percent: float
    """NaN where no pair could be judged."""
    num_pictures: int
    equal_percent: float | None
    """Dense WHDR: share of the drawn pairs that are equal, hence not judged."""


@dataclass(frozen=True)
class Comparison:
    """All figures of an evaluation."""

    figures: tuple[Figure, ...]
    unjudged: tuple[str, ...]
    """Pictures without a single unequal pair; they count in no mean."""

    @property
    def whdr_percent(self) -> dict[str, dict[str, float]]:
        """Method -> set -> percent, and `mean` over the sets with measured truth where there is one."""
        table: dict[str, dict[str, float]] = {}
        for figure in self.figures:
            table.setdefault(figure.method, {})[figure.set_name] = figure.whdr_percent
        for method, row in table.items():
            dense = [row[name] for name, first in self._sets.items() if first.metric != STORED_PAIRS_METRIC]
            judged = [percent for percent in dense if not math.isnan(percent)]
            if dense:
                table[method] = {**row, "mean": sum(judged) / len(judged) if judged else math.nan}
        return table

    def table(self) -> str:
        """The figures as text, a row for each method, and below it what was measured."""
        percent = self.whdr_percent
        columns = list(next(iter(percent.values())))
        rows = [[method, *(format_percent(row[name]) for name in columns)] for method, row in percent.items()]
        sizes = {name: str(first.num_pictures) for name, first in self._sets.items()}
        rows.append(["(pictures)", *(sizes.get(name, "") for name in columns)])
        metrics = list(dict.fromkeys(figure.metric for figure in self.figures))
        notes = [f"{' and '.join(metrics)}; lower is better, chance is 50"]
        if "mean" in columns and STORED_PAIRS_METRIC in metrics:
            notes.append("mean: over the sets with measured truth, each counting once")
        if self.unjudged:
            notes.append(f"left out, no unequal pair: {len(self.unjudged)} pictures, such as {self.unjudged[0]}")
        return "\n".join([format_table(["WHDR %", *columns], rows), *notes])

    def record(self) -> dict[str, Any]:
        """The same as a JSON object; a figure that does not exist is null."""
        sets = self._sets
        equal = {name: first.equal_percent for name, first in sets.items() if first.equal_percent is not None}
        return {
            "whdr_percent": {method: _rounded(row) for method, row in self.whdr_percent.items()},
            "metric": {name: first.metric for name, first in sets.items()},
            "equal_percent": _rounded(equal),
            "pictures": {name: first.num_pictures for name, first in sets.items()},
            "unjudged": list(self.unjudged),
        }

    @property
    def _sets(self) -> dict[str, Figure]:
        """Each set with its figure for the first method; what it says of the set holds for all."""
        first = self.figures[0].method if self.figures else None
        return {figure.set_name: figure for figure in self.figures if figure.method == first}


def open_data(spec: str, *, seed: int = 0) -> TruthData | StoredPairs:
    """Open what `KIND=WHERE` names.

    Args:
        spec: `gt=FOLDER` (see `truth`), `shards=URL` (split `val` of a dataset) or `synthetic=COUNT` (test scenes).
        seed: of the synthetic scenes.

    Raises:
        ConfigError: the kind is unknown, or what follows it is missing or no number.
        DataError: the data is missing or malformed.
    """
    kind, _, where = spec.partition("=")
    if kind == "gt" and where:
        return TruthData(spec, TruthFolder(home_path(where)))
    if kind == "shards" and where:
        return StoredPairs(where)
    if kind == "synthetic" and where:
        if not (where.isascii() and where.isdigit() and len(where) < 10 and 1 <= int(where) <= MAX_SYNTHETIC_SCENES):
            raise ConfigError(f"{spec}: the number of scenes must be 1 to {MAX_SYNTHETIC_SCENES}")
        config = SyntheticSourceConfig(kind="synthetic", seed=seed)
        return TruthData(spec, list(synthetic_truth(config, int(where))))
    raise ConfigError(f"{spec!r}: data is given as gt=FOLDER, shards=URL or synthetic=COUNT")


def compare(
    methods: Mapping[str, Predict],
    data: Sequence[TruthData | StoredPairs],
    *,
    num_pairs: int = 10_000,
    seed: int = 0,
    tolerance: float = 0.02,
    report: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Evaluate each predictor on each set; all see the same pictures and the same pairs.

    Args:
        methods: name in the table -> predictor.
        data: what `open_data` opens, or pictures made by the caller; sets have names of their own.
        num_pairs: dense WHDR: pairs drawn a picture, the equal ones included.
        seed: of these pairs.
        tolerance: two values of the truth are equal where their ratio is at most 1 + this.
        report: called with a line of progress before each evaluation.

    Raises:
        DataError: data cannot be read, or two of `data` hold a set of the same name.
    """
    figures: list[Figure] = []
    unjudged: dict[str, None] = {}
    for method, predict in methods.items():
        origin: dict[str, str] = {}
        for part in data:
            report(f"{method} on {part.label} ...")
            if isinstance(part, StoredPairs):
                share = evaluate_samples(predict, part).share
                found = [Figure(method, part.set_name, STORED_PAIRS_METRIC, 100 * share, len(part), None)]
            else:
                result = evaluate_truth(predict, part.pictures, num_pairs=num_pairs, seed=seed, tolerance=tolerance)
                unjudged.update(dict.fromkeys(result.unjudged))
                percent, equal = result.whdr_percent, result.equal_percent
                found = [
                    Figure(method, name, result.metric, percent[name], result.num_pictures(name), equal[name])
                    for name in result.set_names
                ]
            for figure in found:
                other = origin.setdefault(figure.set_name, part.label)
                if other != part.label:
                    raise DataError(f"{other} and {part.label} both hold a set {figure.set_name}; evaluate them apart")
            figures += found
    return Comparison(tuple(figures), tuple(unjudged))


def _rounded(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 4) for name, value in figures.items()}
