"""One HTML page about a run: curves, figures, pictures, data, settings, versions, checkpoints. It needs nothing else.

    python -m launch.report runs/web
    python -m launch.report /kaggle/input/my-run/run --out report.html

The run may train, be stopped, failed, finished or damaged: what is missing is named on the page.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from launch.cli import run_command
from launch.command_parser import CommandParser

if TYPE_CHECKING:
    from pipeline.eval.report.page import GalleryPart
    from pipeline.eval.report.run_folder import RunFolder

__all__ = ["main"]

PAGE_NAME = "report.html"
MAX_PICTURES = 24


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's); returns its exit code."""
    return _report(_parser().parse_args(argv))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank report",
        description="Write one HTML file about a run: curves, figures, pictures with wrong pairs, data, settings, "
        "versions, checkpoints. It opens anywhere, without a network, and names no host, user or folder.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder, in any state")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"the page, a name that ends in .html (default: RUN/{PAGE_NAME})"
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="network of the pictures (default: the finished one, else the newest checkpoint that verifies)",
    )
    parser.add_argument("--no-gallery", action="store_true", help="no pictures: quick, loads no network")
    parser.add_argument(
        "--pictures",
        type=int,
        default=8,
        metavar="N",
        help=f"validation pictures shown, the worst and random ones, up to {MAX_PICTURES} (default: 8)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random pictures (default: 0)")
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: auto: CUDA, else an Apple GPU, else cpu)",
    )
    return parser


def _report(options: argparse.Namespace) -> int:
    from shards.errors import ConfigError, RunError, ShardError
    from shards.storage import make_folder, publish_bytes

    if not 1 <= options.pictures <= MAX_PICTURES or options.seed < 0:
        raise ConfigError(f"--pictures must be 1 to {MAX_PICTURES} and --seed not negative")
    if options.no_gallery and options.checkpoint is not None:
        raise ConfigError("--checkpoint is the network of the pictures, and --no-gallery leaves them out; give one")
    _require_packages()
    from pipeline.eval.report.page import MAX_PAGE_BYTES, render_page
    from pipeline.eval.report.run_folder import read_run

    run = read_run(options.run)
    out = _place(options)
    part = _gallery(run, options)
    page = render_page(run, part, progress=lambda what: _say(f"{what} ...")).encode()
    if len(page) > MAX_PAGE_BYTES:
        raise RunError(f"the page would have {len(page) / 1e6:.1f} MB; show fewer --pictures")
    try:
        make_folder(str(out.parent))
        publish_bytes(str(out), page)
    except ShardError as error:
        raise RunError(f"the page was not written: {error}; name another file with --out") from error
    print(f"{out}: {len(page) / 1e6:.1f} MB; open it in a browser")
    return 0


def _require_packages() -> None:
    from importlib.util import find_spec

    from shards.errors import ConfigError

    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"a report needs {' and '.join(missing)}: pip install 'depthrank[report]'")


def _place(options: argparse.Namespace) -> Path:
    """Where the page goes; found out before minutes of work, not after."""
    from shards.errors import ConfigError, RunError

    out: Path = options.out or options.run / PAGE_NAME
    if out.suffix.lower() not in {".html", ".htm"}:
        raise ConfigError(f"--out {out}: the page is HTML; name a file that ends in .html")
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; name a file")
    if out.parent.is_dir() and not os.access(out.parent, os.W_OK):
        raise RunError(f"{out.parent} cannot be written to; say where the page shall go with --out FILE.html")
    return out


def _gallery(run: "RunFolder", options: argparse.Namespace) -> "GalleryPart":
    """The pictures; where they cannot be made, the page says why. A checkpoint that was asked for must be there."""
    from pipeline.eval.report.page import GalleryPart, data_config
    from shards.errors import CheckpointError, DataError

    if options.no_gallery:
        return GalleryPart(None, absence="left out by --no-gallery")
    data = data_config(run)
    if data is None or data.val is None:
        return GalleryPart(None, absence="the run has no validation set" if data else "the config names no data")
    from pipeline.eval.device import choose_device
    from pipeline.eval.network import load_network
    from pipeline.eval.report.gallery import MAX_JUDGED, make_gallery
    from shards.progress import Progress

    device, reason = choose_device(options.device)
    try:
        loaded = load_network(options.checkpoint or options.run, device)
    except CheckpointError as error:
        if options.checkpoint is not None:
            raise
        _say(f"no pictures: {error}")
        return GalleryPart(None, absence=f"no network: {error}")
    for refused in loaded.refused:
        _say(f"passed over: {refused}")
    _say(f"{loaded.origin}, on {device} ({reason})")
    name = loaded.origin.resolve().name
    network = f"{'The finished network' if name == options.run.resolve().name else name}, on {device.type}"
    with Progress("pictures") as progress:
        try:
            gallery = make_gallery(
                loaded.net,
                device,
                data,
                pictures=options.pictures,
                seed=options.seed,
                progress=lambda judged, total: progress.show(judged, total, what="judged"),
            )
        except DataError as error:
            _say(f"no pictures: {error}")
            return GalleryPart(None, network, f"the validation set cannot be read: {error}", loaded.refused)
    _say(f"{gallery.judged} validation pictures judged (the first {MAX_JUDGED} at most)")
    return GalleryPart(gallery, network, refused=loaded.refused)


def _say(line: str) -> None:
    """Progress goes to stderr."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
