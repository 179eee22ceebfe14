"""The study: does ranking from web stereo work, and how well? Packs, trains, measures and writes a page.

    python -m launch.study --preset cpu --max-hours 1
    python -m launch.study --only losses,pairs model.encoder_weights=RESNET50.safetensors
    python -m launch.study --page-only

Killed or stopped at any moment, the same command carries on: each run is an ordinary resumable run of `launch.train`,
and finished ones are skipped. Every word of the page about a result is written from the stored results.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from launch.arguments import CommandParser
from launch.cli import EXIT_DIVERGED, run_command

if TYPE_CHECKING:
    from launch.recipe import Recipe
    from pipeline.eval.protocols.base import Benchmark
    from pipeline.study.conduct import Ended
    from pipeline.study.plan import StudyRun
    from pipeline.study.progress import Places
    from pipeline.train.config import RunConfig

__all__ = ["main"]

PAGES = {"cpu": "docs/study.md", "gpu": "docs/study_gpu.md"}


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    args = _parser().parse_intermixed_args(arguments)
    from pipeline.study.plan import plan
    from pipeline.study.progress import Places, state_of
    from shards.errors import ConfigError

    if args.max_hours is not None and not args.max_hours > 0:
        raise ConfigError("--max-hours must be positive")
    _require_packages()
    recipe = _recipe(args)
    places = Places(args.out, args.preset)
    runs = plan(args.preset, args.only, lr=recipe.optim.lr)
    own = partial(_own_settings, places, validates=recipe.data is not None and recipe.data.val is not None)
    configure = partial(_configure, args, own)
    if args.plan:
        for run in runs:
            settings = " ".join(f"{key}={value}" for key, value in run.settings.items())
            print(f"{state_of(run, configure(run), places):8} {run.name:22} on {run.shards:10} {settings}")
        return 0
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    ended = None if args.page_only else _conduct(args, places, runs, configure, own)
    _write_page(args, places, runs, recipe, _command(arguments))
    if ended is None:
        return 0
    _say_end(ended, arguments)
    return EXIT_DIVERGED if ended.diverged else 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m launch.study",
        description="Train the losses and settings of the paper on web stereo pictures, measure them, write a page.",
        epilog="exit code: 0 the study is complete or stopped in order (its last lines say which), 1 a run diverged, "
        "2 the command could not be carried out",
    )
    parser.add_argument(
        "--preset",
        choices=tuple(PAGES),
        default="cpu",
        help="cpu: 128x128, few steps; gpu: 384x384, all experiments with three seeds (default: %(default)s)",
    )
    parser.add_argument("--config", metavar="FILE", help="base recipe (default: configs/study_PRESET.yaml)")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAMES",
        help="experiments, with commas: losses, pairs, size, cleaning, augment, rate (default: all, in this order)",
    )
    parser.add_argument("--pictures", metavar="PATH", help="web stereo pairs (default: the recipe's source.path)")
    parser.add_argument(
        "--truth",
        metavar="FOLDER",
        help="folder of measured depth (docs/sources.md), or `none` (default: gt beside the pictures, where it exists)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/study"), metavar="FOLDER", help="for everything (default: %(default)s)"
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="the page (default: docs/study.md, docs/study_gpu.md)"
    )
    parser.add_argument("--max-hours", type=float, metavar="H", help="stop in order after so many hours")
    parser.add_argument("--plan", action="store_true", help="print the runs and how far each is, and exit")
    parser.add_argument(
        "--page-only", action="store_true", help="write the page from the stored results, train nothing"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings of every run: model.encoder_weights=FILE train.steps=200",
    )
    return parser


def _require_packages() -> None:
    from importlib.util import find_spec

    from shards.errors import ConfigError

    if find_spec("matplotlib") is None:
        raise ConfigError("the page's pictures need matplotlib: pip install 'depthrank[report]'")


def _recipe(args: argparse.Namespace, *overrides: str) -> "Recipe":
    from launch.recipe import load_recipe
    from pipeline.train.config import RunConfig

    path = args.config or f"configs/study_{args.preset}.yaml"
    source = [f"source.path={args.pictures}"] if args.pictures else []
    return load_recipe(path, [*source, *args.overrides, *overrides], needs=RunConfig).recipe


def _configure(args: argparse.Namespace, own: "Callable[[StudyRun], list[str]]", run: "StudyRun") -> "RunConfig":
    """The settings of a run: the recipe, the user's overrides, then what the plan says."""
    budget = [] if args.max_hours is None else [f"session.max_hours={args.max_hours}"]
    return _recipe(args, *budget, *own(run)).run_config()


def _own_settings(places: "Places", run: "StudyRun", *, validates: bool) -> list[str]:
    """What a run sets on top of the recipe and the user's overrides."""
    from pipeline.study.plan import CLEANED

    return [
        f"run={places.run(run.name)}",
        f"data.train={places.dataset(run.shards)}",
        *([f"data.val={places.dataset(CLEANED)}"] if validates else []),
        *(f"{key}={value}" for key, value in run.settings.items()),
    ]


def _conduct(
    args: argparse.Namespace,
    places: "Places",
    runs: "tuple[StudyRun, ...]",
    configure: "Callable[[StudyRun], RunConfig]",
    own: "Callable[[StudyRun], list[str]]",
) -> "Ended":
    """Pack, train and judge as far as the budget allows."""
    from pipeline.study.conduct import Ended, conduct
    from pipeline.study.judging import judge_baselines, judge_run
    from pipeline.study.plan import CLEANED
    from pipeline.study.progress import state_of
    from pipeline.train.config import SessionConfig
    from pipeline.train.session import Interrupted, Session
    from pipeline.train.trainer import train
    from shards.storage import make_folder

    make_folder(str(places.results))
    limits = SessionConfig(max_hours=args.max_hours)

    def prepare(name: str) -> None:
        with Session(limits, args.out) as session, session.interruptible():
            _prepare(args, places, name)

    def judge(run: "StudyRun") -> None:
        with Session(limits, args.out) as session, session.interruptible():
            judge_run(run, places, _benchmarks(args, places))

    try:
        prepare(CLEANED)
        for name in dict.fromkeys(run.shards for run in runs):
            _is_made(args, places, name)  # what cannot be used is said now, not hours later
        with Session(limits, args.out) as session, session.interruptible():
            judge_baselines(places, _benchmarks(args, places))
    except Interrupted as wish:
        left = tuple(run.name for run in runs if state_of(run, configure(run), places) != "judged")
        ended = Ended(left, (), str(wish))
    else:
        ended = conduct(
            runs,
            places,
            configure=configure,
            prepare=prepare,
            train=lambda run, config: train(config, command=_train_command(args, own(run))),
            judge=judge,
            say=lambda line: print(f"\n{line}", flush=True),
        )
    if ended.reason:
        (args.out / limits.stop_file).unlink(missing_ok=True)  # it stops this start, not the next one as well
    return ended


def _is_made(args: argparse.Namespace, places: "Places", name: str) -> bool:
    """Whether a dataset is complete.

    Raises:
        ShardError: Another dataset lies in its place, made with other settings or from other pictures.
    """
    from pipeline.study.plan import CLEANED, PACKING, SUBSETS
    from pipeline.study.subsets import is_drawn
    from shards.errors import ShardError
    from shards.finished import differing
    from shards.manifest import MANIFEST_NAME, read_manifest
    from shards.pack import dataset_settings

    folder = places.dataset(name)
    if name in SUBSETS:
        return is_drawn(str(places.dataset(CLEANED)), str(folder))
    if not (folder / MANIFEST_NAME).exists():
        return False
    recipe = _recipe(args, f"out={folder}", *PACKING[name])
    if recipe.source is None:  # it only trains on what another recipe packed
        return True
    changed = differing(read_manifest(str(folder)).config, dataset_settings(recipe.pack_config()))
    if changed:
        raise ShardError(
            f"{folder} was packed with other settings ({', '.join(changed)}); give those (and --pictures) as before, "
            "or start a new study with --out FOLDER"
        )
    return True


def _prepare(args: argparse.Namespace, places: "Places", name: str) -> None:
    """Pack a dataset, or draw it from another one, unless it is complete.

    Raises:
        ShardError: Another dataset lies in its place.
        SourceError: The pictures are not there.
    """
    from launch import shards
    from pipeline.study.plan import CLEANED, PACKING, SUBSETS
    from pipeline.study.subsets import write_subset
    from shards.errors import SourceError

    if _is_made(args, places, name):
        return
    folder = str(places.dataset(name))
    print(f"\nmaking the dataset {folder}; it is kept for later", flush=True)
    if name in SUBSETS:
        print(f"{write_subset(str(places.dataset(CLEANED)), folder, SUBSETS[name])} training pictures", flush=True)
        return
    source = [f"source.path={args.pictures}"] if args.pictures else []
    config = args.config or f"configs/study_{args.preset}.yaml"
    try:
        shards.main(["--config", config, *source, *args.overrides, f"out={folder}", *PACKING[name]])
    except SourceError as error:
        raise SourceError(f"{error}; --pictures PATH names another collection of web stereo pairs") from error


def _benchmarks(args: argparse.Namespace, places: "Places") -> "list[Benchmark]":
    from pipeline.eval.protocols.opening import open_data
    from pipeline.study.plan import CLEANED
    from shards.storage import home_path

    data = [open_data(f"shards={places.dataset(CLEANED)}")]
    truth = args.truth
    if truth is None:
        source = _recipe(args).source
        beside = home_path(getattr(source, "path", "")).parent / "gt"
        truth = str(beside) if (beside / "index.json").is_file() else "none"
    if truth != "none":
        data.append(open_data(f"gt={truth}"))
    return data


def _train_command(args: argparse.Namespace, own: list[str]) -> str:
    """One run as a user would type it."""
    config = args.config or f"configs/study_{args.preset}.yaml"
    line = ["--config", config, *args.overrides, *own]
    command = f"python -m launch.train {shlex.join(line)}"
    print(f"$ {command}", flush=True)
    return command


def _write_page(
    args: argparse.Namespace, places: "Places", runs: "tuple[StudyRun, ...]", recipe: "Recipe", command: str
) -> None:
    from pipeline.eval.report.privacy import public
    from pipeline.study.analysis import Study
    from pipeline.study.page import Facts
    from pipeline.study.plan import CLEANED, arms, chosen
    from pipeline.study.progress import stored_results
    from pipeline.study.publish import publish_page
    from shards.manifest import read_manifest

    study = Study(stored_results(places))
    if not any(result.seed is not None for result in study.results):
        print("no run is judged yet, so there is no page", flush=True)
        return
    page = args.page or Path(PAGES[args.preset])
    known = arms(recipe.optim.lr)
    manifest = read_manifest(str(places.dataset(CLEANED)))
    judged = {result.name for result in study.results}
    assert recipe.train is not None
    assert recipe.data is not None
    facts = Facts(
        preset=args.preset,
        command=public(command),
        config=public(args.config or f"configs/study_{args.preset}.yaml"),
        setting={
            "steps": recipe.train.steps or f"of {recipe.train.epochs:g} epochs",
            "batch": recipe.train.batch_size,
            "input": "x".join(map(str, recipe.train.size)),
            "encoder": recipe.model.encoder,
            "decoder channels": recipe.model.decoder_channels,
            "rate": f"{recipe.optim.lr:g} (encoder x {recipe.optim.encoder_lr_ratio:g})",
            "pairs": recipe.data.num_pairs,
        },
        batch_size=recipe.train.batch_size,
        accepted={split: entry.samples for split, entry in manifest.splits.items()},
        rejects=manifest.rejects,
        left=[run.name for run in runs if run.name not in judged],
    )
    publish_page(page, study, facts, chosen(args.only), known)
    print(f"\nwrote {page}", flush=True)


def _command(arguments: list[str]) -> str:
    """What makes these results, as typed."""
    return f"python -m launch.study {shlex.join(word for word in arguments if word != '--page-only')}"


def _say_end(ended: "Ended", arguments: list[str]) -> None:
    for name in ended.diverged:
        print(f"{name}: loss or gradients were not finite; the page goes without it")
    if ended.left:
        why = f" ({ended.reason})" if ended.reason else ""
        print(f"{len(ended.left)} runs are left{why}: {' '.join(ended.left)}")
        print(f"go on with: {_command(arguments)}")
    else:
        print("the study is complete")


if __name__ == "__main__":
    sys.exit(run_command(main))
