"""The command that runs the benchmarks: what it stores, and what a failure and a bare machine cost."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from . import __main__ as command

ROOT = Path(__file__).parents[2]


def test_a_benchmark_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "data" / "webstereo").mkdir(parents=True)  # without the pictures that `web` expects there
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "web", "gpu", "--out", str(tmp_path / "records")],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DEPTHRANK_DATA": str(tmp_path / "data"),
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "web failed" in done.stderr
    (stored,) = (tmp_path / "records").iterdir()
    record = json.loads(stored.read_text())
    assert stored.name == f"{record['commit']}-web-gpu.json"
    assert (record["failed"], record["gpu"], record["rows"]) == (["web"], {}, [])
    assert json.loads(done.stdout.splitlines()[-1]) == record


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.commit() == "unknown"


def test_a_package_that_is_not_installed_is_called_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PACKAGES", ("torch", "no-such-package"))
    found = command.versions()
    assert (found["torch"], found["no-such-package"]) == (version("torch"), "absent")
