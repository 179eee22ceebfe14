"""How a run stands, in one small file that people, shell loops and schedulers read: `RUN/status.json`.

Launchers turn every exit code but 0 into tracebacks and restarts, so a run that stops in order ends with 0, and this
file says whether there is more to do.

    write_status(run_dir, Status(state="running", reason="training", step=1200, ...))
    status = read_status(run_dir); sys.exit(exit_code(status))
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.train.checkpoint_manifest import step_of
from pipeline.train.lock import lock_is_held
from shards.errors import RunError, ShardError
from shards.storage import publish_bytes

__all__ = [
    "EXIT_FAILED",
    "EXIT_FINISHED",
    "EXIT_STOPPED",
    "Status",
    "describe",
    "exit_code",
    "hang_report",
    "hang_reports",
    "inventory",
    "read_status",
    "write_status",
]

EXIT_FINISHED = 0
EXIT_FAILED = 1
EXIT_STOPPED = 75
"""EX_TEMPFAIL of sysexits.h: there is more to do, start it again."""
STATUS_NAME = "status.json"
_LIMIT_BYTES = 1 << 16

_Text = Annotated[str, Field(max_length=8192)]
_Count = Annotated[int, Field(ge=0)]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Status(BaseModel):
    """How a run stands."""

    # A later version may add fields; an old reader goes on with what it knows.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    state: Literal["running", "finished", "stopped", "failed"]
    reason: _Text
    step: _Count
    total_steps: _Count
    samples_seen: _Count
    hours: Annotated[float, Field(ge=0)]
    """Hours of training so far, all sessions together."""
    next_command: _Text
    """What to type next: continue, or use the result."""
    mirrored_step: _Count | None = None
    """Step of the newest checkpoint that was verified at the mirror in the latest session."""
    updated: _Text = Field(default_factory=_now)
    """UTC, ISO 8601."""


def write_status(run_dir: Path, status: Status) -> None:
    """Write `status.json`, whole or not at all.

    Raises:
        RunError: it cannot be written; the former one is intact.
    """
    try:
        publish_bytes(str(run_dir / STATUS_NAME), status.model_dump_json(indent=1).encode() + b"\n")
    except ShardError as error:
        raise RunError(f"the run's status was not written: {error}") from error


def read_status(run_dir: Path) -> Status | None:
    """Read `status.json`; None where there is none, which means that no run has begun here.

    A run that claims to be running while nobody holds its lock was killed: that is returned as `stopped`.

    Raises:
        RunError: the file cannot be read or is not a status.
    """
    path = run_dir / STATUS_NAME
    text = _read(path)
    while text is not None:
        status = _parse(text, path)
        if status.state != "running" or lock_is_held(run_dir):
            return status
        # A run writes its last word before it lets go of the lock, so only an unchanged text means that it was killed.
        former, text = text, _read(path)
        if text == former:
            return status.model_copy(update={"state": "stopped", "reason": "was killed: nobody holds the run's lock"})
    return None


def exit_code(status: Status) -> int:
    """0 finished, 75 stopped or still running (there is more to do), 1 failed."""
    return {"finished": EXIT_FINISHED, "failed": EXIT_FAILED}.get(status.state, EXIT_STOPPED)


def describe(status: Status) -> str:
    """One paragraph for a person."""
    share = f" ({status.step / status.total_steps:.0%})" if status.total_steps else ""
    return (
        f"{status.state} at step {status.step} of {status.total_steps}{share}: {status.reason}."
        f" {status.samples_seen} samples seen in {status.hours:.2f} h; as of {status.updated}."
        f"\nNext: {status.next_command}"
    )


def inventory(run_dir: Path, status: Status) -> list[str]:
    """What lies in the run folder, a line each: the newest checkpoint, and the stacks of processes that hung."""
    steps = {step_of(path.name): path for path in (run_dir / "checkpoints").glob("step_*")}
    newest = max((step for step in steps if step is not None), default=None)
    lines = ["There is no checkpoint."]
    if newest is not None:
        place = "" if status.mirrored_step is None else f"; the mirror has that of step {status.mirrored_step}"
        lines = [f"Newest checkpoint: {steps[newest]}{place}"]
    return [*lines, *(f"A process hung; its stacks: {path}" for path in hang_reports(run_dir))]


def hang_report(run_dir: Path, rank: int) -> Path:
    """Where the stacks of a process that hangs are written."""
    return run_dir / f"hang-rank{rank}.txt"


def hang_reports(run_dir: Path) -> list[Path]:
    """Those that are there, by name."""
    return sorted(run_dir.glob("hang-rank*.txt"))


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
    if len(text) > _LIMIT_BYTES:
        raise RunError(f"{path}: larger than {_LIMIT_BYTES} bytes, which no status is")
    return text


def _parse(text: bytes, path: Path) -> Status:
    try:
        return Status.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise RunError(f"{path}: not a status of a run ({where}: {first['msg']})") from error
