"""How far a study is, read from its folder: what is judged, trained, begun or new, and what was made otherwise.

STUDY/shards/cleaned/              datasets, one for both presets
STUDY/cpu/mae_s0/                  ordinary runs of `launch.train`
STUDY/cpu/results/mae_s0.json      what each scored, picture by picture

state = state_of(run, config, Places(Path("runs/study"), "cpu"))
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from pipeline.study.plan import StudyRun
from pipeline.study.results import RunResult, read_result
from pipeline.train.config import RunConfig
from pipeline.train.contradictions import contradictions
from pipeline.train.provenance import settings_to_keep
from pipeline.train.status import read_status
from shards.errors import RunError

__all__ = ["Places", "State", "state_of", "stored_results"]

State = Literal["judged", "trained", "begun", "new"]


class Places(NamedTuple):
    """Where a study keeps its things."""

    root: Path
    preset: str

    def dataset(self, name: str) -> Path:
        """A dataset of shards."""
        return self.root / "shards" / name

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return self.root / self.preset / name

    @property
    def results(self) -> Path:
        """The folder of all results."""
        return self.root / self.preset / "results"

    def result(self, name: str) -> Path:
        """The result of a run or of a baseline."""
        return self.results / f"{name}.json"


def state_of(run: StudyRun, config: RunConfig, places: Places) -> State:
    """How far a run is.

    Raises:
        RunError: Its folder or its result was made with other settings than the study now has, or is damaged.
    """
    folder = places.run(run.name)
    result = read_result(places.result(run.name))
    if result is not None:
        _require_same_settings(run, result, places)
    recorded = _recorded(folder)
    changed = contradictions(recorded, settings_to_keep(config)) if recorded else []
    if changed:
        raise RunError(
            f"{folder} was trained with other settings: {'; '.join(changed[:3])}"
            f"{' ...' if len(changed) > 3 else ''}; use those, or a new study with --out FOLDER"
        )
    if result is not None:
        return "judged"
    status = read_status(folder)
    if status is None:
        return "new"
    return "trained" if status.state == "finished" else "begun"


def stored_results(places: Places) -> list[RunResult]:
    """All results that lie in the folder, baselines among them, by name.

    Raises:
        RunError: One of them is damaged.
    """
    found = (read_result(path) for path in sorted(places.results.glob("*.json")))
    return [result for result in found if result is not None]


def _require_same_settings(run: StudyRun, result: RunResult, places: Places) -> None:
    if result.settings != run.settings:
        raise RunError(
            f"{places.result(run.name)}: was trained with {_text(result.settings)}, the study now says "
            f"{_text(run.settings)}; start a new study with --out FOLDER"
        )


def _recorded(folder: Path) -> dict[str, Any]:
    """The settings in the run's folder; nothing where the run has not begun, or was killed before it wrote them."""
    try:
        settings = yaml.safe_load((folder / "config.yaml").read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(f"{folder / 'config.yaml'}: cannot be read ({error}); delete the folder of the run") from error
    return settings if isinstance(settings, dict) else {}


def _text(settings: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())
