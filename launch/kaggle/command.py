"""Prepare uploads for Kaggle, and chain versions of the notebook until the run is finished.

    python -m launch.kaggle code --dataset ME/depthrank-code --out upload/code
    python -m launch.kaggle shards runs/web-shards --dataset ME/web-shards --out upload/shards
    python -m launch.kaggle kernel --kernel ME/run --dataset ME/depthrank-code --dataset ME/web-shards --out kernel
    python -m launch.kaggle chain  --kernel ME/run --dataset ME/depthrank-code --dataset ME/web-shards

docs/kaggle.md leads through them.
"""

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from launch.arguments import CommandParser
from launch.kaggle.settings import Settings
from shards.errors import ConfigError

if TYPE_CHECKING:
    from launch.kaggle.chain import Chain

__all__ = ["main"]

MIN_POLL_SECONDS = 10.0
CODE = "The program as a Kaggle dataset: wheels, recipes, encoder weights."
SHARDS = "A dataset of shards as a Kaggle dataset."
NOTEBOOK = "Write the notebook."
KERNEL = "Write the notebook and kernel-metadata.json, for `kaggle kernels push`."
CHAIN = "Push, wait, and push the next version with the last output attached, until the run is finished."


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    return run(args)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank kaggle", description="Training on Kaggle: prepare uploads, chain versions of the notebook."
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, parser_class=CommandParser)
    _add_code(actions.add_parser("code", help=CODE, description=CODE))
    _add_shards(actions.add_parser("shards", help=SHARDS, description=SHARDS))
    _add_notebook(actions.add_parser("notebook", help=NOTEBOOK, description=NOTEBOOK))
    _add_kernel(actions.add_parser("kernel", help=KERNEL, description=KERNEL))
    _add_chain(actions.add_parser("chain", help=CHAIN, description=CHAIN))
    parser.epilog = "depthrank kaggle ACTION --help says more; docs/kaggle.md leads through them"
    return parser


def _add_code(parser: argparse.ArgumentParser) -> None:
    _add_upload(parser)
    parser.add_argument(
        "--recipe",
        type=Path,
        action="append",
        metavar="FILE",
        help="recipe to take along, repeatable (default: configs/kaggle_t4x2.yaml)",
    )
    parser.add_argument("--file", type=Path, action="append", default=[], metavar="FILE", help="more files, repeatable")
    parser.add_argument(
        "--wheel",
        action="append",
        default=[],
        metavar="NAME",
        help="requirement to download for the image, or the file of a wheel, besides webdataset and braceexpand",
    )
    parser.add_argument(
        "--encoder-weights",
        metavar="ENCODER",
        help="take torchvision's ImageNet weights along as ENCODER-imagenet.safetensors, where there is no internet",
    )
    parser.add_argument("--python", default="3.12", metavar="X.Y", help="Python of the image (default: %(default)s)")
    parser.set_defaults(run=_code)


def _add_shards(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SHARDS", help="folder of the dataset of shards")
    _add_upload(parser)
    parser.add_argument("--license", default="unknown", metavar="NAME", help="Kaggle's name (default: %(default)s)")
    parser.set_defaults(run=_shards)


def _add_notebook(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a name that ends in .ipynb")
    _add_settings(parser)
    parser.set_defaults(run=_notebook)


def _add_kernel(parser: argparse.ArgumentParser) -> None:
    _add_attached(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write them to")
    parser.add_argument("--goes-on", action="store_true", help="attach the notebook's own latest output")
    parser.set_defaults(run=_kernel)


def _add_chain(parser: argparse.ArgumentParser) -> None:
    _add_attached(parser)
    parser.add_argument("--out", type=Path, default=Path("runs/kaggle"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--max-versions", type=int, default=10, metavar="N", help="push so many (default: %(default)s)")
    parser.add_argument(
        "--poll-seconds", type=float, default=300, metavar="S", help="between looks (default: %(default)s)"
    )
    parser.add_argument("--after-failure", action="store_true", help="push although the latest version failed")
    parser.epilog = "exit code: 0 finished, 75 more to do (start it again), 1 the run failed, 2 something to mend"
    parser.set_defaults(run=_chain)


def _add_upload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, metavar="OWNER/SLUG", help="the dataset on Kaggle")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder, to be uploaded")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(f"{item.name} ({item.metadata['help']})" for item in fields(Settings) if item.name != "overrides")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help=f"setting of the first cell: {names}"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the recipe's")


def _add_attached(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernel", required=True, metavar="OWNER/SLUG", help="the notebook on Kaggle")
    parser.add_argument(
        "--dataset",
        action="append",
        required=True,
        metavar="OWNER/SLUG",
        help="attached; give it for program and shards",
    )
    parser.add_argument(
        "--source", action="append", default=[], metavar="OWNER/SLUG", help="another notebook whose output is attached"
    )
    parser.add_argument("--internet", action="store_true", help="let the notebook use the internet")
    _add_settings(parser)


def _code(args: argparse.Namespace) -> int:
    from launch.kaggle.upload import DEFAULT_WHEELS, prepare_code

    recipes = args.recipe or [Path(__file__).parents[2] / "configs" / "kaggle_t4x2.yaml"]
    lines = prepare_code(
        args.out,
        args.dataset,
        recipes=recipes,
        files=args.file,
        wheels=[*DEFAULT_WHEELS, *args.wheel],
        encoder_weights=args.encoder_weights,
        python_version=args.python,
    )
    return _prepared(lines, args.out)


def _shards(args: argparse.Namespace) -> int:
    from launch.kaggle.upload import prepare_shards

    return _prepared(prepare_shards(args.out, args.dataset, args.source, license_name=args.license), args.out)


def _prepared(lines: list[str], out: Path) -> int:
    print("\n".join(lines))
    print(f"upload    kaggle datasets create -p {out}                    # the first time; it is private")
    print(f'          kaggle datasets version -p {out} -m "what changed"   # later')
    return 0


def _notebook(args: argparse.Namespace) -> int:
    from launch.kaggle.notebook import notebook_bytes
    from shards.storage import publish_bytes

    if args.out.suffix != ".ipynb":
        raise ConfigError(f"--out {args.out}: the name must end in .ipynb")
    publish_bytes(str(args.out), notebook_bytes(_settings(args)))
    print(f"wrote {args.out}")
    return 0


def _kernel(args: argparse.Namespace) -> int:
    from launch.kaggle.chain import write_kernel

    write_kernel(args.out, _chained(args), with_own_output=args.goes_on)
    print(f"wrote {args.out}; run it with: kaggle kernels push -p {args.out}")
    return 0


def _chain(args: argparse.Namespace) -> int:
    from launch.kaggle.chain import run_chain
    from launch.kaggle.client import KaggleClient

    if args.poll_seconds < MIN_POLL_SECONDS:
        raise ConfigError(f"--poll-seconds {args.poll_seconds:g}: must be {MIN_POLL_SECONDS:g} or more")
    if args.max_versions < 1:
        raise ConfigError(f"--max-versions {args.max_versions}: must be 1 or more")
    return run_chain(
        _chained(args),
        KaggleClient(),
        args.out,
        max_versions=args.max_versions,
        poll_seconds=args.poll_seconds,
        goes_on_after_failure=args.after_failure,
    )


def _chained(args: argparse.Namespace) -> "Chain":
    from launch.kaggle.chain import Chain

    return Chain(args.kernel, tuple(args.dataset), _settings(args), tuple(args.source), internet=args.internet)


def _settings(args: argparse.Namespace) -> Settings:
    values: dict[str, object] = {"overrides": list(args.overrides)}
    for text in args.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r}: needs NAME=VALUE")
        values[name] = _read(name, value)
    return Settings.given(**values)


def _read(name: str, text: str) -> object:
    if name == "expect_step":
        if not text.isdecimal():
            raise ConfigError(f"--set expect_step={text}: needs a number")
        return int(text)
    if name == "require_gpu":
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"--set require_gpu={text}: true or false")
        return text.lower() == "true"
    return text
