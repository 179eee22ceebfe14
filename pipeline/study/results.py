"""What one run scored, picture by picture, as a file: the page is made of these alone.

write_result(folder / "mae_s0.json", result)
result = read_result(folder / "mae_s0.json")        # None where there is none
"""

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.eval.scores import Scores
from shards.errors import RunError
from shards.storage import publish_bytes

__all__ = ["BenchmarkResult", "RunResult", "benchmark_result", "read_result", "write_result"]

_LIMIT_BYTES = 1 << 28

_Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BenchmarkResult(_Part):
    """One method on one benchmark, by its first metric, an error: lower is better."""

    kind: str
    label: str
    metric: str
    pictures: list[str]
    """Names of the N pictures."""
    sets: list[str]
    """The set of each."""
    totals: list[_Finite]
    """What each adds to the numerator."""
    weights: list[Annotated[_Finite, Field(ge=0)]]
    """What it adds to the denominator; 0 where it says nothing."""

    @model_validator(mode="after")
    def _one_of_each_a_picture(self) -> Self:
        if not len(self.pictures) == len(self.sets) == len(self.totals) == len(self.weights) > 0:
            raise ValueError("pictures, sets, totals and weights must have one entry a picture")
        if len(set(self.pictures)) != len(self.pictures):
            raise ValueError("a picture stands there twice")
        return self

    def sums(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Totals and weights, (N,) each."""
        return np.array(self.totals), np.array(self.weights)


class RunResult(_Part):
    """A finished run, or a baseline."""

    name: str
    arm: str
    """Its arm, or the name of the baseline."""
    seed: int | None
    """None for a baseline."""
    settings: dict[str, str] = {}
    """What differs from the base recipe."""
    steps: int = 0
    hours: float = 0.0
    """Of training, all sessions together."""
    train_samples: int = 0
    """Size of the dataset that it was trained on."""
    shards: str | None = None
    """Fingerprint of the dataset on whose `val` it was judged; None in results of earlier versions."""
    commit: str | None = None
    """Of the code, with `+` where it had been changed since."""
    device: str = "cpu"
    benchmarks: list[BenchmarkResult]


def benchmark_result(scores: Scores, method: str) -> BenchmarkResult:
    """The first metric of one method."""
    place = scores.methods.index(method)
    tallies = scores.tallies[:, place, 0]
    return BenchmarkResult(
        kind=scores.kind,
        label=scores.label,
        metric=scores.metrics[0].name,
        pictures=list(scores.names),
        sets=list(scores.picture_sets),
        totals=[float(total) for total in tallies[:, 0]],
        weights=[float(weight) for weight in tallies[:, 1]],
    )


def write_result(path: Path, result: RunResult) -> None:
    """Write a result, whole or not at all; the folder must exist.

    Raises:
        ShardError: It cannot be written.
    """
    publish_bytes(str(path), result.model_dump_json().encode() + b"\n")


def read_result(path: Path) -> RunResult | None:
    """Read a result; None where there is none.

    Raises:
        RunError: The file cannot be read or is no result.
    """
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise RunError(f"{path}: is too large for a result; delete it, and the run is judged again")
        return RunResult.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise RunError(f"{path}: is no result ({reason}); delete it, and the run is judged again") from error
