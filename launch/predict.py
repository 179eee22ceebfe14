"""Predict relative inverse depth for pictures, larger = nearer, at each picture's own size.

    python -m launch.predict --checkpoint runs/web photo.jpg album/ 'scans/**/*.png' --out depth

Writes `NAME.inverse_depth.png` (16 bit), `NAME.colour.png` and `NAME.side_by_side.jpg` for each picture, or what
`--format` names. Exit code 0: all are written; 1: some pictures could not be read, the rest is written; 2: none.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.cli import run_command
from launch.command_parser import CommandParser
from launch.inference_options import add_inference_options, chosen_inference
from pipeline.eval.prediction_files import DEFAULT_KINDS, KINDS, choose_kinds
from pipeline.imports import import_torch
from shards.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.eval.album import PictureJob
    from pipeline.eval.predict_album import Outcome

__all__ = ["main"]

EXIT_PARTLY = 1
MAX_BATCH_SIZE = 1024


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's); 1 where some pictures failed."""
    return _predict(_parser().parse_args(argv))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank predict",
        description="Relative inverse depth of pictures: a 16-bit PNG (larger = nearer), a colour map (red = near) and "
        "picture and map side by side. A picture that cannot be read is named and does not end the rest; the exit code "
        "is then 1.",
    )
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help="pictures, folders with all below them, patterns such as 'album/**/*.jpg'",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="PATH",
        help="a run folder, a checkpoint, or the official model.pth.tar of CVPR 2020",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where to write; made if missing")
    parser.add_argument(
        "--format",
        default=",".join(DEFAULT_KINDS),
        metavar="A,B,...",
        help=f"what to write (default: {','.join(DEFAULT_KINDS)}): "
        + "; ".join(f"{name}: {kind.what} (NAME{kind.suffix})" for name, kind in KINDS.items()),
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave pictures alone whose files are all there and not older than they; carries on a killed job",
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="pictures that the network sees together (default: 8)"
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: auto: CUDA, else an Apple GPU, else cpu)",
    )
    add_inference_options(parser)
    cloud = parser.add_argument_group("point cloud of relative depth: no metres, and true only under what is assumed")
    cloud.add_argument("--ply", action="store_true", help="write it too; the same as ply among the formats")
    cloud.add_argument(
        "--fov-deg",
        type=float,
        default=60.0,
        metavar="DEG",
        help="assumed field of view along the picture's long side in degrees (default: 60; a phone has about 70)",
    )
    cloud.add_argument(
        "--depth-ratio",
        type=float,
        default=5.0,
        metavar="R",
        help="assumed ratio of the farthest to the nearest depth (default: 5)",
    )
    cloud.add_argument(
        "--max-points", type=int, default=500_000, metavar="N", help="most points a picture (default: 500000)"
    )
    return parser


def _predict(options: argparse.Namespace) -> int:
    import_torch()
    from pipeline.eval.album import find_pictures, refuse_overwriting, still_to_do
    from pipeline.eval.device import choose_device
    from pipeline.eval.network import load_network
    from pipeline.eval.output import write_prediction
    from pipeline.eval.point_cloud import Camera
    from pipeline.eval.predict import Predictor
    from pipeline.eval.predict_album import predict_album
    from shards.errors import ConfigError, DataError

    inference = chosen_inference(options)
    kinds = choose_kinds(options.format + (",ply" if options.ply else ""))
    camera = Camera(options.fov_deg, options.depth_ratio, options.max_points)
    if not 1 <= options.batch_size <= MAX_BATCH_SIZE:
        raise ConfigError(f"--batch-size must be 1 to {MAX_BATCH_SIZE}, not {options.batch_size}")
    album = find_pictures(options.pictures)
    refuse_overwriting(album.jobs, options.out, kinds)
    jobs = still_to_do(album.jobs, options.out, kinds) if options.skip_existing else album.jobs
    num_there = len(album.jobs) - len(jobs)
    failures: list[str] = []
    if jobs:
        device, reason = choose_device(options.device)
        loaded = load_network(options.checkpoint, device)
        for refused in loaded.refused:
            print(f"passed over: {refused}", file=sys.stderr)
        weights = f"{loaded.origin}{', the moving average of its weights' if loaded.averaged else ''}"
        print(f"weights: {weights}; on {device} ({reason}), {inference.describe()}", file=sys.stderr)
        predictor = Predictor(loaded.net, device, batch_size=options.batch_size, inference=inference)

        def write(job: "PictureJob", image: Any, inverse_depth: Any) -> None:
            write_prediction(options.out / job.stem, image, inverse_depth, kinds, camera=camera)

        _follow(predict_album(predictor, jobs, write), len(jobs), failures)
    if failures and len(failures) == len(album.jobs):
        raise DataError(f"none of the {len(failures)} pictures could be predicted; the first: {failures[0]}")
    there = f", {num_there} already there" if num_there else ""
    failed = f", {len(failures)} could not be (named above)" if failures else ""
    print(f"{len(jobs) - len(failures)} of {len(album.jobs)} pictures predicted into {options.out}{there}{failed}")
    if passed_over := album.passed_over_text():
        print(passed_over)
    return EXIT_PARTLY if failures else 0


def _follow(outcomes: "Iterable[Outcome]", total: int, failures: list[str]) -> None:
    """Show how far the work is once it takes a while, and name what failed when it ends, in whatever way."""
    progress = Progress("pictures")
    try:
        for done, outcome in enumerate(outcomes, 1):
            if outcome.failure:
                failures.append(outcome.failure)
            progress.show(done, total, what="predicted", note=f"{len(failures)} failed" if failures else "")
    finally:
        progress.close()
        for failure in failures:
            print(f"not predicted: {failure}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
