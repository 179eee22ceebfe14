"""Put a trained network into a folder that others can use: the layout of the Hugging Face Hub, with a model card.

    python -m launch.export --checkpoint runs/web --out web-hub --license cc-by-4.0 --onnx

`DepthNet.from_pretrained` reads the folder, and the Hub takes it as it is.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launch.cli import run_command
from launch.command_parser import CommandParser

if TYPE_CHECKING:
    from model import DepthNet
    from model.onnx_export import Parity
    from pipeline.eval.network import LoadedNetwork

__all__ = ["load_with_notes", "main", "write_network_folder"]


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's); returns its exit code."""
    return _export(_parser().parse_args(argv))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="depthrank export",
        description="Write a network as model.safetensors, config.json and README.md (its model card, from what the "
        "run recorded), the layout of the Hugging Face Hub.",
    )
    parser.add_argument(
        "--checkpoint", required=True, type=Path, metavar="PATH", help="a run folder, a checkpoint or a saved network"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FOLDER", help="where to write; an earlier export there is replaced"
    )
    parser.add_argument(
        "--license",
        default="unknown",
        metavar="ID",
        help="licence of the weights by the Hub's name, such as apache-2.0 or cc-by-nc-4.0 (default: unknown)",
    )
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="add model.onnx for any batch, height and width, compared with torch by ONNX Runtime (extra `onnx`)",
    )
    return parser


def _export(options: argparse.Namespace) -> int:
    from pipeline.eval.export_folder import require_export_folder

    replaces = require_export_folder(options.out)
    loaded = load_with_notes(options.checkpoint)
    if replaces:
        print(f"{options.out}: replaces the earlier export", file=sys.stderr)
    write_network_folder(loaded, options.out, options.license, onnx=options.onnx)
    names = sorted(path.name for path in options.out.iterdir() if not path.name.startswith("."))
    config, num_parameters = loaded.net.config, _count(loaded.net)
    print(f"{loaded.origin} ({config.name}, {config.encoder}, {num_parameters:,} parameters) in {options.out}:")
    for name in names:
        print(f"  {name:<18} {(options.out / name).stat().st_size:>12,} bytes")
    if options.license == "unknown":
        print("the card says that the licence is unknown; state it with --license before you publish the weights")
    return 0


def load_with_notes(checkpoint: Path) -> "LoadedNetwork":
    """Load a network on the CPU; says on stderr which newer checkpoints were passed over.

    Raises:
        CheckpointError: There is none.
    """
    from pipeline.eval.network import load_network

    loaded = load_network(checkpoint, "cpu")
    for refused in loaded.refused:
        print(f"passed over: {refused}", file=sys.stderr)
    return loaded


def write_network_folder(loaded: "LoadedNetwork", out: Path, license_id: str, *, onnx: bool) -> None:
    """Write weights, config, card and perhaps ONNX into a folder that holds nothing else.

    Raises:
        ConfigError: The licence is not the name of one.
        RunError: The folder cannot be written, or the ONNX file computes something else.
    """
    from model.card import Facts, model_card
    from pipeline.eval.export_folder import CARD_NAME, ONNX_NAME, ExportFolder
    from pipeline.train.run_facts import read_training
    from shards.errors import ConfigError

    net = loaded.net
    facts = Facts(net.config, _count(net), net.size_hw, license_id, has_onnx=onnx)
    try:
        card = model_card(facts, read_training(loaded.origin))
    except ValueError as error:
        raise ConfigError(f"--license: {error}") from error
    with ExportFolder(out) as part:
        net.save_pretrained(part)
        (part / CARD_NAME).write_text(card, encoding="utf-8")
        if onnx:
            _write_onnx(net, part / ONNX_NAME)


def _count(net: "DepthNet") -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _write_onnx(net: "DepthNet", path: Path) -> None:
    """Export and compare; an ONNX file that computes something else is never left behind."""
    from model.onnx_export import PARITY_SHAPES, compare_with_torch, export_onnx, require_parity
    from shards.errors import RunError

    print("exporting to ONNX, which takes a minute or so ...", file=sys.stderr, flush=True)
    try:
        export_onnx(net, path)
        rows = compare_with_torch(net, path, list(dict.fromkeys([*PARITY_SHAPES, (2, *net.size_hw)])))
        print(_table(rows), flush=True)
        require_parity(rows)
    except ValueError as error:
        raise RunError(f"{error}. Nothing was written; without --onnx the rest is") from error


def _table(rows: "Sequence[Parity]") -> str:
    lines = ["ONNX Runtime against torch, on noise: largest absolute difference, and its share of the output's range"]
    for (batch, height, width), difference, relative in rows:
        lines.append(f"  {f'{batch} x 3 x {height} x {width}':<18} {difference:10.1e} {relative:10.1e}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(main))
