"""Pack raw stereo pictures, or rendered scenes, into a dataset of shards.

    python -m launch.shards --config configs/webstereo.yaml source.path=PICTURES out=runs/web-shards

Ends with what was accepted and what was left out, by reason. Killed and started again it continues where it was and
ends in the same bytes. Many machines work on one dataset with --dask (docs/packing.md).
"""

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext

from launch.arguments import PACK_KEYS, CommandParser, add_config_arguments, read_recipe
from launch.cli import run_command
from launch.cluster import dask_cluster

__all__ = ["main"]


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
    from shards.progress import Progress
    from shards.storage import shown

    start = time.monotonic()
    with dask_cluster(args.dask) if args.dask else nullcontext() as cluster, Progress("pairs") as progress:
        if cluster is not None:
            shards = config.shards.model_copy(update={"workers": cluster.num_threads})
            config = config.model_copy(update={"shards": shards})

        def show(stage: str, done: int, total: int, accepted: int, rejects: Mapping[str, int]) -> None:
            note = f"accepted {accepted}, left out {sum(rejects.values())}" if stage == "packed" else ""
            progress.show(done, total, what=stage, note=note)

        report: PackReport = pack(
            config, executor=cluster.executor if cluster else None, progress=show, notice=progress.say
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


if __name__ == "__main__":
    sys.exit(run_command(main))
