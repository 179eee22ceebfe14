"""Show what the network is trained on: the augmented pictures of a step, their targets and pairs, on one sheet.

    python -m launch.samples --config configs/webstereo.yaml --out samples.png --step 40 data.augment.fit=letterbox

They are the very pictures that the run trains on at that step, whatever the number of processes and workers.
"""

import io
import sys
from itertools import islice
from pathlib import Path

from launch.arguments import CommandParser, add_config_arguments, read_recipe
from launch.cli import run_command

__all__ = ["main"]

SHOWN_KEYS = (
    "data.train",
    "data.pairs",
    "data.num_pairs",
    "data.sampler",
    "data.augment.crop_scale_min",
    "data.augment.fit",
    "data.augment.brightness",
    "data.augment.blur_probability",
    "data.augment.jpeg_probability",
    "train.size",
    "train.batch_size",
    "train.seed",
)


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)
    if args.step < 1 or args.pictures < 1:
        parser.error("--step and --pictures are 1 or more")
    if args.out.suffix.lower() != ".png":
        parser.error(f"--out {args.out}: the sheet is a PNG; name a file that ends in .png")
    from pipeline.train.config import RunConfig

    config = read_recipe(args, needs=RunConfig).run_config()
    from PIL import Image

    from pipeline.data.loader import TrainStream
    from pipeline.eval.sample_sheet import sample_sheet
    from shards.errors import ConfigError

    # A position alone decides what its picture looks like: in steps of one sample, only those shown are prepared.
    stream = TrainStream(
        config.data.model_copy(update={"num_workers": 0}),
        size_hw=config.train.size,
        seed=config.train.seed,
        batch_size=1,
        micro_batch_size=None,
        rank=0,
        world_size=1,
    )
    first, number = (args.step - 1) * config.train.batch_size, min(args.pictures, config.train.batch_size)
    batches = [batch for step in islice(stream.steps(first), number) for batch in step]
    stream.close()
    written = io.BytesIO()
    Image.fromarray(sample_sheet(batches)).save(written, "PNG")
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_bytes(written.getvalue())
    except OSError as error:
        raise ConfigError(f"--out {args.out}: cannot write there: {error.strerror}; name another file") from error
    print(f"{args.out}: {number} of the {config.train.batch_size} pictures of step {args.step}")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank samples", description="A sheet of the augmented pictures that a step trains on."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="where to write the sheet")
    parser.add_argument("--step", type=int, default=1, metavar="N", help="training step, counted from 1 (default: 1)")
    parser.add_argument(
        "--pictures", type=int, default=8, metavar="K", help="show the first K of the step's pictures (default: 8)"
    )
    add_config_arguments(parser, SHOWN_KEYS)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
