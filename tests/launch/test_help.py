import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENTRY_POINTS = [
    name
    for name in (
        "cli",
        "shards",
        "inspect",
        "report",
        "review",
        "eyes",
        "samples",
        "train",
        "evaluate",
        "predict",
        "demo",
        "export",
        "status",
        "quickstart",
        "study",
    )
    if importlib.util.find_spec(f"launch.{name}")
]
HEAVY = {"torch", "torchvision", "accelerate", "cv2", "tensorboard", "webdataset"}


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


def test_settings_are_read_without_torch() -> None:
    code = (
        "import sys; from launch.recipe import load_recipe; load_recipe(None, ['train.steps=1'])\n"
        f"sys.exit(sorted({HEAVY!r} & set(sys.modules)) and 'heavy imports' or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
