"""The options by which `evaluate` and `predict` ask a network, for argparse.

add_inference_options(parser)
inference = chosen_inference(parser.parse_args())
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.eval.inference import Inference

__all__ = ["add_inference_options", "chosen_inference"]


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    """Add `--flip`, `--scales` and `--long-side`."""
    group = parser.add_argument_group("how the network is asked")
    group.add_argument("--flip", action="store_true", help="average with the mirrored picture (twice the time)")
    group.add_argument(
        "--scales",
        default="1",
        metavar="A,B,...",
        help="average over these sizes, as factors of each side, such as 0.75,1,1.25 (default: 1)",
    )
    group.add_argument(
        "--long-side",
        type=int,
        metavar="N",
        help="long side in pixels of what the network sees, aspect kept, both sides to multiples of 32; "
        "default: the area it was trained on",
    )


def chosen_inference(options: argparse.Namespace) -> "Inference":
    """The options as given.

    Raises:
        ConfigError: one is malformed or out of range.
    """
    from pipeline.eval.inference import Inference
    from shards.errors import ConfigError

    try:
        scales = tuple(float(part) for part in options.scales.split(","))
    except ValueError:
        raise ConfigError(f"--scales {options.scales}: give factors with commas between, such as 0.75,1,1.25") from None
    return Inference(flip=options.flip, scales=scales, long_side_px=options.long_side)
