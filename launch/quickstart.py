"""The whole road in minutes, without a download: `make demo`.

    python -m launch.quickstart

Renders stereo scenes, packs them into shards with labels by optical flow, trains the same small network with MAE and
with the ranking loss, and measures both on unseen scenes against the renderer's exact truth. Each stage is the command
that a user would type, printed before it runs; what was done before is not done again.
"""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from launch.cli import run_command
from launch.command_parser import CommandParser
from pipeline.train.status import read_status
from shards.errors import RunError
from shards.manifest import MANIFEST_NAME
from shards.storage import publish_bytes

__all__ = ["main"]

LOSSES = ("mae", "ranking")
TEST_SCENES = 200
SHOWN_SCENES = 6


def main(argv: list[str] | None = None) -> int:
    """Run the command on the arguments after its name (None: the process's) and return its exit code."""
    parser = CommandParser(
        prog="python -m launch.quickstart", description="Make shards, train, evaluate and show pictures, in minutes."
    )
    parser.add_argument("--config", default="configs/demo.yaml", metavar="FILE", help="recipe (default: %(default)s)")
    parser.add_argument(
        "--out", default="runs/demo", metavar="DIR", help="folder for everything (default: %(default)s)"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings for every stage")
    args = parser.parse_args(argv)

    out = Path(args.out)
    start = time.monotonic()
    if (out / "shards" / MANIFEST_NAME).exists():
        print(f"{out}/shards is packed already; delete {out} to begin anew")
    else:
        _stage("shards", args.config, f"out={out}/shards", *args.overrides)
    was_done = all(_is_finished(out / loss) for loss in LOSSES)
    data = [f"data.train={out}/shards", f"data.val={out}/shards"]
    _train_side_by_side(
        {loss: [args.config, f"run={out}/{loss}", f"loss.name={loss}", *data, *args.overrides] for loss in LOSSES}, out
    )
    percent = _evaluate(args.config, args.overrides, out)
    results = {"whdr_percent": percent, "seconds": round(time.monotonic() - start, 1)}
    if not (was_done and (out / "results.json").exists()):  # else its seconds tell what the work took
        publish_bytes(str(out / "results.json"), json.dumps(results, indent=1).encode() + b"\n")
    _next_steps(out)
    print(json.dumps(results))
    return 0


def _stage(command: str, config: str, *overrides: str) -> None:
    code = _wait(subprocess.Popen(_command_line(command, config, *overrides)))
    if code:
        raise RunError(f"the command above ended with exit code {code}; mend what it says and run the demo again")


def _train_side_by_side(arguments: dict[str, list[str]], out: Path) -> None:
    """Train every network at once, one core each: only the last one talks, the others write `OUT/NAME.log`."""
    *quiet, shown = arguments
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        others = {
            name: subprocess.Popen(
                _command_line("train", *arguments[name]),
                stdout=stack.enter_context((out / f"{name}.log").open("w")),
                stderr=subprocess.STDOUT,
            )
            for name in quiet
        }
        try:
            _stage("train", *arguments[shown])
        finally:
            codes = {name: _wait(process) for name, process in others.items()}
    for name, code in codes.items():
        if code:
            last = (out / f"{name}.log").read_text().strip().rpartition("\n")[2]
            raise RunError(f"training with {name} ended with exit code {code}; {out / name}.log says: {last}")
    for name in arguments:
        if not _is_finished(out / name):
            raise RunError(f"{out / name} was stopped before its end; run the demo again and it goes on from there")


def _is_finished(run_dir: Path) -> bool:
    status = read_status(run_dir)
    return status is not None and status.state == "finished"


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Exit code of a stage. After Ctrl-C, which reaches the stage as well, it is given the time to save."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def _command_line(command: str, config: str, *overrides: str) -> list[str]:
    """The command of a stage, shown as a user would type it."""
    line = ["-m", f"launch.{command}", "--config", config, *overrides]
    print(f"\n$ python {shlex.join(line)}", flush=True)
    return [sys.executable, *line]


def _evaluate(config: str, overrides: Sequence[str], out: Path) -> dict[str, float]:
    """The table of the demo in percent, and `report.png`."""
    import torch
    from PIL import Image

    from launch.recipe import load_recipe
    from model import DepthNet
    from pipeline.eval.baselines import lower_is_nearer
    from pipeline.eval.compare import TruthData, compare
    from pipeline.eval.gallery import comparison_sheet
    from pipeline.eval.predict import Predictor
    from pipeline.eval.truth import synthetic_truth
    from pipeline.eval.whdr import Predict
    from pipeline.train.config import RunConfig
    from shards.sources.config import SyntheticSourceConfig

    recipe = load_recipe(config, [f"run={out}/untrained", *overrides], needs=RunConfig).recipe
    if not isinstance(recipe.source, SyntheticSourceConfig) or recipe.train is None:
        raise RunError(f"{config}: the demo measures against exact truth, which needs source.kind=synthetic")
    torch.manual_seed(recipe.train.seed)
    untrained = DepthNet.from_config(recipe.model)
    networks = {loss: DepthNet.from_pretrained(out / loss) for loss in LOSSES}
    methods: dict[str, Predict] = {
        "untrained": Predictor(untrained, "cpu", size_hw=recipe.train.size),
        "lower_is_nearer": lower_is_nearer,
        **{loss: Predictor(net, "cpu") for loss, net in networks.items()},
    }
    pictures = list(synthetic_truth(recipe.source, TEST_SCENES))
    print(f"\n{TEST_SCENES} unseen scenes, against the renderer's exact truth:", flush=True)
    comparison = compare(
        methods, [TruthData("synthetic", pictures)], report=lambda line: print(line, file=sys.stderr, flush=True)
    )
    print(comparison.table())
    shown = {name: methods[name] for name in ("lower_is_nearer", *LOSSES)}
    Image.fromarray(comparison_sheet(shown, pictures[:SHOWN_SCENES])).save(out / "report.png")
    return {name: round(row["mean"], 2) for name, row in comparison.whdr_percent.items()}


def _next_steps(out: Path) -> None:
    print(
        f"""
Look at   {out}/report.png          pictures of the first {SHOWN_SCENES} unseen scenes
          {out}/shards/contact_sheet.jpg   the labels that were trained on
          {out}/results.json        the table above
Curves    make tensorboard
Predict   python -m launch.predict --checkpoint {out}/ranking PICTURE_OR_FOLDER --out {out}/predictions
Evaluate  python -m launch.evaluate --checkpoint {out}/mae {out}/ranking --data synthetic=100
Longer    python -m launch.train --config configs/demo.yaml run=runs/longer train.steps=5000
Your own  python -m launch.shards --config configs/webstereo.yaml source.path=PICTURES out=runs/web-shards
          accelerate launch -m launch.train --config configs/webstereo.yaml
"""
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
