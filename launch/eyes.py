"""Let a trained checkpoint vote on the pairs whose eye order packing could not decide; writes a decisions file.

    python -m launch.eyes --checkpoint runs/web --config configs/webstereo.yaml source.path=PICTURES \
        out=runs/web-shards --decisions eyes.json

`out` is the packed dataset whose rejects `eyes_undecided` are voted on, and the source is the one that it was packed
from. Give the file to the next packing (`shards.decisions=eyes.json out=NEW`), or look at it first on the review page.
"""

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING

from launch.arguments import CommandParser, add_config_arguments, read_recipe
from launch.cli import run_command

if TYPE_CHECKING:
    from shards.config import PackConfig
    from shards.sources import Item

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    parser = CommandParser(
        prog="depthrank eyes",
        description="A trained checkpoint votes on which picture is the left eye's, for the pairs that packing left\n"
        "out as eyes_undecided: it compares the order of its own depths with that of the disparity.",
    )
    parser.add_argument("--checkpoint", metavar="PATH", help="a run folder or a checkpoint")
    parser.add_argument("--decisions", metavar="FILE", help="decisions file to write; it must not exist yet")
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: auto: CUDA, else an Apple GPU, else cpu)",
    )
    add_config_arguments(parser, ("out", "source.kind", "source.path"))
    args = parser.parse_intermixed_args(argv)
    from shards.config import PackConfig

    config = read_recipe(args, needs=PackConfig).pack_config()
    return _vote(args, config)


def _vote(options: argparse.Namespace, config: "PackConfig") -> int:
    from pathlib import Path

    from pipeline.eval.device import choose_device
    from pipeline.eval.eye_vote import vote_on_pair
    from pipeline.eval.network import load_network
    from pipeline.eval.predict import Predictor
    from shards.decisions import Decision, Decisions, write_decisions
    from shards.errors import ConfigError, DecodeError
    from shards.manifest import read_manifest
    from shards.names import printable
    from shards.progress import Progress
    from shards.sources import StereoPair, open_source
    from shards.storage import exists, shown

    if options.checkpoint is None or options.decisions is None:
        raise ConfigError("--checkpoint PATH and --decisions FILE are needed")
    if exists(options.decisions):
        raise ConfigError(f"--decisions {shown(options.decisions)}: there is such a file; name another or remove it")
    fingerprint = read_manifest(config.out).fingerprint
    source = open_source(config.source)
    items = _undecided(config.out, source.items())
    device, reason = choose_device(options.device)
    loaded = load_network(Path(options.checkpoint), device)
    for refused in loaded.refused:
        print(f"passed over: {refused}", file=sys.stderr)
    print(f"{loaded.origin}, on {device} ({reason}): {len(items)} undecided pairs", file=sys.stderr, flush=True)
    predict = Predictor(loaded.net, device)
    votes: list[Decision] = []
    outcome: Counter[str] = Counter()
    progress = Progress("pairs")
    for number, item in enumerate(items):
        progress.show(number, len(items), what="voted on")
        name = printable(item.name)
        try:
            pair = source.load(item)
        except DecodeError as error:
            progress.say(f"no vote: {error}")
            outcome["unreadable"] += 1
            continue
        if not isinstance(pair, StereoPair):
            raise ConfigError(f"source.kind {config.source.kind}: its pictures are no stereo pairs")
        vote = vote_on_pair(pair.left, pair.right, predict, config.shards.match)
        if vote is None:
            progress.say(f"no vote: {name}: the pictures differ in size")
        outcome[vote.eyes if vote else "size_mismatch"] += 1
        if vote is not None and vote.eyes != "undecided":
            note = f"orders {vote.agreement:.0%} of the points as the disparity does, z {vote.z:+.1f}"
            votes.append(Decision(name=name, eyes=vote.eyes, by="checkpoint", note=note))
    progress.close()
    write_decisions(options.decisions, Decisions(dataset=fingerprint, decisions=tuple(votes)))
    counts = (
        ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in outcome.most_common()) or "none to vote on"
    )
    print(f"{shown(options.decisions)}: {len(votes)} of {len(items)} pairs decided ({counts})")
    return 0


def _undecided(url: str, items: "list[Item]") -> "list[Item]":
    """The items that the dataset lists as undecided; names that the source does not have are an error."""
    from shards.errors import SourceError
    from shards.names import printable
    from shards.review_entries import read_rejects
    from shards.storage import shown

    names = {entry.name for entry in read_rejects(url) if entry.reason == "eyes_undecided"}
    found = [item for item in items if printable(item.name) in names]
    if len(found) < len(names):
        absent = min(names - {printable(item.name) for item in found})
        raise SourceError(
            f"{shown(url)} lists {len(names)} undecided pairs, of which the source has {len(found)} (not {absent}); "
            "give the source that it was packed from"
        )
    return found


if __name__ == "__main__":
    sys.exit(run_command(main))
