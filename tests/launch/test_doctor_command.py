import json
import subprocess
import sys
from pathlib import Path

import pytest

from launch import doctor
from launch.cli import run_command

ROOT = Path(__file__).parents[2]


def test_this_machine_is_fit_and_nothing_is_left_behind(tmp_path, capsys):
    assert run_command(doctor.main, ["--offline", "--json", "--runs", str(tmp_path / "runs")]) == 0
    told = json.loads(capsys.readouterr().out)
    states = {finding["what"]: finding["state"] for finding in told["findings"]}
    assert told["wrong"] == 0
    assert states.keys() >= {"Python", "packages", "torch", "torchvision", "disk", "writing", "locks", "JPEG decoder"}
    assert "network" not in states
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that cannot be written to")
def test_what_is_wrong_ends_in_code_1_and_says_what_to_do(capsys):
    assert run_command(doctor.main, ["--offline", "--runs", "/proc/none/runs"]) == 1
    said = capsys.readouterr().out
    assert "WRONG  writing" in said
    assert "-> choose another folder" in said
    assert said.splitlines()[-1].endswith("in the order in which to mend them: disk, writing")


def test_a_package_that_cannot_be_imported_is_named_and_the_rest_is_looked_at(tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    done = subprocess.run(
        [sys.executable, "-m", "launch.doctor", "--offline", "--runs", str(tmp_path)],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "WRONG  torchvision" in done.stdout
    assert "operator torchvision::nms does not exist" in done.stdout
    assert "  JPEG decoder  " in done.stdout
    assert done.stderr == ""


def test_it_starts_where_nothing_is_installed():
    code = (
        "import sys\n"
        "for name in ('pydantic', 'yaml', 'torch', 'numpy', 'cv2', 'tqdm'): sys.modules[name] = None\n"
        "from launch.doctor import main\n"
        "sys.exit(main(['--offline', '--runs', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "WRONG  torch" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["shards", "inspect", "train"])
def test_a_python_without_our_packages_is_told_what_to_do(command, tmp_path):
    (tmp_path / "pydantic.py").write_text("raise ModuleNotFoundError('No module named pydantic', name='pydantic')")
    (tmp_path / "tqdm.py").write_text("raise ModuleNotFoundError('No module named tqdm', name='tqdm')")
    done = subprocess.run(
        [sys.executable, "-m", f"launch.{command}", "x"],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the package ")
    assert f"is not installed for {sys.executable}; `make setup`" in done.stderr
    assert "Traceback" not in done.stderr
