"""Publish a trained network on the Hugging Face Hub: weights, config and model card as one repository.

    python -m launch.push --checkpoint runs/web --repo OWNER/NAME --license cc-by-4.0 --private --dry-run
    python -m launch.push --checkpoint web-hub --repo OWNER/NAME

The first writes what `launch.export` would and sends it; the second sends a folder that `launch.export` has written, as
it is, with the card that a person has completed meanwhile. `--dry-run` needs neither a network nor a token.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from launch.cli import run_command
from launch.command_parser import CommandParser

if TYPE_CHECKING:
    from pipeline.eval.hub_repository import HubRepository

__all__ = ["main"]

_UNKNOWN = "unknown"


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's); returns its exit code."""
    return _push(_parser().parse_args(argv))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank push",
        description="Publish a network on the Hugging Face Hub: model.safetensors, config.json and README.md, its "
        "model card. The repository is made if there is none; one that holds anything but an earlier network of this "
        "program is refused.",
        epilog="needs a token that may write: `hf auth login`, or HF_TOKEN in the environment",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="PATH",
        help="a run folder, a checkpoint or a saved network; a folder of launch.export is sent as it is",
    )
    parser.add_argument("--repo", required=True, metavar="OWNER/NAME", help="repository of models on the Hub")
    parser.add_argument(
        "--license",
        metavar="ID",
        help="licence of the weights by the Hub's name, such as apache-2.0 or cc-by-nc-4.0, or other; needed unless "
        "the card of an export states it",
    )
    parser.add_argument("--private", action="store_true", help="a repository that is made is yours alone to read")
    parser.add_argument("--onnx", action="store_true", help="add model.onnx (extra `onnx`)")
    parser.add_argument("--dry-run", action="store_true", help="send nothing: print the files and the card")
    return parser


def _push(options: argparse.Namespace) -> int:
    from pipeline.eval.hub_repository import HubRepository, require_repository_name

    require_repository_name(options.repo)
    license_id = _license(options)
    # Before the work, so that a missing token is told at once.
    repository = None if options.dry_run else HubRepository(options.repo)
    if _is_export(options.checkpoint):
        return _send(options, options.checkpoint, license_id, repository)
    from launch.export import load_with_notes, write_network_folder

    loaded = load_with_notes(options.checkpoint)
    with tempfile.TemporaryDirectory(prefix="depthrank-push-") as place:
        folder = Path(place) / "network"
        write_network_folder(loaded, folder, license_id, onnx=options.onnx)
        return _send(options, folder, license_id, repository)


def _is_export(path: Path) -> bool:
    from model.hub import CONFIG_NAME
    from pipeline.eval.export_folder import CARD_NAME, is_our_card

    return is_our_card(path / CARD_NAME) and (path / CONFIG_NAME).is_file()


def _license(options: argparse.Namespace) -> str:
    """The licence that the card states or will state.

    Raises:
        ConfigError: There is none, or the card of an export states another one than the command.
    """
    from pipeline.eval.export_folder import CARD_NAME, stated_license
    from shards.errors import ConfigError

    stated = stated_license(options.checkpoint / CARD_NAME) if _is_export(options.checkpoint) else None
    if stated not in (None, _UNKNOWN) and options.license not in (None, stated):
        raise ConfigError(
            f"--license {options.license}: the card in {options.checkpoint} says {stated}, and an export is sent as it "
            "is; leave --license out, or export again with the licence that holds"
        )
    license_id: str | None = stated if options.license is None else options.license
    if license_id in (None, _UNKNOWN) or stated == _UNKNOWN:
        where = f"the card in {options.checkpoint} states none: export again with" if stated else "give"
        raise ConfigError(
            f"weights without a licence may not be used by anybody; {where} --license ID, the Hub's name of one, such "
            "as apache-2.0, mit, cc-by-4.0, cc-by-nc-4.0, or other"
        )
    assert license_id is not None
    return license_id


def _send(options: argparse.Namespace, folder: Path, license_id: str, repository: "HubRepository | None") -> int:
    from model import DepthNet
    from model.weights import read_config
    from pipeline.eval.export_folder import CARD_NAME, EXPORT_NAMES
    from shards.errors import CheckpointError

    try:  # what nobody could load is not published
        DepthNet.from_pretrained(folder)
        config, _ = read_config(folder)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    names = [name for name in sorted(EXPORT_NAMES) if (folder / name).is_file()]
    listing = "\n".join(f"  {name:<18} {(folder / name).stat().st_size:>12,} bytes" for name in names)
    if repository is None:
        print(f"{options.repo} would get, under the licence {license_id}:\n{listing}\n\n{CARD_NAME}:\n")
        print((folder / CARD_NAME).read_text(encoding="utf-8"))
        return 0
    replaces = repository.prepare(private=options.private)
    if replaces:
        print(f"{options.repo}: replaces the network pushed earlier, which its history keeps", file=sys.stderr)
    print(f"sending to {options.repo}, under the licence {license_id}:\n{listing}", flush=True)
    address = repository.upload(folder, f"DepthRank: {config.name}, {config.encoder}")
    print(f'{address}\nuse it: DepthNet.from_pretrained("{options.repo}")')
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
