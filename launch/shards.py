"""Pack raw stereo pictures, or rendered scenes, into a dataset of shards.

    python -m launch.shards --config configs/webstereo.yaml source.path=PICTURES out=runs/web-shards

Ends with what was accepted and what was left out, by reason. Killed and started again it ends in the same bytes.
"""

import sys
import time
from collections.abc import Mapping

from launch.arguments import PACK_KEYS, CommandParser, add_config_arguments, read_recipe
from launch.cli import run_command

__all__ = ["main"]

SECONDS_BETWEEN_LINES = 10.0


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    parser = CommandParser(prog="depthrank shards", description="Raw stereo pictures to a dataset of shards.")
    add_config_arguments(parser, PACK_KEYS)
    args = parser.parse_intermixed_args(argv)
    from shards.config import PackConfig

    config = read_recipe(args, needs=PackConfig).pack_config()
    from shards.pack import PackReport, pack
    from shards.storage import shown

    start = time.monotonic()
    report: PackReport = pack(config, progress=_Progress(start))
    counts = ", ".join(f"{count} {split}" for split, count in sorted(report.accepted.items()))
    print(f"{shown(config.out)}: {counts} samples in {time.monotonic() - start:.0f} s")
    for reason, count in sorted(report.rejected.items(), key=lambda entry: -entry[1]):
        names = ", ".join(report.examples[reason])
        print(f"  left out {count:5d}  {reason:18} {names}{' ...' if count > len(report.examples[reason]) else ''}")
    if report.rejected:
        print(f"  each with its figures: {shown(report.rejects_url)}")
    print(f"  look at the labels:    {shown(report.contact_sheet_url)}")
    return 0


class _Progress:
    """A bar on a terminal; elsewhere a plain line every some seconds."""

    def __init__(self, start: float) -> None:
        self._start = self._last = start

    def __call__(self, done: int, total: int, rejects: Mapping[str, int]) -> None:
        now = time.monotonic()
        if done < total and now - self._last < (0.2 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES):
            return
        self._last = now
        rate = done / max(now - self._start, 1e-9)
        line = f"packed {done}/{total} | {rate:.1f} pairs/s | left out {sum(rejects.values())}"
        if sys.stderr.isatty():
            print(f"\r{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
