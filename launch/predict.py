"""Predict relative inverse depth for pictures, larger = nearer, at each picture's own size.

    python -m launch.predict --checkpoint runs/web photo.jpg album/ --out depth

Writes `NAME.inverse_depth.png` (16 bit), `NAME.colour.png` and `NAME.side_by_side.jpg` for each picture.
"""

import argparse
import sys
from pathlib import Path

from launch.cli import run_command
from launch.inference_options import add_inference_options, chosen_inference

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's); 0 where a picture was predicted."""
    return _predict(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="depthrank predict",
        description="Relative inverse depth of pictures: a 16-bit PNG (larger = nearer), a colour map (red = near) and "
        "picture and map side by side. A picture that cannot be read is named and does not end the rest.",
    )
    parser.add_argument(
        "pictures", nargs="+", type=Path, metavar="PICTURE_OR_FOLDER", help="folders with all below them"
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
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto, CUDA if there is one)"
    )
    add_inference_options(parser)
    return parser


def _predict(options: argparse.Namespace) -> int:
    from pipeline.eval.device import choose_device
    from pipeline.eval.network import load_network
    from pipeline.eval.output import find_pictures, predict_pictures
    from pipeline.eval.predict import Predictor
    from shards.errors import DataError

    inference = chosen_inference(options)
    jobs = find_pictures(options.pictures)
    device, reason = choose_device(options.device)
    loaded = load_network(options.checkpoint, device)
    for refused in loaded.refused:
        print(f"passed over: {refused}", file=sys.stderr)
    print(f"{loaded.origin}, on {device} ({reason}), {inference.describe()}", file=sys.stderr)
    failures = []
    for failure in predict_pictures(Predictor(loaded.net, device, inference=inference), jobs, options.out):
        print(f"not predicted: {failure}", file=sys.stderr, flush=True)
        failures.append(failure)
    if len(failures) == len(jobs):
        raise DataError(f"none of the {len(jobs)} pictures could be predicted; the first: {failures[0]}")
    failed = f", {len(failures)} could not be read (named above)" if failures else ""
    print(f"{len(jobs) - len(failures)} of {len(jobs)} pictures predicted into {options.out}{failed}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
