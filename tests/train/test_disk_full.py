"""Full and faulty disks: a save that fails costs nothing, and the next one follows soon."""

import builtins
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.train import checkpoint, checkpoint_folder
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import CheckpointConfig


def tensors(value: int) -> dict:
    group = {"lr": 0.1, "params": [0]}
    return {
        "model": {"weight": torch.full((5000,), float(value))},
        "optimizer": {"state": {0: {"exp_avg": torch.full((5000,), -float(value))}}, "param_groups": [group]},
        "ema": {"weight": torch.full((5000,), value / 2)},
    }


def store_of(run_dir: Path) -> CheckpointStore:
    return CheckpointStore(run_dir, run_id="run", config=CheckpointConfig())


def save(store: CheckpointStore, step: int) -> str | None:
    store.save(step, tensors(step), {"samples_seen": step})
    store.wait()
    return store.last_error


def names_in(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


# When a failed save is tried again.


@pytest.fixture
def blocked(tmp_path, caplog):
    """A run whose checkpoints cannot be written until the file in their place is gone."""
    caplog.set_level("INFO", logger="depthrank")
    (tmp_path / "checkpoints").write_text("in the way")
    return tmp_path


def test_a_failed_save_is_wanted_again_after_a_wait_that_doubles(blocked, caplog):
    store = store_of(blocked)
    assert not store.wants_retry(time.monotonic() + 1e6), "nothing has failed yet"
    for minutes in (1, 2, 4, 8, 16, 16):
        assert save(store, 1) is not None
        now = time.monotonic()
        assert not store.wants_retry(now + 60 * minutes - 5)
        assert store.wants_retry(now + 60 * minutes)
    assert caplog.text.count("checkpoint of step 1 not saved in ") == 6
    assert "it needs 0 MB" in caplog.text and "are free" in caplog.text

    (blocked / "checkpoints").unlink()
    assert save(store, 7) is None
    assert "checkpoint of step 7 saved, after 6 failed attempt(s)" in caplog.text
    assert not store.wants_retry(time.monotonic() + 1e6)


def test_the_end_of_a_session_writes_a_save_that_failed(blocked, monkeypatch):
    monkeypatch.setattr(checkpoint, "LAST_PAUSES_SECONDS", (0.0, 0.01))
    store = store_of(blocked)
    assert save(store, 3) is not None
    store.finish()
    assert "the last checkpoint was not saved" in store.shortcomings[0]
    (blocked / "checkpoints").unlink()
    store.finish()
    assert store.shortcomings == []
    found = store.find()
    assert found.step == 3
    assert torch.equal(store.load(found.path).ema["weight"], tensors(3)["ema"]["weight"])


# Every call to the system that a save makes, failing once.


class Faults:
    """Lets the n-th of the calls that write fail, and counts them all."""

    def __init__(self, fail_at: int | None, code: int) -> None:
        self.calls = 0
        self.where = ""
        self._fail_at = fail_at
        self._code = code

    def call(self, name: str, call, *args, **kwargs):
        self.calls += 1
        if self.calls == self._fail_at:
            self.where = f"{name}{args}"
            raise OSError(self._code, os.strerror(self._code))
        return call(*args, **kwargs)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """At the border to the system: `os`, files open for writing, and safetensors, which writes by itself."""
        for name in ("fsync", "mkdir", "rename", "replace", "unlink", "rmdir", "chmod"):
            patch.setattr(os, name, self._wrapped(f"os.{name}", getattr(os, name)))
        patch.setattr(checkpoint_folder, "save_file", self._wrapped("save_file", checkpoint_folder.save_file))
        patch.setattr(io, "open", self._opening(io.open))
        patch.setattr(builtins, "open", self._opening(builtins.open))

    def _wrapped(self, name: str, call):
        return lambda *args, **kwargs: self.call(name, call, *args, **kwargs)

    def _opening(self, call):
        def opened(file, mode="r", *args, **kwargs):
            if "w" not in mode and "x" not in mode:
                return call(file, mode, *args, **kwargs)
            return _Written(self.call("open", call, file, mode, *args, **kwargs), self)

        return opened


class _Written:
    """A file that is open for writing."""

    def __init__(self, file, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def write(self, data):
        return self._faults.call("write", self._file.write, data)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


def save_with_fault(run_dir: Path, fail_at: int | None, code: int) -> Faults:
    """Two good saves, a third one with a fault, and what must hold afterwards."""
    store = store_of(run_dir)
    assert save(store, 1) is None
    assert save(store, 2) is None
    faults = Faults(fail_at, code)
    with pytest.MonkeyPatch.context() as patch:
        faults.install(patch)
        error = save(store, 3)
    case = f"call {fail_at} failed: {faults.where}"
    again = store_of(run_dir)
    found = again.find()
    assert found.refused == [], case
    assert found.step == (2 if error else 3), case
    assert torch.equal(again.load(found.path).model["weight"], tensors(found.step)["model"]["weight"]), case
    assert save(store, 4) is None, case
    assert save(store, 5) is None, case
    assert names_in(run_dir) == ["step_00000004", "step_00000005"], case
    return faults


def sweep(tmp_path: Path, codes: tuple[int, ...], every: int) -> int:
    calls = save_with_fault(tmp_path / "none", None, 0).calls
    for code in codes:
        for number in range(1, calls + 1, every):
            assert save_with_fault(tmp_path / f"{code}-{number}", number, code).where
            shutil.rmtree(tmp_path / f"{code}-{number}")
    return calls


def test_a_fault_at_some_calls_of_a_save_leaves_an_older_checkpoint_and_no_litter(tmp_path):
    assert sweep(tmp_path, (errno.ENOSPC,), 8) > 30


@pytest.mark.slow
def test_a_fault_at_each_call_of_a_save_leaves_an_older_checkpoint_and_no_litter(tmp_path):
    sweep(tmp_path, (errno.ENOSPC, errno.EIO, errno.EACCES), 1)


# A small disk of its own, in a name space of a child.

ON_A_SMALL_DISK = """
import sys
from pathlib import Path

sys.path[:0] = [{tests!r}, {root!r}]
import small_disk

small_disk.{name}(Path({disk!r}), Path({scratch!r}))
"""


def on_a_small_disk(tmp_path: Path, name: str, megabytes: float) -> dict:
    """Run a function of `small_disk.py` in a process that has a disk of this size; what it reports."""
    disk = tmp_path / "disk"
    disk.mkdir()
    program = ON_A_SMALL_DISK.format(
        tests=str(Path(__file__).parent), root=str(Path.cwd()), name=name, disk=str(disk), scratch=str(tmp_path)
    )
    mount = f"mount -t tmpfs -o size={int(megabytes * 1024)}k tmpfs '{disk}'"
    try:
        probe = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if probe.returncode:
        pytest.skip("the kernel lets no ordinary user mount a tmpfs")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", program],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((tmp_path / "report.json").read_text())


@pytest.mark.slow
def test_everything_that_a_run_writes_survives_a_full_disk(tmp_path):
    report = on_a_small_disk(tmp_path, "write_everything", 4)
    assert "disk full" in report["precheck"]
    assert report["torn"] and all("No space" in text or "disk full" in text for text in report["torn"])
    assert report["steps_when_full"] == [1, 2]
    assert report["steps_later"] == [2, 9]
    for name in ("metrics", "samples"):  # whole lines only, and the log goes on
        assert (report[name][0], report[name][-1]) == (1, 9)
        assert len(report[name]) < 402
    assert report["warned"] == ["metrics", "samples", "tb"]
    assert report["status_when_full"] == "running"
    assert report["status_later"] == "stopped"


@pytest.mark.slow
def test_a_run_goes_on_through_a_full_disk_to_the_same_weights(tmp_path):
    report = on_a_small_disk(tmp_path, "train_through_a_full_disk", 64)
    assert report["state"] == "finished"
    assert "not saved" in report["log"]
    assert "after 1 failed attempt" in report["log"] or "after 2 failed attempt" in report["log"]
    assert report["kept_while_full"] == [2]
    assert report["steps"][-1] == 8
    ours, theirs = (load_file(tmp_path / name) for name in ("small.safetensors", "large.safetensors"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
