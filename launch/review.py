"""Write a page on which a person looks through the pairs of a dataset and decides the doubtful ones.

    python -m launch.review runs/web-shards

Open `review-web-shards/index.html` in a browser; the decisions that it downloads are an input of the next packing.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launch.cli import run_command
from launch.command_parser import CommandParser

if TYPE_CHECKING:
    from shards.format import Sample
    from shards.manifest import Manifest
    from shards.progress import Progress
    from shards.review_entries import Entry

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    return _review(_parser().parse_args(argv))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank review",
        description="A local page with picture, partner, disparity, verdict and figures of each pair; keep, drop or "
        "swap the eyes by keyboard. It needs no network and no server.",
    )
    parser.add_argument("dataset", metavar="DATASET", help="folder or fsspec URL of a dataset of shards")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to write the page (default: review-NAME in this folder)"
    )
    return parser


def _review(options: argparse.Namespace) -> int:
    from shards.config import QualityConfig
    from shards.manifest import read_manifest
    from shards.progress import Progress
    from shards.review import write_review
    from shards.review_entries import PREVIEWS_NAME, read_previews, read_samples
    from shards.storage import exists, join, shown

    manifest = read_manifest(options.dataset)
    name = shown(options.dataset).rstrip("/").rpartition("/")[2] or "dataset"
    out = options.out or Path("review-" + re.sub(r"[^A-Za-z0-9._-]+", "-", name))
    if exists(join(options.dataset, PREVIEWS_NAME)):
        entries = read_previews(options.dataset)
    else:
        print(
            f"note: {shown(options.dataset)} has no {PREVIEWS_NAME}: the samples are shown without their partners, the "
            "rejects without pictures; pack again to see all of them",
            file=sys.stderr,
        )
        entries = read_samples(_samples(options.dataset, manifest), options.dataset)
    thresholds = QualityConfig().model_dump() | _packed_with(manifest)
    total = sum(split.samples for split in manifest.splits.values()) + sum(manifest.rejects.values())
    with Progress("pairs") as progress:
        shown_entries = _counted(entries, total, progress)
        summary = write_review(out, name, manifest.fingerprint, shown_entries, thresholds)
    rejected = summary.rejected.total()
    print(f"{summary.page}: {summary.accepted} pairs accepted, {rejected} rejected; open it in a browser")
    if summary.without_picture:
        print(f"  {summary.without_picture} of them have no picture to show")
    return 0


def _counted(entries: "Iterable[Entry]", total: int, progress: "Progress") -> "Iterator[Entry]":
    for number, entry in enumerate(entries, 1):
        yield entry
        progress.show(min(number, total), total, what="written")


def _samples(url: str, manifest: "Manifest") -> Iterator[tuple[str, "Sample"]]:
    from shards.format import read_sample
    from shards.reading import stored_samples

    for split, entry in manifest.splits.items():
        for stored in stored_samples(url, split, entry):
            yield split, read_sample(stored.key, stored.members)


def _packed_with(manifest: "Manifest") -> dict[str, object]:
    """Thresholds of quality that the manifest records; none where other software made the dataset."""
    settings = manifest.config.get("shards")
    quality = settings.get("quality") if isinstance(settings, dict) else None
    return quality if isinstance(quality, dict) else {}


if __name__ == "__main__":
    sys.exit(run_command(main))
