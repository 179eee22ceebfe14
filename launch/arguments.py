"""What the commands that read a recipe share on their command line: --config, --print-config and overrides.

parser = CommandParser(prog="depthrank train", description=...)
add_config_arguments(parser, TRAIN_KEYS)
args = parser.parse_intermixed_args(argv)
config = read_recipe(args, needs=RunConfig).run_config()
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence

from pydantic_core import PydanticUndefined

from launch.command_parser import CommandParser
from launch.config.report import write_value
from launch.config.schema import bounds, choices, help_text, keys, tag_key, tags
from launch.recipe import Recipe, load_recipe
from model.config import Section

__all__ = ["PACK_KEYS", "TRAIN_KEYS", "CommandParser", "add_config_arguments", "read_recipe"]

PACK_KEYS = (
    "out",
    "source.kind",
    "source.path",
    "source.eyes",
    "shards.long_side_px",
    "shards.shard_bytes",
    "shards.val_share",
    "shards.workers",
    "shards.pairs.num_pairs",
)
TRAIN_KEYS = (
    "run",
    "data.train",
    "data.val",
    "data.limit",
    "data.num_workers",
    "model.encoder",
    "model.encoder_weights",
    "model.decoder_channels",
    "loss.name",
    "optim.name",
    "optim.lr",
    "optim.schedule",
    "train.steps",
    "train.epochs",
    "train.batch_size",
    "train.micro_batch_size",
    "train.size",
    "train.seed",
    "train.threads",
    "train.precision",
    "checkpoint.every_steps",
    "checkpoint.resume",
    "checkpoint.init_from",
    "session.max_hours",
)
_WIDTH = 100


def add_config_arguments(parser: argparse.ArgumentParser, shown_keys: Sequence[str]) -> None:
    """Add `--config FILE`, `--print-config` and overrides; `shown_keys` are the settings that `--help` lists."""
    parser.add_argument(
        "--config", metavar="FILE", help="YAML recipe; relative paths in it are relative to the current directory"
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the resolved recipe, each value with where it came from, and exit",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings that replace the recipe's: optim.lr=3e-4 train.size=[96,128] session.max_hours=null",
    )
    known = keys(Recipe)
    lines = ["most used settings with their defaults (all of them: --print-config):"]
    for key in shown_keys:
        field = known[key]
        default = field.get_default(call_default_factory=True)
        # A key that must be given shows none; at the top of a recipe that is null, as another command may not need it.
        required = default is PydanticUndefined or (default is None and "." not in key)
        section, _, name = key.rpartition(".")
        kinds = tags(known[section]) if section and tag_key(known[section]) == name else {}
        allowed = list(kinds) or choices(field)
        given = "" if required else f"={write_value(default)}"
        said = [
            help_text(field),
            f"One of {', '.join(allowed)}." if allowed else "",
            bounds(field),
        ]
        text = " ".join(part for part in said if part)
        lines += [f"  {key}{given}", *textwrap.wrap(text, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    parser.epilog = "\n".join(lines)


def read_recipe(args: argparse.Namespace, *, needs: type[Section]) -> Recipe:
    """The recipe that the arguments of `add_config_arguments` describe.

    With `--print-config` it is printed and the process ends with code 0; what `needs` requires may then be missing.

    Raises:
        ConfigError: every mistake, a line each.
    """
    loaded = load_recipe(args.config, args.overrides, needs=None if args.print_config else needs)
    for note in loaded.notes:
        print(f"note: {note}", file=sys.stderr)
    if args.print_config:
        print(loaded.text, end="")
        raise SystemExit(0)
    return loaded.recipe
