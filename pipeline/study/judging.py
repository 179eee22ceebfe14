"""Measure a trained run, or a baseline, on the pictures of the study.

    judge_run(run, places, benchmarks)
    judge_baselines(benchmarks, places)

The benchmarks are those of `launch.evaluate`: held-out pairs of the shards, and measured depth.
"""

import json
from collections.abc import Sequence

from pipeline.eval.baselines import BASELINES
from pipeline.eval.device import choose_device
from pipeline.eval.network import load_network
from pipeline.eval.predict import Predictor
from pipeline.eval.protocols.base import Benchmark
from pipeline.eval.scores import measure
from pipeline.study.plan import CLEANED, StudyRun
from pipeline.study.progress import Places
from pipeline.study.results import RunResult, benchmark_result, read_result, write_result
from pipeline.train.status import read_status
from shards.errors import DataError, RunError
from shards.manifest import read_manifest
from shards.storage import read_bytes

__all__ = ["judge_baselines", "judge_run"]

_LIMIT_BYTES = 1 << 20


def judge_run(run: StudyRun, places: Places, benchmarks: Sequence[Benchmark]) -> None:
    """Measure a finished run and write its result.

    Raises:
        DepthRankError: The network or a picture cannot be read, or the result not be written.
    """
    folder = places.run(run.name)
    status = read_status(folder)
    device, _ = choose_device("auto")
    predict = Predictor(load_network(folder, device).net, device)
    parts = []
    for benchmark in benchmarks:
        scores = measure({run.name: predict}, benchmark)
        if scores.failed:
            raise DataError(f"{scores.label}: {scores.failed[0].reason}; the study judges by all pictures or by none")
        parts.append(benchmark_result(scores, run.name))
    facts = json.loads(read_bytes(str(folder / "env.json"), _LIMIT_BYTES))  # of the training, not of this process
    commit = facts.get("git_commit")
    result = RunResult(
        name=run.name,
        arm=run.arm.name,
        seed=run.seed,
        settings=run.settings,
        steps=status.step if status else 0,
        hours=status.hours if status else 0.0,
        train_samples=read_manifest(str(places.dataset(run.shards))).splits["train"].samples,
        shards=_fingerprint(places),
        commit=f"{commit[:7]}{'+' if facts.get('git_changed') else ''}" if commit else None,
        device=str(facts.get("device")),
        benchmarks=parts,
    )
    write_result(places.result(run.name), result)


def judge_baselines(places: Places, benchmarks: Sequence[Benchmark]) -> None:
    """Measure the baselines that look at no picture, unless that was done.

    Raises:
        RunError: It was done on other shards, as were all results beside them.
        DepthRankError: A picture cannot be read, or a result not be written.
    """
    paths = {name: places.result(f"baseline_{name.replace(' ', '_')}") for name in BASELINES}
    fingerprint = _fingerprint(places)
    found = [read_result(path) for path in paths.values()]
    if any(result is not None and result.shards not in (None, fingerprint) for result in found):
        raise RunError(
            f"{places.results}: these results are of other shards than {places.dataset(CLEANED)} now holds; start a "
            "new study with --out FOLDER"
        )
    if None not in found:
        return
    scores = [measure(BASELINES, benchmark) for benchmark in benchmarks]
    for name, path in paths.items():
        parts = [benchmark_result(one, name) for one in scores]
        write_result(path, RunResult(name=path.stem, arm=name, seed=None, shards=fingerprint, benchmarks=parts))


def _fingerprint(places: Places) -> str:
    """Of the dataset that all runs are judged on."""
    return read_manifest(str(places.dataset(CLEANED))).fingerprint
