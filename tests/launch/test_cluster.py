"""Packing on a Dask cluster. Needs the extra `cluster`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import shards
from launch.cli import run_command

NUM_SCENES = 16


@pytest.fixture
def recipe(tmp_path):
    def write(out):
        path = tmp_path / "recipe.yaml"
        path.write_text(
            f"out: {out}\n"
            f"source: {{kind: synthetic, train: {NUM_SCENES - 4}, val: 4, height_px: 96, width_px: 128}}\n"
            "shards: {workers: 1, shard_bytes: 200000, pairs: {num_pairs: 100}}\n"
        )
        return path

    return write


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_without_dask_the_extra_is_named(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)  # as where it is not installed
    arguments = ["--config", str(recipe(tmp_path / "set")), "--dask", "tcp://127.0.0.1:1"]
    assert run_command(shards.main, arguments) == 2
    assert 'pip install "depthrank[cluster]"' in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
def test_an_address_where_nobody_answers_is_one_line(recipe, tmp_path, capsys, monkeypatch):
    pytest.importorskip("distributed", reason='needs: pip install "depthrank[cluster]"')
    monkeypatch.setattr("launch.cluster._SECONDS_TO_CONNECT", 1)
    arguments = ["--config", str(recipe(tmp_path / "set")), "--dask", "tcp://127.0.0.1:9"]
    assert run_command(shards.main, arguments) == 2
    assert "--dask tcp://127.0.0.1:9: no scheduler answers there" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Dask's own, at the end of its processes
def test_a_cluster_that_loses_a_worker_makes_the_same_bytes(recipe, tmp_path):
    pytest.importorskip("distributed", reason='needs: pip install "depthrank[cluster]"')
    from dask.distributed import LocalCluster

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "launch.shards", "--config"]
    subprocess.run([*command, str(recipe(tmp_path / "alone"))], env=environment, check=True, capture_output=True)
    arguments = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**arguments) as cluster:
        out = tmp_path / "cluster"
        job = subprocess.Popen(
            [*command, str(recipe(out)), "--dask", cluster.scheduler_address],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_for(lambda: count_lines(out / ".packing.jsonl") > 3 or job.poll() is not None)
        assert job.poll() is None, job.communicate()[0]
        before = {worker.process.pid for worker in cluster.workers.values()}
        os.kill(min(before), signal.SIGKILL)
        said, _ = job.communicate(timeout=300)
        assert job.returncode == 0, said
        wait_for(lambda: {worker.process.pid for worker in cluster.workers.values()} != before)
    assert contents(tmp_path / "cluster") == contents(tmp_path / "alone")


def wait_for(happened, seconds=120.0):
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def count_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0
