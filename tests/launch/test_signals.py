"""Whatever asks a run to stop, at whatever moment and under whatever launcher: it ends in order and goes on as if never
stopped."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pipeline.train.metrics_log import read_metrics
from pipeline.train.status import read_status
from shards.writer import DatasetWriter

from ..train.test_trainer import make_sample
from .launched_run import LAUNCHERS, STEPS, DataServer, LaunchedRun, data_server, mapped_memory

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are watched through /proc")
TRAIN_SHARD, MANIFEST = "train-000000.tar", "manifest.json"
OURS = Path(__file__).parents[2] / "pipeline"
PHASES = ["start", "data", "step", "evaluation", "save", "export", "end"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    with DatasetWriter(str(folder / "shards"), shard_bytes=10_000_000, config={"seed": 0}) as writer:
        for split, count in (("train", 11), ("val", 60)):
            for index in range(count):
                writer.add(split, make_sample(f"{split}-{index:02d}", index))
        writer.finish({})
    return folder


@pytest.fixture
def server(folder):
    with data_server(folder / "shards") as server:
        yield server


@pytest.fixture(scope="module")
def whole(folder):
    """The weights of uninterrupted runs, by the number of processes."""
    known = {}

    def weights(launcher: str) -> str:
        processes = 2 if launcher in ("torchrun", "accelerate of two") else 1
        if processes not in known:
            run = LaunchedRun(
                folder / f"whole{processes}", str(folder / "shards"), "torchrun" if processes == 2 else "python"
            )
            life = run.start()
            assert life.process.wait(200) == 0, run.tail()
            known[processes] = run.weights
        return known[processes]

    return weights


def wait_for(phase: str, run: LaunchedRun, life, server: DataServer) -> None:
    """Return in the middle of a phase of the run."""
    if phase in ("start", "data"):
        run.wait_until(life, lambda: server.waiting > 0)
    elif phase == "step":
        run.wait_until(life, lambda: run.says("step 2/"))
    elif phase == "evaluation":
        run.wait_until(life, lambda: run.says("step 20/"))
    elif phase == "save":
        run.wait_until(life, lambda: any((run.path / "checkpoints").glob(".step_*")))
    elif phase == "export":
        run.wait_until(life, lambda: STEPS in run.saved_steps)
    else:
        run.wait_until(life, lambda: (run.path / "metrics.json").exists())


def stop_and_go_on(run: LaunchedRun, phase: str, server: DataServer, number=signal.SIGTERM) -> None:
    """Stop a run in a phase, look at what it leaves, and let a second start end it."""
    server.held = {"start": MANIFEST, "data": TRAIN_SHARD}.get(phase, "")
    life = run.start()
    try:
        wait_for(phase, run, life, server)
        os.kill(life.process.pid, number)
        begin = time.monotonic()
        life.process.wait(60)
    finally:
        left = life.wait_until_gone(25)
    assert not left, run.tail()
    assert time.monotonic() - begin < 25
    assert f'File "{OURS}' not in run.log.read_text(), "launchers print tracebacks of their own, we do not"
    status = read_status(run.path)
    assert status.state in (("finished", "stopped") if phase in ("export", "end") else ("stopped",)), run.tail()
    if status.step:
        assert run.saved_steps[-1] == status.step
    else:
        assert phase in ("start", "data")
    server.held = ""
    life = run.start()
    assert life.process.wait(200) == 0, run.tail()
    assert not life.wait_until_gone(10)
    assert read_status(run.path).state == "finished"


@pytest.mark.parametrize("phase", ["data", pytest.param("start", marks=[pytest.mark.slow, pytest.mark.faults])])
def test_a_run_that_waits_stops_at_once_and_goes_on_later(phase, folder, tmp_path, server):
    run = LaunchedRun(tmp_path, server.url, train__steps=3, data__num_workers=0)
    server.held = {"start": MANIFEST, "data": TRAIN_SHARD}[phase]
    life = run.start()
    try:
        wait_for(phase, run, life, server)
        os.kill(life.process.pid, signal.SIGTERM)
        begin = time.monotonic()
        assert life.process.wait(30) == 0, run.tail()
        assert time.monotonic() - begin < 8, "a second, and what an interpreter takes to end on a busy machine"
    finally:
        assert not life.wait_until_gone(5)
    status = read_status(run.path)
    assert (status.state, status.step) == ("stopped", 0)
    assert status.reason.startswith("received SIGTERM")


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_signal_in_any_phase_under_any_launcher_changes_nothing_in_the_end(launcher, phase, tmp_path, server, whole):
    run = LaunchedRun(tmp_path, server.url, launcher)
    stop_and_go_on(run, phase, server)
    assert run.weights == whole(launcher)


@pytest.mark.slow
@pytest.mark.faults
def test_a_closed_terminal_stops_a_run_but_not_under_nohup(tmp_path, folder):
    run = LaunchedRun(tmp_path / "plain", str(folder / "shards"), train__steps=100_000)
    life = run.start()
    run.wait_until(life, lambda: run.says("step 2/"))
    os.kill(life.process.pid, signal.SIGHUP)
    assert life.process.wait(60) == 0
    assert not life.wait_until_gone(10)
    assert read_status(run.path).reason == "received SIGHUP"
    run = LaunchedRun(tmp_path / "nohup", str(folder / "shards"), train__steps=100_000)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does, and children inherit
    try:
        life = run.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    run.wait_until(life, lambda: run.says("step 2/"))
    os.kill(life.process.pid, signal.SIGHUP)
    run.wait_until(life, lambda: run.says("step 60/"))
    (run.path / "STOP").touch()
    assert life.process.wait(60) == 0
    assert read_status(run.path).reason.startswith("found the stop file")


@pytest.mark.slow
@pytest.mark.faults
def test_a_warning_signal_reaches_the_processes_where_the_launcher_is_told_to_forward_it(tmp_path, folder):
    run = LaunchedRun(tmp_path, str(folder / "shards"), "accelerate of two", train__steps=100_000)
    run.environment["PET_SIGNALS_TO_HANDLE"] = "SIGTERM,SIGINT,SIGUSR1"
    life = run.start()
    run.wait_until(life, lambda: run.says("step 2/"))
    os.kill(life.process.pid, signal.SIGUSR1)
    life.process.wait(60)
    assert not life.wait_until_gone(10)
    status = read_status(run.path)
    assert (status.state, status.reason) == ("stopped", "received SIGUSR1")
    assert run.saved_steps[-1] == status.step


@pytest.mark.slow
@pytest.mark.faults
def test_a_second_signal_ends_a_run_at_once_and_leaves_nothing_behind(tmp_path, folder):
    long_step = {"train__size": 384, "train__batch_size": 8, "train__steps": 9, "model__encoder_width": 64}
    run = LaunchedRun(tmp_path, str(folder / "shards"), data__num_workers=2, **long_step)
    life = run.start()
    run.wait_until(life, lambda: run.says("step 1/"))
    memory = set().union(*map(mapped_memory, life.processes()))
    time.sleep(0.5)  # in the second step: the first may be interrupted, and so may the wait for data
    os.kill(life.process.pid, signal.SIGTERM)
    time.sleep(1.3)
    os.kill(life.process.pid, signal.SIGTERM)
    assert life.process.wait(3) == -signal.SIGTERM
    assert not life.wait_until_gone(10), "workers and their server end with the trainer"
    assert not [name for name in memory if Path(name).exists()]
    assert read_status(run.path).reason == "was killed: nobody holds the run's lock"


@pytest.mark.slow
@pytest.mark.faults
def test_an_orphan_and_its_successor_never_write_together(tmp_path, folder, whole):
    run = LaunchedRun(tmp_path, str(folder / "shards"), "accelerate")
    first = run.start()
    run.wait_until(first, lambda: run.says("step 3/"))
    first.process.kill()
    second = run.start()
    assert second.process.wait(200) == 0, run.tail()
    assert not first.wait_until_gone(1)
    assert not second.wait_until_gone(10)
    lines = list(read_metrics(run.path / "metrics.jsonl"))
    sessions = [line["session"] for line in lines]
    assert sessions == sorted(sessions)
    stopped = max(line["step"] for line in lines if line["session"] == sessions[0])
    assert [line["step"] for line in lines].count(stopped) == 1, "it saved before it let go"
    assert run.weights == whole("accelerate")
