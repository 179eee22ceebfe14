import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli import COMMANDS

from ..docs.command_check import all_actions, parse, parser_of

ROOT = Path(__file__).parents[2]
ENTRY_POINTS = sorted(
    path.parent.name if path.stem == "__init__" else path.stem
    for path in [*(ROOT / "launch").glob("*.py"), *(ROOT / "launch").glob("*/__init__.py")]
    if "\ndef main(" in path.read_text(encoding="utf-8")
)
WITH_ARGUMENTS = [name for name in ENTRY_POINTS if name != "cli"]
HEAVY = {"torch", "torchvision", "accelerate", "cv2", "tensorboard", "webdataset"}
"""What takes from half a second on to import, and then what takes a tenth and no help needs."""
HEAVY |= {"numpy", "PIL", "fsspec", "asyncio", "safetensors", "matplotlib", "jinja2", "dask", "h5py"}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_help_is_quick_because_nothing_heavy_is_imported(name: str) -> None:
    code = (
        "import importlib, sys\n"
        f"module = importlib.import_module('launch.{name}')\n"
        "try:\n"
        "    code = module.main(['--help'])\n"
        "except SystemExit as end:\n"
        "    code = end.code or 0\n"
        f"heavy = sorted({HEAVY!r} & set(sys.modules))\n"
        "sys.exit(f'imports {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def arguments(name: str) -> list[argparse.Action]:
    """The arguments of a command and of its actions."""
    return all_actions(parser_of(f"launch.{name}"))


@pytest.mark.parametrize("name", WITH_ARGUMENTS)
def test_every_argument_is_explained(name: str) -> None:
    assert parser_of(f"launch.{name}").description
    assert [action.dest for action in arguments(name) if not action.help] == []


@pytest.mark.parametrize("name", WITH_ARGUMENTS)
def test_every_default_is_told(name: str) -> None:
    untold = []
    for action in arguments(name):
        told = " ".join((action.help or "").split())
        if action.default not in (None, False, [], ()) and "%(default)s" not in told:
            default = f"{action.default:g}" if isinstance(action.default, float) else action.default
            if f"default: {default}" not in told:
                untold.append(f"{action.dest}: {told!r} does not tell its default {action.default!r}")
    assert untold == []


@pytest.mark.parametrize("name", WITH_ARGUMENTS)
def test_a_misspelt_option_is_answered_with_the_right_one(name: str, capsys) -> None:
    shown = [action for action in parser_of(f"launch.{name}")._actions if action.dest != "help"]
    options = [option for action in shown for option in action.option_strings if option.startswith("--")]
    if not options:
        pytest.skip("it has no options")
    wrong = options[0][:-2] + options[0][-1]
    with pytest.raises(SystemExit) as caught:
        parse(f"launch.{name}", [wrong, "x"])
    assert caught.value.code == 2
    assert f"{wrong} is no option (did you mean {options[0]}?)" in capsys.readouterr().err


@pytest.mark.parametrize("name", WITH_ARGUMENTS)
def test_help_fits_a_terminal(name: str) -> None:
    lines = parser_of(f"launch.{name}").format_help().splitlines()
    assert [line for line in lines if len(line) > 110] == []


def test_every_command_that_says_it_is_one_of_depthrank_is() -> None:
    programs = {name: parser_of(f"launch.{name}").prog for name in WITH_ARGUMENTS}
    assert {name for name, program in programs.items() if program == f"depthrank {name}"} == set(COMMANDS)
    others = {name: program for name, program in programs.items() if name not in COMMANDS}
    assert others == {name: f"python -m launch.{name}" for name in others}


def test_settings_are_read_without_torch() -> None:
    code = (
        "import sys; from launch.recipe import load_recipe; load_recipe(None, ['train.steps=1'])\n"
        f"sys.exit(sorted({HEAVY!r} & set(sys.modules)) and 'heavy imports' or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoder", ["resnet18", "resnext50_32x4d"])
def test_a_network_is_read_without_what_only_training_or_other_encoders_need(tmp_path: Path, encoder: str) -> None:
    code = (
        "import sys; from pathlib import Path; from model import DepthNet, ModelConfig\n"
        f"net = DepthNet.from_config(ModelConfig(encoder={encoder!r}, decoder_channels=8))\n"
        f"net.save_pretrained({str(tmp_path)!r})\n"
        "from pipeline.eval.network import load_network\n"
        f"load_network(Path({str(tmp_path)!r}), 'cpu')\n"
        "sys.exit(sorted({'torchvision', 'torch._dynamo', 'accelerate', 'tensorboard'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
