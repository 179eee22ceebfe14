"""Pack raw stereo pictures, or rendered scenes, into a dataset of shards.

    python -m launch.shards --config configs/webstereo.yaml source.path=PICTURES out=runs/web-shards

Ends with what was accepted and what was left out, by reason. Killed and started again it continues where it was and
ends in the same bytes. Many machines work on one dataset with --dask (docs/packing.md).
"""

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Never

from tqdm import tqdm

from launch.arguments import PACK_KEYS, CommandParser, add_config_arguments, read_recipe
from launch.cli import run_command
from launch.cluster import dask_cluster

__all__ = ["main"]

SECONDS_BETWEEN_LINES = 10.0


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    parser = CommandParser(prog="depthrank shards", description="Raw stereo pictures to a dataset of shards.")
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="pack on the workers of this Dask scheduler, such as tcp://head:8786"
    )
    add_config_arguments(parser, PACK_KEYS)
    args = parser.parse_intermixed_args(argv)
    from shards.config import PackConfig

    config = read_recipe(args, needs=PackConfig).pack_config()
    from shards.pack import PackReport, pack
    from shards.storage import shown

    start = time.monotonic()
    with dask_cluster(args.dask) if args.dask else nullcontext() as cluster, _Progress() as progress:
        if cluster is not None:
            shards = config.shards.model_copy(update={"workers": cluster.num_threads})
            config = config.model_copy(update={"shards": shards})
        report: PackReport = pack(
            config, executor=cluster.executor if cluster else None, progress=progress, notice=progress.say
        )
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

    def __init__(self) -> None:
        self._bar: tqdm[Never] | None = None
        self._stage = ""
        self._first = 0
        self._start = self._last = time.monotonic()

    def __call__(self, stage: str, done: int, total: int, accepted: int, rejects: Mapping[str, int]) -> None:
        """Show how far the work is; the signature is that of `shards.pack.Progress`."""
        now = time.monotonic()
        if stage != self._stage:
            self._begin(stage, done, total, now)
        verdicts = f"accepted {accepted}, left out {sum(rejects.values())}" if stage == "packed" else ""
        if self._bar is not None:
            self._bar.set_postfix_str(verdicts, refresh=False)
            self._bar.update(done - self._bar.n)
            if done == total:
                self._bar.close()
        elif done == total or now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = (done - self._first) / max(now - self._start, 1e-9)
            line = f"{stage} {done}/{total} | {rate:.1f} pairs/s{' | ' if verdicts else ''}{verdicts}"
            print(line, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        tqdm.write(text, file=sys.stderr)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _begin(self, stage: str, done: int, total: int, now: float) -> None:
        self._stage, self._first, self._start, self._last = stage, done, now, now
        if sys.stderr.isatty():
            self._bar = tqdm(desc=stage, total=total, initial=done, unit=" pairs", dynamic_ncols=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
