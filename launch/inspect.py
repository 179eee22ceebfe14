"""Look into a dataset of shards, check it, and make new ones from finished ones.

    python -m launch.inspect runs/web-shards                                  # figures and a contact sheet
    python -m launch.inspect runs/web-shards --verify                         # is every byte as it was packed?
    python -m launch.inspect FOLDER --reindex                                 # foreign WebDataset tars
    python -m launch.inspect runs/all --split --val-share 0.1 --out runs/new
    python -m launch.inspect --merge runs/a runs/b --out runs/both

Exit code: 0 all is well, 1 `--verify` found damage, 2 the command could not be carried out.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from launch.cli import run_command
from launch.command_parser import CommandParser
from shards.progress import Progress

if TYPE_CHECKING:
    from shards.rearrange import Rearranged

__all__ = ["main"]

EXIT_DAMAGED = 1
MAX_LIST_BYTES = 1 << 26
MIN_SHARD_BYTES = 64 * 1024


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)
    _check(parser, args)
    if args.verify:
        return _verify(args.dataset[0])
    if args.reindex:
        return _reindex(args.dataset[0])
    if args.split:
        return _split(args)
    if args.merge:
        return _merge(args)
    return _show(args.dataset[0], args.limit, args.sheet)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank inspect",
        description="Look into a dataset of shards; check it; index foreign tars; split and merge.\n"
        "Without one of --verify, --reindex, --split, --merge: print figures and write a contact sheet.",
    )
    parser.add_argument("dataset", nargs="+", metavar="DATASET", help="folder or fsspec URL; --merge takes several")
    look = parser.add_argument_group("figures and contact sheet")
    look.add_argument("--limit", type=int, metavar="N", help="look at N samples, evenly spread, instead of all")
    look.add_argument(
        "--sheet",
        metavar="FILE",
        help="write the contact sheet to this JPEG (default: DATASET/contact_sheet.jpg, unless it is there)",
    )
    work = parser.add_mutually_exclusive_group()
    work.add_argument(
        "--verify", action="store_true", help="read every byte, name what is damaged; exit code 1 if anything is"
    )
    work.add_argument(
        "--reindex",
        action="store_true",
        help="make the WebDataset tars in the folder DATASET a dataset: write indexes and manifest beside them "
        "(val*.tar is the split val, others train)",
    )
    work.add_argument(
        "--split", action="store_true", help="copy DATASET to --out with train and val drawn anew, by share or list"
    )
    work.add_argument("--merge", action="store_true", help="copy several datasets into one at --out")
    new = parser.add_argument_group("with --split and --merge")
    new.add_argument("--out", metavar="URL", help="folder or fsspec URL of the new dataset")
    new.add_argument("--val-share", type=float, metavar="S", help="--split: share of val, drawn by the pictures' names")
    new.add_argument(
        "--val-list", metavar="FILE", help="--split: val is what this text file lists, a key or name a line"
    )
    new.add_argument("--prefixes", metavar="A,B", help="--merge: put before the keys, one a dataset: a-,b-")
    new.add_argument(
        "--shard-bytes", type=int, default=256 * 1024**2, metavar="N", help="size of a shard (default: %(default)s)"
    )
    parser.epilog = "exit code: 0 all is well, 1 --verify found damage, 2 the command could not be carried out"
    return parser


def _check(parser: CommandParser, args: argparse.Namespace) -> None:
    """Refuse options that belong to another action, which would otherwise be ignored without a word."""
    action = next((name for name in ("verify", "reindex", "split", "merge") if getattr(args, name)), None)
    belongs = {
        "limit": (None,),
        "sheet": (None,),
        "out": ("split", "merge"),
        "val_share": ("split",),
        "val_list": ("split",),
        "prefixes": ("merge",),
    }
    for name, actions in belongs.items():
        if getattr(args, name) is not None and action not in actions:
            needs = "no action" if actions == (None,) else " or ".join(f"--{wanted}" for wanted in actions)
            parser.error(f"--{name.replace('_', '-')} goes with {needs}")
    if action == "merge" and len(args.dataset) < 2:
        parser.error("--merge takes two datasets or more")
    if action != "merge" and len(args.dataset) > 1:
        parser.error(f"one DATASET, not {len(args.dataset)} (--merge takes several)")
    if action in ("split", "merge") and not args.out:
        parser.error(f"--{action} needs --out, the place of the new dataset")
    if action == "split" and (args.val_share is None) == (args.val_list is None):
        parser.error("--split needs one of --val-share and --val-list")
    if args.val_share is not None and not 0 <= args.val_share < 1:
        parser.error(f"--val-share {args.val_share}: must be 0 <= share < 1")
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit {args.limit}: must be 1 or more")
    if args.shard_bytes < MIN_SHARD_BYTES:
        parser.error(f"--shard-bytes {args.shard_bytes}: must be {MIN_SHARD_BYTES} or more")


def _show(url: str, limit: int | None, sheet_url: str | None) -> int:
    from shards.contact_sheet import ContactSheet
    from shards.errors import ConfigError, ShardError
    from shards.inspect import describe, inspect_dataset
    from shards.storage import exists, join, publish_bytes, shown

    if sheet_url is not None and exists(sheet_url):
        raise ConfigError(f"--sheet {shown(sheet_url)}: there is such a file; name another or remove it")
    beside = join(url, "contact_sheet.jpg")
    there = sheet_url is None and exists(beside)
    sheet = None if there else ContactSheet()
    with Progress("samples") as progress:
        found = inspect_dataset(
            url, limit=limit, sheet=sheet, progress=lambda done, total: progress.show(done, total, what="read")
        )
    print(describe(found))
    if sheet is not None:
        try:
            publish_bytes(sheet_url or beside, sheet.render())
        except ShardError as error:
            if sheet_url is not None:
                raise
            print(f"no contact sheet: {error}; choose a place with --sheet FILE", file=sys.stderr)
            return 0
    print(f"  contact sheet {shown(sheet_url or beside)}")
    return 0


def _verify(url: str) -> int:
    from shards.storage import shown
    from shards.verify import verify

    start = time.monotonic()
    with Progress("MB") as progress:
        report = verify(url, lambda done, total: progress.show(done // 10**6, total // 10**6, what="verified"))
    for damage in report.damage:
        print(f"damaged: {damage}")
    seconds = time.monotonic() - start
    what = f"{report.samples} samples in {report.files} files, {report.bytes / 1e6:.0f} MB, {seconds:.0f} s"
    if report.damage:
        print(f"{shown(url)}: DAMAGED, see the {len(report.damage)} lines above; copy or pack it again; good: {what}")
        return EXIT_DAMAGED
    print(f"{shown(url)}: good, {what}")
    return 0


def _reindex(url: str) -> int:
    from shards.reindex import reindex
    from shards.storage import shown

    with Progress("samples") as progress:
        report = reindex(url, lambda name, done: progress.show(done, None, what=f"indexed {name}"))
    for left_out in report.left_out:
        print(f"left out: {left_out}")
    for name, split in report.manifest.splits.items():
        print(f"{shown(url)}: {name}: {split.samples} samples, {len(split.shards)} tar files")
    if report.left_out:
        print(f"  {len(report.left_out)} samples were left out of the index (above); the tars are untouched")
    if "val" not in report.manifest.splits:
        print("  no tar is called val...; carve a val split with --split --val-share 0.1 --out NEW")
    return 0


def _split(args: argparse.Namespace) -> int:
    from shards.errors import ShardError
    from shards.rearrange import ByList, ByShare, split_dataset

    if args.val_list is None:
        rule: ByList | ByShare = ByShare(args.val_share)
    else:
        path = Path(args.val_list)
        try:
            if path.stat().st_size > MAX_LIST_BYTES:
                raise ShardError(f"{path}: larger than {MAX_LIST_BYTES} bytes, which is the most such a list may have")
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ShardError(f"{path}: cannot read the list: {getattr(error, 'strerror', None) or error}") from error
        rule = ByList([line.strip() for line in lines if line.strip()])
    with Progress("samples") as progress:
        made = split_dataset(
            args.dataset[0],
            args.out,
            rule,
            shard_bytes=args.shard_bytes,
            progress=lambda what, done, total: progress.show(done, total, what=what),
        )
    return _say_made(args.out, made)


def _merge(args: argparse.Namespace) -> int:
    from shards.rearrange import merge_datasets

    with Progress("samples") as progress:
        made = merge_datasets(
            args.dataset,
            args.out,
            shard_bytes=args.shard_bytes,
            prefixes=None if args.prefixes is None else args.prefixes.split(","),
            progress=lambda what, done, total: progress.show(done, total, what=what),
        )
    return _say_made(args.out, made)


def _say_made(out: str, made: "Rearranged") -> int:
    from shards.storage import shown

    counts = ", ".join(f"{entry.samples} {split}" for split, entry in sorted(made.manifest.splits.items()))
    print(f"{shown(out)}: {counts} samples")
    if made.straddling:
        print(f"  {len(made.straddling)} pictures of train look like one of val, which flatters validation:")
        for train, val in made.straddling[:10]:
            print(f"    {train}  like  {val}")
        more = f" ({len(made.straddling) - 10} more); " if len(made.straddling) > 10 else "  "
        print(f"  {more}--split --val-share keeps such pictures together")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
