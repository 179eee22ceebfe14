"""Versions of the notebook, one after the other, each with the output of the one before attached.

    code = run_chain(Chain("me/run", ("me/depthrank-code", "me/web-shards"), Settings()), KaggleClient(), folder)

Where the chain stands is asked of the service each time: ended and started again, it goes on, also while a version
runs.
"""

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launch.kaggle.client import MACHINE_SHAPE, KaggleClient, Kernel, Stage
from launch.kaggle.mounts import newest_step
from launch.kaggle.notebook import NOTEBOOK_NAME, notebook_bytes
from launch.kaggle.settings import Settings
from pipeline.train.status import EXIT_STOPPED, Status, describe, exit_code, read_status
from shards.errors import ConfigError, RunError
from shards.storage import publish_bytes

__all__ = ["Chain", "kernel_metadata", "run_chain", "write_kernel"]

KERNEL_METADATA_NAME = "kernel-metadata.json"
REFERENCE = re.compile(r"[A-Za-z0-9-]{1,50}/[a-z0-9-]{5,50}")
SESSION_HOURS = 11.5
"""What a version takes of the quota: the run's 11 hours, and what comes before and after."""
SPARE_HOURS = 0.5
FRUITLESS = 2
PATIENCE = 12
"""Calls in a row that may find the service out of reach."""


@dataclass(frozen=True)
class Chain:
    """What is chained.

    Args:
        kernel: The notebook, `OWNER/SLUG`.
        datasets: Attached datasets: the program's, and one of shards.
        settings: Of the notebook.
        sources: More notebooks whose output is attached: a run that was begun in another one.
        internet: Whether the notebook may use it.
        machine_shape: Kaggle's name of the machine.
    """

    kernel: str
    datasets: tuple[str, ...]
    settings: Settings
    sources: tuple[str, ...] = ()
    internet: bool = False
    machine_shape: str = MACHINE_SHAPE

    def __post_init__(self) -> None:
        """Check the references.

        Raises:
            ConfigError: One has another form.
        """
        for reference in (self.kernel, *self.datasets, *self.sources):
            if not REFERENCE.fullmatch(reference):
                raise ConfigError(f"{reference!r}: needs OWNER/SLUG, as in the address of the page on Kaggle")


def kernel_metadata(chain: Chain, *, with_own_output: bool) -> dict[str, Any]:
    """The content of `kernel-metadata.json`; see Kaggle's docs/kernels_metadata.md."""
    own = [chain.kernel] if with_own_output else []
    return {
        "id": chain.kernel,
        "title": chain.kernel.partition("/")[2],  # another title would become another slug
        "code_file": NOTEBOOK_NAME,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": chain.internet,
        "machine_shape": chain.machine_shape,
        "dataset_sources": list(chain.datasets),
        "competition_sources": [],
        "kernel_sources": [*own, *chain.sources],
        "model_sources": [],
    }


def write_kernel(folder: Path, chain: Chain, *, with_own_output: bool) -> None:
    """Write the folder that `kaggle kernels push -p FOLDER` takes: the notebook and its metadata."""
    metadata = kernel_metadata(chain, with_own_output=with_own_output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be made ({error.strerror})") from error
    publish_bytes(str(folder / NOTEBOOK_NAME), notebook_bytes(chain.settings))
    publish_bytes(str(folder / KERNEL_METADATA_NAME), json.dumps(metadata, indent=1).encode() + b"\n")


def run_chain(
    chain: Chain,
    client: KaggleClient,
    folder: Path,
    *,
    max_versions: int = 10,
    poll_seconds: float = 300.0,
    goes_on_after_failure: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Push, wait, look, and push again until the run is finished.

    Args:
        chain: What is chained.
        client: The service.
        folder: For the pushed files and what is fetched of the outputs.
        max_versions: How many are pushed at most.
        poll_seconds: Between two looks; also before the first one after a push, when the service may still tell of the
            version before.
        goes_on_after_failure: Push again although the latest version has failed or was cancelled.
        say: Takes a line for the user.

    Returns:
        0 the run is finished, 1 it failed, 75 there is more to do.

    Raises:
        RunError: A version failed, a push was refused, or the service is out of reach.
    """
    pushed = fruitless = 0
    best = -1
    saved = 0
    while True:
        kernel = _wait(chain.kernel, client, poll_seconds, say, is_pushed=pushed > 0)
        status = None
        if kernel.stage is not Stage.ABSENT:
            status = _outcome(chain, client, folder, kernel, may_fail=goes_on_after_failure and pushed == 0)
        if status is not None:
            say(describe(status).partition("\nNext: ")[0])
            if status.state in ("finished", "failed"):
                say(f"fetch it with: kaggle kernels output {chain.kernel} -p {chain.settings.run}-output")
                return exit_code(status)
            saved = _saved_step(folder / "output" / "runs" / chain.settings.run, status)
            fruitless = fruitless + 1 if saved <= best else 0
            best = max(best, saved)
        if fruitless >= FRUITLESS:
            say(f"{fruitless} versions in a row have come no further than step {best}; look at what the last one said")
            return EXIT_STOPPED
        if pushed >= max_versions:
            say(f"{pushed} version(s) pushed, as many as allowed (--max-versions); start again to go on")
            return EXIT_STOPPED
        settings = _within_quota(chain.settings, client, say)
        if settings is None:
            return EXIT_STOPPED
        if status is not None:
            settings = replace(settings, expect_step=saved)
        has_run = kernel.stage is not Stage.ABSENT
        write_kernel(folder / "kernel", replace(chain, settings=settings), with_own_output=has_run)
        say(client.push(folder / "kernel"))
        pushed += 1
        time.sleep(poll_seconds)


def _wait(
    name: str, client: KaggleClient, poll_seconds: float, say: Callable[[str], None], *, is_pushed: bool
) -> Kernel:
    """Wait until the latest version has ended; the service may be out of reach, or not know a push, for a while."""
    misses = 0
    former = ""
    while True:
        try:
            kernel = client.state(name)
            if kernel.stage is Stage.ABSENT and is_pushed:  # to push again would train beside it, from the start
                raise RunError(f"{name}: was pushed, and the service does not know it yet ({kernel.said})")
        except RunError as error:
            misses += 1
            if misses > PATIENCE:
                raise
            say(f"{error}; trying again")
        else:
            misses = 0
            if kernel.said != former and kernel.stage is not Stage.ABSENT:
                say(f"{name}: {kernel.said}")
            former = kernel.said
            if kernel.stage is not Stage.ACTIVE:
                return kernel
        time.sleep(poll_seconds)


def _outcome(chain: Chain, client: KaggleClient, folder: Path, kernel: Kernel, *, may_fail: bool) -> Status | None:
    """What the run says of itself in the output of the latest version.

    Returns:
        None where the version failed and that was to be expected.

    Raises:
        RunError: The version failed, or its output holds no such run.
    """
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    run = chain.settings.run
    wanted = r"(status|checkpoints/step_\d+/manifest)\.json"
    client.download(chain.kernel, output, rf"(^|/)runs/{re.escape(run)}/{wanted}$")
    status = read_status(output / "runs" / run)
    if kernel.stage is Stage.COMPLETE and status is not None:
        return status
    if may_fail:
        return status
    if kernel.stage is Stage.COMPLETE:
        raise RunError(
            f"{chain.kernel}: the output of the latest version holds no runs/{run}/status.json, so it is not of the "
            f"run {run!r} (--set run=NAME); look at it: kaggle kernels logs {chain.kernel}. --after-failure pushes a "
            "version anyway"
        )
    raise RunError(
        f"{chain.kernel}: the latest version is {kernel.said}. Look at what it said (kaggle kernels logs "
        f"{chain.kernel}) and mend it; then give --after-failure to push the next version. What a failed version had "
        "trained may be lost: the output of the one before can be attached by hand, or uploaded as a dataset"
    )


def _saved_step(run_dir: Path, status: Status) -> int:
    """Step of the newest checkpoint of an output; a run that was killed had come further than that."""
    saved = newest_step(run_dir)
    return status.step if saved is None else saved


def _within_quota(settings: Settings, client: KaggleClient, say: Callable[[str], None]) -> Settings | None:
    """The settings with a budget that the week's GPU hours allow; None where too few are left."""
    quota = client.quota()
    if quota is None:
        return settings
    say(f"GPU quota: {quota.hours_left:.1f} h left until {quota.renewed or 'it is renewed'}")
    if quota.hours_left >= SESSION_HOURS:
        return settings
    hours = round(quota.hours_left - SPARE_HOURS, 1)
    if hours < SPARE_HOURS:
        say("too little for a version; start again when it is renewed")
        return None
    if any(text.startswith("session.max_hours=") for text in settings.overrides):
        return settings
    say(f"this version trains for {hours:g} h (session.max_hours), so that it ends in order before the quota does")
    return replace(settings, overrides=(*settings.overrides, f"session.max_hours={hours:g}"))
