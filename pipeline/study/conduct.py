"""Carry a study on from wherever it is: train what is not trained, judge what is not judged, in the order of the plan.

    ended = conduct(runs, places, configure=..., prepare=..., judge=..., say=print)
    ended.left                       # names of the runs that are still to be trained or judged

Each run is an ordinary resumable run and has its result in a file of its own, so a study that was killed at any moment
goes on when it is started again.
"""

import shutil
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline.study.plan import StudyRun
from pipeline.study.progress import Places, state_of
from pipeline.train.config import RunConfig
from pipeline.train.session import Interrupted
from pipeline.train.status import Status
from shards.errors import DivergedError

__all__ = ["Ended", "conduct"]


class Ended(NamedTuple):
    """How far a study came."""

    left: tuple[str, ...]
    """Runs that are not judged yet."""
    diverged: tuple[str, ...]
    """Those among them whose loss was not finite; another start tries them again from their last checkpoint."""
    reason: str
    """Why it ended early; empty where nothing is left."""


def conduct(
    runs: Sequence[StudyRun],
    places: Places,
    *,
    configure: Callable[[StudyRun], RunConfig],
    prepare: Callable[[str], None],
    train: Callable[[StudyRun, RunConfig], Status],
    judge: Callable[[StudyRun], None],
    say: Callable[[str], None],
) -> Ended:
    """Train and judge.

    Args:
        runs: The plan.
        places: Where everything lies.
        configure: Settings of a run.
        prepare: Makes the dataset of a name, unless it is there.
        train: Trains a run as far as it gets.
        judge: Writes the result of a run that is trained.
        say: Called with a line before each run.

    Raises:
        RunError: A run was made with other settings; nothing is trained then.
        DepthRankError: A run cannot be trained or judged, as the message says.
    """
    configs = {run.name: configure(run) for run in runs}
    states = {run.name: state_of(run, configs[run.name], places) for run in runs}
    diverged: list[str] = []
    reason = ""
    for number, run in enumerate(runs, 1):
        state, config = states[run.name], configs[run.name]
        if state == "judged":
            continue
        say(f"run {number} of {len(runs)}: {run.name} ({run.arm.title}, seed {run.seed}), {state}")
        try:
            if state != "trained":
                prepare(run.shards)
                status = train(run, config)
                if status.state != "finished":
                    reason = status.reason
                    break
            judge(run)
        except DivergedError as error:
            say(f"{run.name}: {error}")
            diverged.append(run.name)
            continue
        except Interrupted as wish:
            reason = str(wish)
            break
        states[run.name] = "judged"
        # A finished run needs them no more, and those of all runs together would fill a disk.
        shutil.rmtree(places.run(run.name) / "checkpoints", ignore_errors=True)
    return Ended(tuple(name for name, state in states.items() if state != "judged"), tuple(diverged), reason)
