"""Which checkpoint a run begins with: the newest that verifies, wherever it lies. Reads only.

found = find_checkpoint(run_dir, run_id="redweb", config=config.checkpoint)      # None: a new run
"""

import glob
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.train.checkpoint_folder import Stamp, read_manifest, read_state, stamp_of, step_of, verify_folder
from pipeline.train.config import CheckpointConfig
from shards.errors import CheckpointError, RunError
from shards.similar import similar_path
from shards.storage import home_path

__all__ = ["Found", "find_checkpoint", "is_inside", "step_folders", "step_in"]

_MAX_SEARCHED_FOLDERS = 1000
_log = logging.getLogger("depthrank")


@dataclass(frozen=True)
class Found:
    """The checkpoint to resume from."""

    path: Path
    step: int
    state: dict[str, Any]
    refused: list[tuple[Path, str]] = field(default_factory=list)
    """Newer ones that were passed over, and why."""
    stamp: Stamp = field(default_factory=dict)
    """Of its folder, from before it was verified."""


def find_checkpoint(run_dir: Path, *, run_id: str, config: CheckpointConfig) -> Found | None:
    """The checkpoint that `checkpoint.resume` asks for; None for a new run.

    `auto` takes the newest that verifies, in the run folder or the search roots; the run folder wins a tie. A path
    inside the run folder is taken as it is. A path elsewhere only starts the run: checkpoints of its own win, so that
    the same command continues it.

    Args:
        run_dir: the run folder.
        run_id: what a checkpoint must carry to count as one of this run; not asked of one that a path names.
        config: what to resume, and where to search.

    Raises:
        CheckpointError: there are checkpoints but none verifies, or the path holds none.
        RunError: `none`, and the run folder has checkpoints.
    """
    own = step_folders(run_dir / "checkpoints")
    if config.resume == "none":
        if own:
            raise RunError(
                f"{run_dir} has checkpoints up to step {max(map(step_in, own))} and checkpoint.resume is none;"
                f" set it to auto to continue, choose another `run`, or move {run_dir / 'checkpoints'} away"
            )
        return None
    if config.resume == "auto":
        elsewhere = [path for root in _search_roots(config.search) for path in _checkpoints_below(root)]
        return _newest_valid(own, elsewhere, run_id)
    path = home_path(config.resume)
    if is_inside(run_dir, config.resume):
        given = _given(path)
        newer = [step_in(folder) for folder in own if step_in(folder) > max(map(step_in, given))]
        if newer:
            raise RunError(
                f"checkpoint.resume: {path} is older than step {max(newer)} of the same run, which would be done again"
                f" at every start; move the newer folders away and use auto, or give them to another `run` by init_from"
            )
        return _newest_valid(given, [], run_id)
    continued = _newest_valid(own, [], run_id)
    if continued is not None:
        _log.info("%s has checkpoints of its own: they are continued, not %s", run_dir, path)
        return continued
    return _newest_valid(_given(path), [], None)


def is_inside(run_dir: Path, resume: str) -> bool:
    """Whether `checkpoint.resume` is a path inside the run folder."""
    return resume not in {"auto", "none"} and home_path(resume).resolve().is_relative_to(run_dir.resolve())


def _search_roots(patterns: Iterable[str]) -> list[Path]:
    """Folders that the patterns name, in their order; each pattern sorted, so that ties are reproducible."""
    roots = []
    for pattern in patterns:
        whole = home_path(pattern)
        # A `**` means no more than `*` here: walking all of a mounted collection can take minutes.
        matches = [whole] if whole.exists() else [Path(match) for match in sorted(glob.glob(str(whole)))]  # noqa: PTH207 - may be absolute
        if len(matches) > _MAX_SEARCHED_FOLDERS:
            raise CheckpointError(
                f"checkpoint.search: {pattern!r} matches {len(matches)} folders, at most {_MAX_SEARCHED_FOLDERS} are"
                f" searched; name the run folder more closely"
            )
        roots += matches
    return roots


def _newest_valid(own: list[Path], elsewhere: list[Path], run_id: str | None) -> Found | None:
    """The newest that verifies, `own` first where steps are equal; of one run only unless `run_id` is None."""
    refused: list[tuple[Path, str]] = []
    own_places = {path.resolve() for path in own}
    elsewhere = [path for path in elsewhere if path.resolve() not in own_places]
    # Sorting is stable, so the order of the roots decides ties.
    for path in sorted([*own, *elsewhere], key=step_in, reverse=True):
        try:
            manifest = read_manifest(path)
            # What lies in the run's own folder is its own, also after the folder was renamed.
            if path not in own and run_id is not None and manifest.run_id != run_id:
                continue
            stamp = stamp_of(path)
            verify_folder(path)
            return Found(path, manifest.step, read_state(path), refused, stamp)
        except CheckpointError as error:
            refused.append((path, str(error)))
    if refused:
        raise CheckpointError(
            "no checkpoint verifies, and starting anew would throw the run away:\n"
            + "\n".join(f"  {why}" for _, why in refused)
            + "\nmove these folders away (or narrow checkpoint.search) to start from step 0"
        )
    return None


def _given(path: Path) -> list[Path]:
    below = _checkpoints_below(path)
    if not below:
        raise CheckpointError(
            f"checkpoint.resume: {path} is neither a checkpoint (a folder step_NNNNNNNN) nor a run folder that has some"
            f"{similar_path(path)}"
        )
    return below


def _checkpoints_below(root: Path) -> list[Path]:
    """The root itself, or the checkpoints in it, or those in its folder `checkpoints`."""
    if step_of(root.name) is not None:
        return [root] if root.is_dir() else []
    return [*step_folders(root), *step_folders(root / "checkpoints")]


def step_folders(folder: Path) -> list[Path]:
    """What is named like a checkpoint in a folder, sorted by name; nothing where there is no such folder.

    Raises:
        CheckpointError: the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if step_of(path.name) is not None)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be searched for checkpoints ({error.strerror})") from error


def step_in(path: Path) -> int:
    """The step that the name of one of those folders says."""
    step = step_of(path.name)
    assert step is not None
    return step
