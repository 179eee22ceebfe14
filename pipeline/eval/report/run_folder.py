"""What a run folder holds, read for its report: a run that trains, stopped, failed, finished, or is damaged.

run = read_run(Path("runs/web")); print(run.name, run.status, run.notes)

Only a folder that is no run is an error. Whatever is missing or damaged is left out and named in the notes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.eval.report.privacy import public
from pipeline.train.append import read_lines
from pipeline.train.checkpoint_folder import read_manifest
from pipeline.train.checkpoint_manifest import step_of
from pipeline.train.session_log import read_record
from pipeline.train.status import Status, read_status
from shards.errors import CheckpointError, RunError, ShardError
from shards.similar import similar_path
from shards.storage import read_bytes

__all__ = ["CheckpointFacts", "RunFolder", "read_run"]

EVALUATIONS = ("evaluation/results.json", "evaluation.json", "results.json")
_SIGNS = ("status.json", "config.yaml", "metrics.jsonl", "checkpoints", "config.json")
_ENVIRONMENT = ("device", "cuda", "python", "system", "git_commit", "git_changed")
_LIMIT_BYTES = 1 << 24
_CONFIG_LIMIT_BYTES = 1 << 20
_MAX_ENTRIES = 1_000_000
_MAX_CHECKPOINTS = 100


class CheckpointFacts(NamedTuple):
    """A checkpoint on disk."""

    step: int
    size_bytes: int
    """Of its files, as its manifest says; 0 where that cannot be read."""
    damage: str | None
    """What is wrong with it, by manifest and file sizes; None where nothing is."""


@dataclass(frozen=True)
class RunFolder:
    """A run."""

    path: Path
    name: str
    status: Status | None
    config: Mapping[str, Any]
    """`config.yaml`; empty where there is none."""
    environment: dict[str, str]
    """Device, versions and commit; no host, user or path."""
    entries: list[dict[str, Any]]
    """Of `metrics.jsonl`, in its order."""
    evaluations: dict[str, Mapping[str, Any]]
    """Records of `launch.evaluate` by the name of their file."""
    checkpoints: list[CheckpointFacts]
    """Oldest first."""
    notes: list[str]
    """What is missing or damaged."""


def read_run(path: Path) -> RunFolder:
    """Read a run folder.

    Raises:
        RunError: it is no folder, or holds nothing of a run.
    """
    if not path.is_dir():
        raise RunError(f"{path}: no such run folder{similar_path(path)}")
    if not any((path / sign).exists() for sign in _SIGNS):
        raise RunError(f"{path}: not a run: it holds none of {', '.join(_SIGNS)}")
    notes: list[str] = []
    status = None
    try:
        status = read_status(path)
        if status is None:
            notes.append("status.json is missing: how the run stands is not known")
    except RunError as error:
        notes.append(str(error))
    environment = _mapping(path / "env.json", json.loads, _CONFIG_LIMIT_BYTES, notes)
    return RunFolder(
        path,
        public(path.resolve().name),
        status,
        _mapping(path / "config.yaml", _parse_yaml, _CONFIG_LIMIT_BYTES, notes),
        _environment(environment),
        _entries(path / "metrics.jsonl", notes),
        _evaluations(path, notes),
        _checkpoints(path / "checkpoints", notes),
        notes,
    )


def _mapping(path: Path, parse: Callable[[bytes], Any], limit_bytes: int, notes: list[str]) -> Mapping[str, Any]:
    if not path.is_file():
        notes.append(f"{path.name} is missing")
        return {}
    try:
        content = parse(read_bytes(str(path), limit_bytes))
    except (ShardError, ValueError, yaml.YAMLError, RecursionError) as error:
        notes.append(f"{path.name} cannot be read ({(str(error) or type(error).__name__).splitlines()[0]})")
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        notes.append(f"{path.name} is not in the expected form")
        return {}
    return content


def _parse_yaml(text: bytes) -> Any:
    # A few lines of aliases of aliases unfold to gigabytes; no run writes any.
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError("it has YAML aliases")
    return yaml.safe_load(text)


def _environment(stored: Mapping[str, Any]) -> dict[str, str]:
    """Only what is known to be harmless: somebody may have added more."""
    packages = stored.get("packages")
    known = {name: stored[name] for name in _ENVIRONMENT if stored.get(name) is not None}
    if isinstance(packages, dict):
        known |= dict(list(packages.items())[:50])
    return {public(name.replace("_", " ")): public(value) for name, value in known.items()}


def _entries(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    damaged = 0
    try:
        for line in read_lines(path):
            entry = read_record(line.text)
            if entry is None:
                damaged += 1
            elif len(found) == _MAX_ENTRIES:
                notes.append(f"metrics.jsonl: only its first {_MAX_ENTRIES} lines are shown")
                break
            else:
                found.append(entry)
    except OSError as error:
        notes.append(f"metrics.jsonl cannot be read ({error.strerror or error})")
    if damaged:
        notes.append(f"metrics.jsonl: {damaged} damaged {'line is' if damaged == 1 else 'lines are'} left out")
    if not found and not damaged:
        notes.append("there are no figures in metrics.jsonl yet")
    return found


def _evaluations(path: Path, notes: list[str]) -> dict[str, Mapping[str, Any]]:
    there = [name for name in EVALUATIONS if (path / name).is_file()]
    read = {name: _mapping(path / name, json.loads, _LIMIT_BYTES, notes) for name in there}
    return {name: record for name, record in read.items() if record}


def _checkpoints(folder: Path, notes: list[str]) -> list[CheckpointFacts]:
    try:
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        notes.append(f"checkpoints: cannot be listed ({error.strerror})")
        return []
    steps = sorted((step, name) for name in names if (step := step_of(name)) is not None)
    if len(steps) > _MAX_CHECKPOINTS:
        notes.append(f"checkpoints: only the newest {_MAX_CHECKPOINTS} of {len(steps)} are shown")
    return [_checkpoint(folder / name, step) for step, name in steps[-_MAX_CHECKPOINTS:]]


def _checkpoint(folder: Path, step: int) -> CheckpointFacts:
    try:
        files = read_manifest(folder).files
    except CheckpointError as error:
        return CheckpointFacts(step, 0, public(error))
    total = sum(size for size, _ in files.values())
    for name, (size, _) in files.items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            return CheckpointFacts(step, total, f"{name} is missing")
        if found != size:
            return CheckpointFacts(step, total, f"{name} has {found} bytes, the manifest says {size}")
    return CheckpointFacts(step, total, None)
