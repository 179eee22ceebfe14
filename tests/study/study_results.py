"""Results of a study by hand: WHDR of each picture as the test says."""

from collections.abc import Mapping, Sequence

from pipeline.study.plan import arms
from pipeline.study.results import BenchmarkResult, RunResult

__all__ = ["benchmark", "result"]

LR = 1e-3


def benchmark(kind: str, wrong: Sequence[float], sets: Sequence[str] | None = None) -> BenchmarkResult:
    """Pictures with these shares of wrong pairs; held-out pairs weigh 100 a picture, dense truth 1."""
    weight = 100.0 if kind == "shards" else 1.0
    return BenchmarkResult(
        kind=kind,
        label=f"{kind}=x",
        metric="whdr",
        pictures=[f"{kind}{n}" for n in range(len(wrong))],
        sets=list(sets or ["web"] * len(wrong)),
        totals=[weight * share for share in wrong],
        weights=[weight] * len(wrong),
    )


def result(arm: str, seed: int | None, parts: Mapping[str, Sequence[float]], **changes: object) -> RunResult:
    """`parts`: kind of benchmark -> share of wrong pairs a picture."""
    settings = {} if seed is None else {**arms(LR)[arm].settings, "train.seed": str(seed)}
    fields: dict[str, object] = {
        "name": arm if seed is None else f"{arm}_s{seed}",
        "arm": arm,
        "seed": seed,
        "settings": settings,
        "steps": 100,
        "hours": 0.1,
        "train_samples": 150,
        "commit": "abc1234",
        "benchmarks": [
            benchmark(kind, wrong, [f"set{n % 2}" for n in range(len(wrong))] if kind == "gt" else None)
            for kind, wrong in parts.items()
        ],
    }
    return RunResult(**fields | changes)
