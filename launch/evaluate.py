"""Measure how well networks order depth, beside baselines that look at no picture and figures that others published.

    python -m launch.evaluate --checkpoint runs/web --data gt=/data/gt shards=runs/web-shards
    python -m launch.evaluate --checkpoint runs/a runs/b --data diw=/data/DIW nyu=/data/nyu --flip --out compared

Prints tables and, as the last line of the output, their record as JSON. Stores the record (`results.json`), the figures
of each picture (`images.csv`) and pictures of the worst cases (`worst/`). What each figure means: docs/evaluation.md.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launch.cli import run_command
from launch.command_parser import CommandParser
from launch.inference_options import add_inference_options, chosen_inference
from pipeline.imports import import_torch

__all__ = ["main"]

FOLDER_NAME = "evaluation"


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's); returns its exit code."""
    return _evaluate(_parser().parse_args(argv))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank evaluate",
        description="WHDR: the share of point pairs whose order of depth is wrong, in percent; lower is better.",
    )
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="run folders, checkpoints (RUN/checkpoints/step_NNNNNNNN) or the official model.pth.tar of CVPR 2020; "
        "without any, the baselines alone",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="KIND=WHERE",
        help="gt=FOLDER with ground truth, diw=PATH (official: 320x240) or diw_own=PATH (at the picture's size), "
        "nyu=PATH (ordinal lists), da2k=PATH, shards=URL (its validation pairs), synthetic=COUNT rendered test scenes",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help=f"where results.json, images.csv and worst/ go; default: {FOLDER_NAME} in the run folder of the first "
        f"checkpoint, or FILE.{FOLDER_NAME} beside it if that is a file; a name that ends in .json is a file, into "
        "which the record alone goes",
    )
    parser.add_argument(
        "--worst", type=int, default=8, metavar="N", help="worst pictures drawn for each network and data (default: 8)"
    )
    parser.add_argument(
        "--num-pairs",
        type=int,
        default=10_000,
        metavar="N",
        help="pairs drawn a picture where the truth is dense (default: 10000)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of these pairs and scenes, and of the intervals (default: 0)"
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: auto: CUDA, else an Apple GPU, else cpu)",
    )
    add_inference_options(parser)
    return parser


def _evaluate(options: argparse.Namespace) -> int:
    import_torch()
    from pipeline.eval.baselines import BASELINES
    from pipeline.eval.compare import compare
    from pipeline.eval.device import choose_device
    from pipeline.eval.evaluation_folder import WORST_NAME, save_evaluation
    from pipeline.eval.network import load_network
    from pipeline.eval.predict import Predictor
    from pipeline.eval.protocols.opening import open_data
    from pipeline.eval.whdr import Predict
    from pipeline.eval.worst import clear_worst, save_worst
    from shards.errors import ConfigError, RunError, ShardError
    from shards.progress import Progress
    from shards.storage import make_folder, publish_bytes

    started = time.perf_counter()
    if not 1 <= options.num_pairs <= 10_000_000 or options.seed < 0:
        raise ConfigError("--num-pairs must be 1 to 10000000 and --seed not negative")
    if not 0 <= options.worst <= 99:
        raise ConfigError("--worst must be 0 to 99")
    inference = chosen_inference(options)
    out = options.out or _default_out(options.checkpoint)
    device, reason = choose_device(options.device)
    data = [open_data(spec, num_pairs=options.num_pairs, seed=options.seed) for spec in dict.fromkeys(options.data)]
    networks: dict[str, Predict] = {}
    for name, path in _names(options.checkpoint).items():
        loaded = load_network(path, device)
        for refused in loaded.refused:
            _say(f"passed over: {refused}")
        _say(f"{name}: {loaded.origin}, on {device} ({reason}), {inference.describe()}")
        networks[name] = Predictor(loaded.net, device, inference=inference)
    comparison = compare({**networks, **BASELINES}, data, seed=options.seed, report=_say)
    record = {
        **comparison.record(),
        "seed": options.seed,
        "inference": inference.describe(),
        "seconds": round(time.perf_counter() - started, 1),
    }
    line = json.dumps(record, allow_nan=False)
    print(comparison.table(), flush=True)  # the work is done: it shall not be lost where the record cannot be written
    try:
        if out.suffix == ".json":
            make_folder(str(out.parent))
            publish_bytes(str(out), line.encode() + b"\n")
        else:
            save_evaluation(out, comparison, record)
            clear_worst(out / WORST_NAME)
            with Progress("sets") as progress:
                for number, (part, benchmark) in enumerate(zip(comparison.parts, data, strict=True), 1):
                    progress.show(number - 1, len(data), what="drawing the worst pictures of")
                    folder = out / WORST_NAME / f"{number:02d}_{benchmark.kind}"
                    save_worst(part.scores, benchmark, networks, folder, options.worst)
    except (ShardError, OSError) as error:
        raise RunError(f"the figures above were not stored: {error}; name another place with --out") from error
    print(f"stored as {out}\n{line}")
    return 0


def _names(paths: Sequence[Path]) -> dict[str, Path]:
    """Name of each network in the table: its run's, with the step for a checkpoint; the path where that is taken."""
    names: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        folder = path.resolve()
        name = f"{folder.parents[1].name} {folder.name}" if folder.parent.name == "checkpoints" else folder.name
        names[str(path) if name in names else name] = path
    return names


def _default_out(checkpoints: Sequence[Path]) -> Path:
    from shards.errors import ConfigError

    if not checkpoints:
        raise ConfigError("--out FOLDER: say where to store the figures, as no checkpoint is given")
    folder = checkpoints[0]
    if folder.is_file():
        return folder.with_name(f"{folder.name}.{FOLDER_NAME}")
    inside_a_run = folder.resolve().parent.name == "checkpoints"
    return (folder.resolve().parents[1] if inside_a_run else folder) / FOLDER_NAME


def _say(line: str) -> None:
    """Progress goes to stderr: the output ends with the record."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
