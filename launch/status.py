"""How a run stands, for people, shell loops and schedulers.

python -m launch.status runs/demo     # exit code 0 finished, 75 stopped or running, 1 failed, 2 no run

sh launch/until_finished.sh runs/demo -- python -m launch.train --config configs/demo.yaml     # uses it
"""

import sys
from pathlib import Path

from launch.cli import run_command
from launch.command_parser import CommandParser
from pipeline.train.status import describe, exit_code, inventory, read_status
from shards.errors import RunError
from shards.similar import similar_path

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Print what `RUN/status.json` says, and what else a person wants to know of the run folder.

    Returns:
        0 finished, 75 stopped or still running, 1 failed.

    Raises:
        RunError: RUN is no run.
    """
    parser = CommandParser(
        prog="depthrank status",
        description="Say how a run stands and what to type next.",
        epilog="exit code: 0 finished, 75 stopped (or still running): there is more to do, 1 failed, 2 RUN is no run",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    run_dir: Path = parser.parse_args(argv).run
    if not run_dir.is_dir():
        raise RunError(f"{run_dir}: no such run folder{similar_path(run_dir)}")
    status = read_status(run_dir)
    if status is None:
        raise RunError(f"{run_dir}: not a run, it holds no status.json (training writes one when it begins)")
    print("\n".join([describe(status), *inventory(run_dir, status)]))
    return exit_code(status)


if __name__ == "__main__":
    sys.exit(run_command(main))
