"""Figures of the arms, differences between them and verdicts on the claims, from the results of the runs alone.

    study = Study(results)
    study.figure("mae", WEB); study.difference("ranking", "mae", WEB); study.judged_claims("losses")

A figure of an arm is the mean over its seeds. Its interval is over the pictures, the seeds held fixed; the spread over
the seeds stands beside it. The rule for differences is `pipeline.study.verdict`'s.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.eval.bootstrap import Interval, interval, ratio_of_sums, resample
from pipeline.eval.compare import RESAMPLES
from pipeline.study.claims import CLAIMS, Claim
from pipeline.study.results import BenchmarkResult, RunResult
from pipeline.study.verdict import Separation, Verdict, claim_verdict, separation
from shards.errors import RunError
from shards.randomness import CounterRng

__all__ = ["WEB", "ZERO_SHOT", "ArmFigure", "JudgedClaim", "Study", "Yardstick"]


class Yardstick(NamedTuple):
    """What WHDR is measured on."""

    kind: str
    """Of the benchmark."""
    title: str


WEB = Yardstick("shards", "held-out web pairs")
"""The one by which claims are judged; it is of the kind that was trained on, with labels by the matcher."""
ZERO_SHOT = Yardstick("gt", "measured depth, zero-shot")


class ArmFigure(NamedTuple):
    """WHDR of an arm, shares from 0 to 1."""

    value: float
    interval: Interval | None
    """95 % over the pictures; None where fewer than two count."""
    by_seed: tuple[float, ...]
    num_pictures: int

    @property
    def seed_deviation(self) -> float | None:
        """Standard deviation over the seeds; None for one."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None


class JudgedClaim(NamedTuple):
    """A claim with what was found."""

    claim: Claim
    by_yardstick: Mapping[Yardstick, tuple[Separation, ...]]
    """One difference a comparison, where both arms have a result."""

    def verdict(self, yardstick: Yardstick) -> Verdict | None:
        """None where an arm has not been trained."""
        found = self.by_yardstick[yardstick]
        return claim_verdict(one.verdict for one in found) if len(found) == len(self.claim.comparisons) else None


class Study:
    """All results of a study.

    Args:
        results: Of finished runs and of baselines, all judged on the same pictures.

    Raises:
        RunError: Two of them were judged on other pictures or pairs, or one on fewer yardsticks.
    """

    def __init__(self, results: Sequence[RunResult]) -> None:
        self.results = tuple(results)
        self._by_arm: dict[str, dict[int, RunResult]] = {}
        for result in results:
            self._by_arm.setdefault(result.arm, {})[0 if result.seed is None else result.seed] = result
        _require_same_pictures(results)

    def has(self, arm: str) -> bool:
        """Whether any seed of an arm has a result."""
        return arm in self._by_arm

    def seeds(self, arm: str) -> tuple[int, ...]:
        """The seeds of an arm that have a result."""
        return tuple(sorted(self._by_arm.get(arm, {})))

    def sets(self, yardstick: Yardstick) -> tuple[str, ...]:
        """The sets of pictures of a yardstick, in their order."""
        found = self._part(self.results[0], yardstick) if self.results else None
        return tuple(dict.fromkeys(found.sets)) if found else ()

    def figure(self, arm: str, yardstick: Yardstick, set_name: str | None = None) -> ArmFigure | None:
        """WHDR of an arm over all pictures of a yardstick, or over one set; None where there is no result."""
        runs = self._by_arm.get(arm, {})
        columns = self._columns([runs[seed] for seed in sorted(runs)], yardstick, set_name)
        if columns is None:
            return None
        totals, weights = columns
        values = ratio_of_sums(totals, weights)
        number = int(np.count_nonzero(weights[:, 0]))
        limits = None
        if number > 1:
            limits = interval(self._drawn(totals, weights, yardstick, set_name).mean(axis=1))
        return ArmFigure(float(values.mean()), limits, tuple(float(value) for value in values), number)

    def difference(self, arm: str, other: str, yardstick: Yardstick) -> Separation | None:
        """WHDR of one arm less that of another over the seeds that both have; None where they share none.

        A baseline has no seeds: it is compared with each seed of the arm.
        """
        ours, theirs = self._by_arm.get(arm, {}), self._by_arm.get(other, {})
        if any(result.seed is None for result in theirs.values()):
            theirs = dict.fromkeys(ours, theirs[0])
        seeds = sorted(ours.keys() & theirs.keys())
        columns = self._columns([*(ours[s] for s in seeds), *(theirs[s] for s in seeds)], yardstick, None)
        if columns is None:
            return None
        totals, weights = columns
        values = ratio_of_sums(totals, weights)
        drawn = self._drawn(totals, weights, yardstick, None)
        number = len(seeds)
        variance = float(np.var((drawn[:, :number] - drawn[:, number:]).mean(axis=1), ddof=1))
        differences = [float(difference) for difference in values[:number] - values[number:]]
        return separation(differences, variance, int(np.count_nonzero(weights[:, 0])))

    def judged_claims(self, experiment: str) -> tuple[JudgedClaim, ...]:
        """The claims of an experiment; those whose arms have no result yet among them."""
        judged = []
        for claim in CLAIMS:
            if claim.experiment == experiment:
                found = {
                    yardstick: tuple(
                        difference
                        for better, worse in claim.comparisons
                        if (difference := self.difference(better, worse, yardstick)) is not None
                    )
                    for yardstick in (WEB, ZERO_SHOT)
                }
                judged.append(JudgedClaim(claim, found))
        return tuple(judged)

    def _columns(
        self, runs: Sequence[RunResult], yardstick: Yardstick, set_name: str | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Totals and weights of some runs, (pictures, runs) each; None without runs, or where nothing was measured."""
        parts = [part for run in runs if (part := self._part(run, yardstick)) is not None]
        if not parts or len(parts) != len(runs):
            return None
        members = np.array([set_name in (None, name) for name in parts[0].sets])
        sums = [part.sums() for part in parts]
        totals = np.stack([totals[members] for totals, _ in sums], axis=1)
        weights = np.stack([weights[members] for _, weights in sums], axis=1)
        return (totals, weights) if weights.any() else None

    @staticmethod
    def _part(run: RunResult, yardstick: Yardstick) -> BenchmarkResult | None:
        return next((part for part in run.benchmarks if part.kind == yardstick.kind), None)

    @staticmethod
    def _drawn(
        totals: NDArray[np.float64], weights: NDArray[np.float64], yardstick: Yardstick, set_name: str | None
    ) -> NDArray[np.float64]:
        """(draws, runs): the same pictures are drawn for all of them."""
        return resample(totals, weights, RESAMPLES, CounterRng("study", yardstick.kind, set_name or ""))


def _require_same_pictures(results: Sequence[RunResult]) -> None:
    first: dict[str, tuple[str, BenchmarkResult]] = {}
    for result in results:
        if {part.kind for part in result.benchmarks} != {part.kind for part in results[0].benchmarks}:
            raise RunError(
                f"of {results[0].name} and {result.name} only one was judged by measured depth as well (--truth); "
                "delete the results and start the study again, which judges all of them anew"
            )
        for part in result.benchmarks:
            name, other = first.setdefault(part.kind, (result.name, part))
            if (part.metric, part.pictures, part.weights) != (other.metric, other.pictures, other.weights):
                raise RunError(
                    f"the results of {name} and {result.name} were judged on other pictures of {part.label}; delete "
                    "the results and start the study again, which judges all of them anew"
                )
