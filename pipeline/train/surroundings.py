"""What started this process and how long ago, as far as its environment and /proc tell.

budget = budget_of(config.max_hours, os.environ); launcher = find_launcher(os.environ)
"""

import enum
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "KAGGLE_GPU_HOURS_A_WEEK",
    "KAGGLE_HOURS",
    "Budget",
    "Launcher",
    "age_seconds",
    "budget_of",
    "find_launcher",
    "launcher_state",
    "seconds_since_start",
]

KAGGLE_HOURS = 11.0
COLAB_HOURS = 11.0
"""Presets: both services end a session after 12 h at most, without a warning, and may lose what it wrote."""
KAGGLE_GPU_HOURS_A_WEEK = 30.0
"""Quota, sometimes higher; an hour on two T4 counts as one."""
_MAX_ANCESTORS = 64
_LONGEST_SESSION_SECONDS = 7 * 24 * 3600.0
_LAUNCHER_NAMES = ("accelerate", "torchrun", "torch.distributed", "torch/distributed")


class Budget(NamedTuple):
    """How long a session may last, and from when."""

    max_hours: float | None
    from_container_start: bool
    reason: str


class Launcher(enum.Enum):
    """Whether something started this process that will not tell it when it dies."""

    NONE = enum.auto()
    ALIVE = enum.auto()
    GONE = enum.auto()


def budget_of(max_hours: float | None, environ: Mapping[str, str]) -> Budget:
    """The configured budget, or the preset of the service that this runs on."""
    kaggle = "KAGGLE_KERNEL_RUN_TYPE" in environ
    colab = any(name.startswith("COLAB_") for name in environ)
    since = "counted from the start of the container" if kaggle or colab else "counted from the start of the process"
    if max_hours is not None:
        return Budget(max_hours, kaggle or colab, f"session.max_hours, {since}")
    if kaggle:
        return Budget(KAGGLE_HOURS, True, f"preset on Kaggle, {since}; session.max_hours changes it")
    if colab:
        return Budget(COLAB_HOURS, True, f"preset on Colab, {since}; session.max_hours changes it")
    return Budget(None, False, "session.max_hours is not set")


def seconds_since_start(*, container: bool) -> float:
    """Age of the container, by its first process, or of this process; 0 where the system does not tell."""
    ages = [_age_of("1")] if container else []
    for age in [*ages, _age_of("self")]:
        # Some sandboxes mix the host's clock with their own; an absurd age is no age.
        if age is not None and 0 <= age <= _LONGEST_SESSION_SECONDS:
            return age
    return 0.0


def age_seconds(stat_text: str, uptime_text: str, ticks_per_second: int) -> float:
    """Seconds since a process started, from the texts of /proc/PID/stat and /proc/uptime.

    Raises:
        ValueError: they are not of the form of proc(5).
    """
    # The command name in parentheses may hold blanks and parentheses; the start is the 20th field after it.
    fields = stat_text.rpartition(")")[2].split()
    try:
        return float(uptime_text.split()[0]) - int(fields[19]) / ticks_per_second
    except IndexError as error:
        raise ValueError(f"not a /proc/PID/stat: {stat_text[:80]!r}") from error


def find_launcher(environ: Mapping[str, str]) -> Launcher:
    """Whether this process was started by `accelerate launch` or torchrun, and whether that still lives."""
    return launcher_state(environ, os.getppid(), _ancestors())


def launcher_state(environ: Mapping[str, str], parent: int, ancestors: list[str]) -> Launcher:
    """Read the signs of a launcher.

    Args:
        environ: accelerate always exports its dynamo backend; people export ACCELERATE_USE_CPU and the like by hand.
        parent: id of the parent process; 1 is what most orphans are given to.
        ancestors: command lines of the parent, its parent and so on; empty where the system does not tell.
    """
    if "TORCHELASTIC_RUN_ID" not in environ and "ACCELERATE_DYNAMO_BACKEND" not in environ:
        return Launcher.NONE
    if not ancestors:
        return Launcher.GONE if parent == 1 else Launcher.ALIVE
    # It may have died before we could look and left us to init or the like. A parent that runs Python may be a
    # launcher by another name.
    named = any(name in command for command in ancestors for name in _LAUNCHER_NAMES)
    return Launcher.ALIVE if named or "python" in ancestors[0] else Launcher.GONE


def _ancestors() -> list[str]:
    commands: list[str] = []
    process = os.getppid()
    try:
        while process > 0 and len(commands) < _MAX_ANCESTORS:
            commands.append(Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            stat_text = Path(f"/proc/{process}/stat").read_text(errors="replace")
            process = int(stat_text.rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return []
    return commands


def _age_of(process: str) -> float | None:
    try:
        stat_text = Path(f"/proc/{process}/stat").read_text(errors="replace")
        uptime_text = Path("/proc/uptime").read_text()
        return age_seconds(stat_text, uptime_text, os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError):
        return None
