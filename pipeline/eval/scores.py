"""Run predictors over a benchmark, picture by picture: what each scored on each of them.

    scores = measure({"ours": predict, **BASELINES}, benchmark)
    scores.figures("nyu")                  # (methods, metrics), the figures of a set

A picture is read once for all methods and not kept, so memory grows by a few numbers a picture.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.bootstrap import ratio_of_sums
from pipeline.eval.protocols.base import Benchmark, Case, Judgement, Metric, OverSets, Tuned
from pipeline.eval.whdr import Predict, check_size
from shards.errors import DataError, SourceError
from shards.progress import Progress

__all__ = ["Failure", "Scores", "measure", "predictions"]

_TOGETHER = 8  # pictures held at once, so that those of one size may share a batch


class Failure(NamedTuple):
    """A picture that could not be evaluated."""

    name: str
    reason: str


@dataclass(frozen=True)
class Scores:
    """What every method scored on every picture of a benchmark."""

    label: str
    kind: str
    metrics: tuple[Metric, ...]
    methods: tuple[str, ...]
    names: tuple[str, ...]
    """Of the N pictures that were evaluated."""
    indices: tuple[int, ...]
    """Of these pictures in the benchmark."""
    picture_sets: tuple[str, ...]
    """The set of each."""
    tallies: NDArray[np.float64]
    """(N, methods, metrics, 2): total and weight."""
    margins: NDArray[np.float64]
    """(N, methods), see `Judgement.margin`."""
    failed: tuple[Failure, ...]
    over_sets: OverSets
    notes: tuple[str, ...]
    settings: Mapping[str, Tuned]
    """Method -> what the protocol chose for it."""

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets, in the order in which they came."""
        return tuple(dict.fromkeys(self.picture_sets))

    def members(self, set_name: str) -> NDArray[np.int64]:
        """Indices of the pictures of a set."""
        return np.flatnonzero(np.array([name == set_name for name in self.picture_sets], dtype=bool))

    def num_judged(self, members: NDArray[np.int64]) -> int:
        """How many pictures count in the first metric, for the first method; it is the same for all."""
        return int(np.count_nonzero(self.tallies[members, 0, 0, 1]))

    def figures(self, members: NDArray[np.int64]) -> NDArray[np.float64]:
        """(methods, metrics) figures over some pictures, NaN where none counts."""
        totals, weights = self.columns(members)
        return ratio_of_sums(totals, weights).reshape(len(self.methods), len(self.metrics))

    def columns(self, members: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Totals and weights, (pictures, methods * metrics) each."""
        flat = self.tallies[members].reshape(len(members), -1, 2)
        return flat[..., 0], flat[..., 1]

    def values(self) -> NDArray[np.float64]:
        """(N, methods, metrics) the figure of each picture alone, NaN where it does not count."""
        totals, weights = self.tallies[..., 0], self.tallies[..., 1]
        result = np.full(totals.shape, np.nan)
        np.divide(totals, weights, out=result, where=weights > 0)
        return result

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Pictures that say nothing of the first metric, such as those without an unequal pair."""
        return tuple(name for name, weight in zip(self.names, self.tallies[:, 0, 0, 1], strict=True) if not weight)


def measure(methods: Mapping[str, Predict], benchmark: Benchmark, *, progress: bool = False) -> Scores:
    """Predict and judge every picture with every method.

    Args:
        methods: name -> predictor, at least one.
        benchmark: the pictures and their protocol.
        progress: show on stderr how far it is, once it takes longer than five seconds.

    Raises:
        DataError: no picture can be read, or the place where they lie stopped answering.
        ValueError: a predictor returns another size than the picture's.
    """
    with Progress("pictures") as shown:
        settings = {method: benchmark.tune(predict) for method, predict in methods.items()}
        cases: list[tuple[int, str, str]] = []
        judged: list[list[Judgement]] = []
        reasons = dict.fromkeys(reason for tuned in settings.values() for reason in tuned.failed)
        failed = [Failure("validation", reason) for reason in reasons]
        for group in _grouped(_read(benchmark, failed)):
            rows: list[list[Judgement]] = [[] for _ in group]
            for method, predict in methods.items():
                for row, (_, case), prediction in zip(
                    rows, group, predictions(predict, [case for _, case in group]), strict=True
                ):
                    row.append(benchmark.judge(case, prediction, settings[method].value))
            cases += [(index, case.name, case.set_name) for index, case in group]
            judged += rows
            if progress:
                shown.show(group[-1][0] + 1, len(benchmark), what=benchmark.label)
    if not cases:
        raise DataError(f"{benchmark.label}: none of its {len(benchmark)} pictures can be read; {failed[0].reason}")
    indices, names, sets = zip(*cases, strict=True)
    return Scores(
        label=benchmark.label,
        kind=benchmark.kind,
        metrics=benchmark.metrics,
        methods=tuple(methods),
        names=names,
        indices=indices,
        picture_sets=sets,
        tallies=np.array([[judgement.tallies for judgement in row] for row in judged], dtype=np.float64),
        margins=np.array([[judgement.margin for judgement in row] for row in judged]),
        failed=tuple(failed),
        over_sets=benchmark.over_sets,
        notes=benchmark.notes,
        settings=settings,
    )


def predictions(predict: Predict, cases: list[Case]) -> Iterable[NDArray[Any]]:
    """Predict the pictures of some cases, in batches where the predictor can.

    Raises:
        ValueError: a prediction has another size than its picture.
    """
    images = [case.image for case in cases]
    many = getattr(predict, "many", None)
    maps = many(images) if many else [predict(image) for image in images]
    for case, inverse_depth in zip(cases, maps, strict=True):
        check_size(inverse_depth, case.image, case.name)
    return maps


def _read(benchmark: Benchmark, failed: list[Failure]) -> Iterator[tuple[int, Case]]:
    """The pictures that can be read; the others go to `failed`."""
    for index in range(len(benchmark)):
        try:
            yield index, benchmark.case(index)
        except SourceError:
            raise  # the place stopped answering, which is no fault of a picture
        except DataError as error:
            failed.append(Failure(benchmark.name(index), str(error)))


def _grouped(cases: Iterator[tuple[int, Case]]) -> Iterator[list[tuple[int, Case]]]:
    while group := list(islice(cases, _TOGETHER)):
        yield group
