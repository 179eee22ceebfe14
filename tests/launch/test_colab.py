"""The notebook for Colab, run cell by cell with a stand-in for `google.colab` and a folder for Drive."""

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from launch.colab.install import install, missing_requirements
from launch.colab.local_shards import local_shards
from launch.colab.precision import Gpu, lent_gpu, precision_for, recorded_precision
from launch.colab.session import ColabSession
from pipeline.train.lock import read_holder
from pipeline.train.metrics_log import read_metrics
from pipeline.train.status import read_status
from shards.errors import ConfigError, RunError, ShardError

from ..train.test_trainer import make_dataset
from .launched_run import LaunchedRun

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "launch" / "colab" / "train.ipynb"
T4 = Gpu("Tesla T4", (7, 5), "15360 MiB")
L4 = Gpu("NVIDIA L4", (8, 9), "23034 MiB")


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_is_one_that_jupyter_reads():
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_the_notebook_is_saved_without_outputs_and_its_cells_are_thin():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], len({cell["id"] for cell in notebook["cells"]})) == (4, len(notebook["cells"]))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            assert len(cell["source"]) <= 20
            plain = re.sub(r"^%.*$", "", "".join(cell["source"]), flags=re.MULTILINE)
            compile(plain, "cell", "exec")
    (linked,) = re.findall(r"\]\(\.\./\.\./(docs/\S+)\)", "".join(notebook["cells"][0]["source"]))
    assert (ROOT / linked).is_file()


@pytest.mark.parametrize(
    ("asked", "recorded", "gpu", "value", "reason"),
    [
        ("auto", None, T4, "fp16", "it has no bf16"),
        ("auto", None, L4, "fp16", "a T4 has no bf16, and the next session may be lent one"),
        ("bf16", None, L4, "bf16", "as asked for"),
        ("auto", None, None, "fp32", "there is no GPU"),
        ("auto", "bf16", L4, "bf16", "the run was begun with it"),
        ("auto", "fp32", T4, "fp32", "the run was begun with it"),
    ],
)
def test_the_precision_fits_the_gpu_and_the_run(asked, recorded, gpu, value, reason):
    choice = precision_for(asked, recorded, gpu)
    assert choice.value == value and reason in choice.reason


@pytest.mark.parametrize(
    ("asked", "recorded", "gpu", "message"),
    [
        ("bf16", None, T4, "bf16 is only emulated"),
        ("auto", "bf16", T4, "bf16 is only emulated"),
        ("auto", "fp16", None, "fp16 needs a GPU"),
        ("bf16", "fp16", L4, "was begun with fp16 and keeps it"),
        ("half", None, T4, "give auto, fp32, fp16 or bf16"),
    ],
)
def test_a_precision_that_cannot_be_is_refused(asked, recorded, gpu, message):
    with pytest.raises(ConfigError, match=message):
        precision_for(asked, recorded, gpu)


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ("Tesla T4, 7.5, 15360 MiB", T4),
        ("NVIDIA L4, 8.9, 23034 MiB\nNVIDIA L4, 8.9, 23034 MiB", L4),
        ("NVIDIA-SMI has failed because it could not communicate with the driver", None),
        ("", None),
    ],
)
def test_the_gpu_is_what_nvidia_smi_tells(tmp_path, monkeypatch, printed, found):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{printed}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert lent_gpu() == found


def test_only_what_is_missing_is_installed_and_torch_never(tmp_path, monkeypatch):
    project = tmp_path / "pyproject.toml"
    text = '[project]\ndependencies = ["torch>=2.6", "opencv-python-headless>=4", "pyyaml>=6"]\n'
    project.write_text(text + '[project.optional-dependencies]\ns3 = ["no-such-package>=1"]\n')
    assert install(project) == []
    assert missing_requirements(project, ["s3"]) == ["no-such-package>=1"]
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(RunError, match="pip could not install no-such-package>=1"):
        install(project, ["s3"])
    project.write_text(text.replace("torch>=2.6", "torch>=99"))
    with pytest.raises(ConfigError, match="lacks torch>=99; choose a runtime with a newer image"):
        install(project)
    assert missing_requirements(ROOT / "pyproject.toml") == []


def test_shards_are_copied_once_whole_and_verified(tmp_path):
    origin, folder, said = make_dataset(tmp_path / "shards"), tmp_path / "here", []
    there = Path(local_shards(origin, folder, said.append))
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        path.name: path.read_bytes() for path in Path(origin).iterdir()
    }
    first = next(there.glob("train-*.tar"))
    first.write_bytes(first.read_bytes()[:-1])
    assert local_shards(origin, folder, said.append) == str(there)
    assert "1 file(s)" in said[1] and "1 file(s)" not in said[0]
    assert local_shards("https://host/shards", folder) == "https://host/shards"

    first.unlink()
    source = Path(origin) / first.name
    source.write_bytes(b"\0" * source.stat().st_size)
    with pytest.raises(ShardError, match="is not what the manifest lists"):
        local_shards(origin, folder, said.append)
    assert not first.exists() and not list(there.glob(".*"))


def test_mistakes_are_told_before_anything_runs(tmp_path):
    recipe = LaunchedRun(tmp_path, "shards").config
    with pytest.raises(ConfigError, match="plain name"):
        ColabSession(str(recipe), "a/b", drive=tmp_path / "drive", place=tmp_path)
    with pytest.raises(RunError, match="run the cell that mounts Drive"):
        ColabSession(str(recipe), "a", drive=tmp_path / "nothing" / "drive", place=tmp_path)
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        ColabSession(str(recipe), "a", drive=tmp_path / "drive", place=tmp_path, overrides=["optim.lr=-1"])
    error = ConfigError("one line")
    assert error._render_traceback_() == ["error: one line"], "IPython shows no traceback"


SAVES = """
import signal, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
print("step 1", flush=True)
time.sleep(60)
"""


def test_the_stop_button_is_passed_on_and_waited_for(tmp_path):
    said = []

    def say(line: str) -> None:
        said.append(line)
        if line == "step 1":
            raise KeyboardInterrupt

    recipe = LaunchedRun(tmp_path, "shards").config
    session = ColabSession(str(recipe), "a", drive=tmp_path / "drive", place=tmp_path, say=say)
    assert session.finish() == "there is no checkpoint yet"
    (tmp_path / "drive" / "a" / "checkpoints" / "step_00000007").mkdir(parents=True)
    assert session.finish() == "Drive has step 7, and there is no newer one"
    assert session._run([sys.executable, "-c", SAVES]) == 0
    assert said == ["step 1", "asked to stop: it saves and ends; interrupt again to end it at once", "saved"]


class Drive(ModuleType):
    """`google.colab.drive`."""

    def __init__(self) -> None:
        super().__init__("google.colab.drive")
        self.flushed = 0

    def mount(self, path: str) -> None:
        (Path(path) / "MyDrive").mkdir(parents=True, exist_ok=True)

    def flush_and_unmount(self) -> None:
        self.flushed += 1


@pytest.fixture
def colab(monkeypatch):
    drive = Drive()
    for name in ("google", "google.colab"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "google.colab.drive", drive)
    sys.modules["google.colab"].drive = drive  # type: ignore[attr-defined]
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_stand-in")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return drive


def run_notebook(place: Path, **settings: Any) -> list[str]:
    """Run all cells on a machine whose disk is `place`; returns the magic lines, which are left to IPython."""
    (place / "program").parent.mkdir(parents=True, exist_ok=True)
    (place / "program").symlink_to(ROOT)
    scope: dict[str, Any] = {}
    magics = []
    for number, text in enumerate(code_cells()):
        magics += re.findall(r"^%.*$", text, re.MULTILINE)
        exec(compile(re.sub(r"^%.*$", "", text, flags=re.MULTILINE), f"cell {number}", "exec"), scope)
        if number == 0:
            assert settings.keys() <= scope.keys()
            scope |= settings | {"PLACE": str(place)}
    return magics


@pytest.mark.slow
def test_a_session_that_is_taken_away_goes_on_from_drive_on_another_machine(colab, tmp_path, capfd):
    whole = LaunchedRun(tmp_path / "whole", make_dataset(tmp_path / "shards"), monitor__tensorboard=True)
    settings = yaml.safe_load(whole.config.read_text())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(settings))
    assert whole.start().process.wait(300) == 0, whole.tail()

    given = {
        "CONFIG": str(recipe),
        "NAME": "web",
        "SHARDS": str(tmp_path / "shards"),
        "DRIVE": str(tmp_path / "drive"),
        "OVERRIDES": ["checkpoint.every_steps=4"],
    }
    copy = tmp_path / "drive" / "MyDrive" / "depthrank" / "web"

    def take_the_machine_away() -> None:
        run = tmp_path / "first" / "runs" / "web"
        while (
            not list(copy.glob("checkpoints/step_0000000[48]/manifest.json")) or not (copy / "metrics.jsonl").exists()
        ):
            time.sleep(0.01)
        holder = read_holder(run)
        assert holder is not None
        os.kill(holder.pid, signal.SIGKILL)

    from launch.colab import session

    session_seconds, session.LOG_SECONDS = session.LOG_SECONDS, 0.2
    thread = threading.Thread(target=take_the_machine_away)
    thread.start()
    try:
        with pytest.raises(RunError, match="training ended with code -9"):
            run_notebook(tmp_path / "first", **given)
    finally:
        thread.join()
        session.LOG_SECONDS = session_seconds
    assert colab.flushed == 0
    assert recorded_precision(copy) == "fp32"
    shutil.rmtree(tmp_path / "first" / "runs")

    magics = run_notebook(tmp_path / "second", **given)
    printed = capfd.readouterr().out
    assert magics == ["%load_ext tensorboard", "%tensorboard --logdir {PLACE}/runs --samples_per_plugin images=200"]
    assert colab.flushed == 1
    assert "installed: nothing, all was there" in printed
    assert "goes on: Drive has step" in printed and "precision: fp32 (the run was begun with it)" in printed
    assert "preset on Colab, counted from the start of the container" in printed
    run = tmp_path / "second" / "runs" / "web"
    assert read_status(run).state == "finished"
    assert (run / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
    # Drive has it all: the curve from the first step on, the last checkpoint, the result.
    for folder in (run, copy):
        assert [row["step"] for row in read_metrics(folder / "metrics.jsonl") if "train/loss" in row] == list(
            range(1, 41)
        )
    assert (copy / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert len(list((copy / "tb").iterdir())) >= 2
    assert (copy / "checkpoints" / "step_00000040" / "manifest.json").is_file()
