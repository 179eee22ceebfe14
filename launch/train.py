"""Train a network, or go on with a run that was stopped or killed.

    python -m launch.train --config configs/demo.yaml train.steps=200
    accelerate launch -m launch.train --config configs/webstereo.yaml
    torchrun --nproc_per_node 2 -m launch.train --config configs/webstereo.yaml

Every process of a launcher runs the same code. A run that stops in order ends with exit code 0, as launchers turn any
other into restarts; `python -m launch.status RUN` says whether there is more to do.
"""

import logging
import os
import shlex
import sys

from launch.arguments import TRAIN_KEYS, CommandParser, add_config_arguments, read_recipe
from launch.cli import run_command
from pipeline.imports import import_torch

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's); 0 the run is finished or stopped."""
    arguments = sys.argv[1:] if argv is None else argv
    args = _parser().parse_intermixed_args(arguments)
    from pipeline.train.config import RunConfig

    config = read_recipe(args, needs=RunConfig).run_config()
    import_torch("accelerate")
    is_main = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(format="%(message)s", level=logging.INFO if is_main else logging.ERROR, stream=sys.stdout)
    if args.dry_run:
        from pipeline.train.plan import plan

        text = str(plan(config))  # every process takes part
        if is_main:
            print(text)
        return 0
    from pipeline.train.trainer import train

    train(config, command=f"{_launcher()} -m launch.train {shlex.join(map(_without_credentials, arguments))}")
    return 0


def _without_credentials(argument: str) -> str:
    """The argument as it may be stored with the run: the URLs of an override lose user, password and query."""
    from launch.config.report import write_value
    from launch.config.yaml_loader import parse_value
    from shards.storage import shown

    def clean(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(map(clean, value))
        if isinstance(value, dict):
            return {name: clean(item) for name, item in value.items()}
        return shown(value) if isinstance(value, str) else value

    key, equals, written = argument.partition("=")
    if not equals:
        return argument
    value, _ = parse_value(written)
    return f"{key}={write_value(clean(value)) if isinstance(value, tuple | dict) else shown(written)}"


def _launcher() -> str:
    """What started this process, as it has to be typed to go on in the same way."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    if "TORCHELASTIC_RUN_ID" in os.environ and processes != "1":
        return f"torchrun --nproc_per_node {processes}"
    return "accelerate launch" if "ACCELERATE_DYNAMO_BACKEND" in os.environ else "python"


def _parser() -> CommandParser:
    parser = CommandParser(prog="depthrank train", description="Train a network on shards, or go on with a run.")
    add_config_arguments(parser, TRAIN_KEYS)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, take one step, write nothing, print the plan: steps, epochs, hours, sessions",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
