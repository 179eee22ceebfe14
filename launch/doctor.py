"""Look at this machine before a run does: versions, GPUs, disk, limits, speed; what is wrong, and how to mend it.

    python -m launch.doctor
    python -m launch.doctor --runs /mnt/disk/runs --json

Exit code: 0 nothing is wrong, 1 something is, 2 the command could not be carried out.
"""

import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launch import __version__
from launch.cli import run_command
from launch.command_parser import CommandParser

if TYPE_CHECKING:
    from pipeline.checkup.finding import Finding

__all__ = ["main"]

EXIT_WRONG = 1


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's); 1 where something is wrong."""
    options = _parser().parse_args(argv)
    from pipeline.checkup.finding import describe

    findings = list(_findings(options.runs, look_outside=not options.offline))
    wrong = [finding for finding in findings if finding.state == "wrong"]
    if options.json:
        print(json.dumps({"version": __version__, "wrong": len(wrong), "findings": [f._asdict() for f in findings]}))
    else:
        print(f"depthrank {__version__} on {platform.platform()}\n{describe(findings)}")
        count = f"{len(wrong)} thing{'s are' if len(wrong) > 1 else ' is'} wrong, in the order in which to mend them: "
        print(count + ", ".join(finding.what for finding in wrong) if wrong else "nothing is wrong")
    return EXIT_WRONG if wrong else 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank doctor",
        description="Look at this machine: versions that do not fit together, GPUs and the precision they are good "
        "for, disk, shared memory, limits, speed of writing and of decoding. It takes some seconds, writes 32 MB for "
        "a moment, and changes nothing.",
        epilog="exit code: 0 nothing is wrong, 1 something is, 2 the command could not be carried out",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where runs will lie (default: runs)"
    )
    parser.add_argument("--offline", action="store_true", help="do not try whether the network is there")
    parser.add_argument("--json", action="store_true", help="print the findings as one line of JSON")
    return parser


def _findings(runs: Path, *, look_outside: bool) -> "Iterator[Finding]":
    """Software first: what comes later may need it."""
    from pipeline.checkup import devices, places, software, speed
    from pipeline.checkup.finding import guarded

    yield from guarded("packages", software.software)
    yield from guarded("GPU", devices.devices)
    yield from guarded("memory", places.memory_findings)
    yield from guarded("disk", lambda: places.disk_findings(runs))
    yield from guarded("/dev/shm", lambda: [places.shared_memory_finding(places.shared_memory_bytes())])
    yield from guarded("ulimit", lambda: places.limit_findings(*places.current_limits()))
    yield from guarded("JPEG decoder", lambda: [speed.decoder_finding(speed.jpeg_rate())])
    if look_outside:
        yield from guarded(
            "network", lambda: [speed.network_finding(speed.reaches(speed.WEIGHTS_HOST), _torch_hub_folder())]
        )


def _torch_hub_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir())


if __name__ == "__main__":
    sys.exit(run_command(main))
