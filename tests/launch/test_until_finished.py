"""The shell loop and the SLURM script, with stand-ins for the training and for SLURM's commands."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.train.config import SessionConfig
from pipeline.train.session import Session
from pipeline.train.status import Status, read_status, write_status

from ..train.test_trainer import make_dataset
from .launched_run import LaunchedRun

pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
ROOT = Path(__file__).parents[2]
LOOP = ROOT / "launch" / "until_finished.sh"
BATCH = ROOT / "launch" / "slurm" / "train.sbatch"


def status_text(state: str, step: int, reason: str = "r") -> str:
    fields = {"total_steps": 9, "samples_seen": 0, "hours": 0.0, "next_command": "x"}
    return Status(state=state, reason=reason, step=step, **fields).model_dump_json()


def stop_file_reason(run: Path) -> str | None:
    """What a run says that has seen its stop file."""
    (run / "STOP").touch()
    try:
        return Session(SessionConfig(), run).stop_reason()
    finally:
        (run / "STOP").unlink()


def stand_in(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def place(tmp_path):
    """A run folder, and a folder of stand-ins that comes first on the PATH."""
    for name in ("run", "bin"):
        (tmp_path / name).mkdir()
    return tmp_path


def environment(place: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(place / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), **more}


def training(place: Path, outcomes: list[tuple[str, int]], *, saves: bool = True) -> str:
    """A command that ends as told, one outcome a start, again and again; it may leave a checkpoint of its last step."""
    for number, (state, step) in enumerate(outcomes, 1):
        (place / f"status{number}").write_text(status_text(state, step))
        (place / f"saved{number}").write_text(f"checkpoints/step_{step:08d}" if saves else "checkpoints")
    stand_in(
        place / "bin",
        "train",
        f"cd {place}; echo >>starts; n=$((($(wc -l <starts) - 1) % {len(outcomes)} + 1))\n"
        "cp status$n run/status.json; mkdir -p run/$(cat saved$n); exit 1",
    )
    return "train"


def loop(place: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(LOOP), str(place / "run"), "--", *command],
        env=environment(place, **more),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def starts(place: Path) -> int:
    return (place / "starts").read_text().count("\n")


@pytest.mark.parametrize(("last", "code"), [("finished", 0), ("failed", 1)])
def test_the_loop_starts_again_until_the_run_says_that_it_is_over(place, last, code):
    result = loop(place, training(place, [("stopped", 3), (last, 9)]))
    assert (result.returncode, starts(place)) == (code, 2)
    assert "starting again at step 3" in result.stderr


@pytest.mark.slow
def test_the_loop_gives_up_when_nothing_gets_on(place):
    result = loop(place, training(place, [("stopped", 3), ("stopped", 5), ("running", 5)]), FRUITLESS="2")
    assert (result.returncode, starts(place)) == (75, 4)
    assert "2 starts in a row have left no checkpoint" in result.stderr
    assert "beyond step 5" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("saves", [False, True])
def test_steps_that_are_logged_or_done_again_are_no_progress(place, saves):
    command = training(place, [("running", 1500), ("running", 1480)], saves=saves)
    result = loop(place, command, FRUITLESS="2")
    assert (result.returncode, starts(place)) == (75, 3)
    assert f"beyond step {1500 if saves else 0}" in result.stderr


def test_the_stop_file_of_a_run_ends_the_loop(place):
    (place / "status").write_text(status_text("stopped", 4, stop_file_reason(place / "run")))
    stand_in(place / "bin", "train", f"echo >>{place}/starts; cp {place}/status {place}/run/status.json")
    result = loop(place, "train")
    assert (result.returncode, starts(place)) == (75, 1)
    assert "by its stop file" in result.stderr


@pytest.mark.slow
def test_a_stop_file_of_an_earlier_start_does_not_end_the_loop(place):
    (place / "run" / "status.json").write_text(status_text("stopped", 4, stop_file_reason(place / "run")))
    stand_in(place / "bin", "train", f"echo >>{place}/starts; exit 1")
    result = loop(place, "train", FRUITLESS="1")
    assert (result.returncode, starts(place)) == (75, 2)


@pytest.mark.parametrize(("tool", "started"), [("sed", 1), pytest.param("cat", 2, marks=pytest.mark.slow)])
def test_a_stop_of_the_loop_between_two_starts_is_not_lost(place, tool, started):
    (place / "status1").write_text(status_text("stopped", 3))
    (place / "status2").write_text(status_text("finished", 9))
    stand_in(
        place / "bin",
        "train",
        f"cd {place}; echo >>starts; echo $PPID >loop; n=$(wc -l <starts); [ $n = 1 ] || sleep 3\n"
        "cp status$n run/status.json",
    )
    # What the loop runs after its last look at the end of a start, and right before the next.
    tell = f"if read -r loop <{place}/loop; then kill -TERM $loop; fi"
    stand_in(place / "bin", tool, f'{tell} 2>/dev/null; exec {shutil.which(tool)} "$@"')
    assert (loop(place, "train").returncode, starts(place)) == (75, started)


def test_what_is_no_run_and_a_wrong_call_end_the_loop(place):
    result = loop(place, "true")
    assert result.returncode == 2
    assert "not a run" in result.stderr
    result = subprocess.run(["sh", str(LOOP), "run"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "sh launch/until_finished.sh runs/demo -- python" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_of_the_loop_is_told_to_the_training_and_waited_for(place, number):
    write_status(place / "run", Status.model_validate_json(status_text("stopped", 4)))
    stand_in(
        place / "bin",
        "train",
        f"trap 'sleep 0.5; echo saved >{place}/saved; exit 0' TERM; echo >>{place}/starts\nwhile :; do sleep 0.1; done",
    )
    process = subprocess.Popen(
        ["sh", str(LOOP), str(place / "run"), "--", "train"], env=environment(place), stdout=subprocess.DEVNULL
    )
    wait_for(lambda: (place / "starts").exists())
    process.send_signal(number)
    assert process.wait(60) == 75
    assert (place / "saved").exists()
    assert starts(place) == 1


def wait_for(happened, seconds=120.0):
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def cluster(place: Path, nodes: int) -> dict[str, str]:
    """SLURM's commands, as far as the batch script uses them, on this machine."""
    start = f'echo "$1" >{place}/srun; shift; i=0; while [ $i -lt {nodes} ]; do "$@" & i=$((i + 1)); done; wait'
    stand_in(place / "bin", "srun", start)
    stand_in(place / "bin", "scontrol", f'[ "$1" = show ] && echo localhost || echo "$@" >>{place}/scontrol')
    return environment(
        place,
        SLURM_JOB_ID=str(os.getpid()),
        SLURM_JOB_NODELIST="localhost",
        SLURM_JOB_NUM_NODES=str(nodes),
        SLURM_CPUS_PER_TASK="7",
        GPUS_PER_NODE="1",
        ACCELERATE_USE_CPU="true",
        OMP_NUM_THREADS="1",
    )


def test_a_warned_job_stops_its_run_and_queues_itself_again_but_not_for_ever(place):
    env = cluster(place, 1)
    run = place / "run"
    (place / "status").write_text(status_text("stopped", 4))
    # A training that saves when it sees the stop file.
    stand_in(
        place / "bin",
        "torchrun",
        f'echo "$@" >{place}/torchrun; until [ -e {run}/STOP ]; do sleep 0.05; done\n'
        f"cp {place}/status {run}/status.json",
    )
    codes = []
    for _ in range(3):
        (place / "torchrun").unlink(missing_ok=True)
        job = subprocess.Popen(["sh", str(BATCH), "c.yaml", str(run), "train.steps=9"], env=env)
        wait_for((place / "torchrun").exists)
        job.send_signal(signal.SIGUSR1)
        codes.append(job.wait(60))
        assert not (run / "STOP").exists()
    arguments = (place / "torchrun").read_text()
    assert "--nnodes 1 --nproc_per_node 1 --rdzv_backend c10d --rdzv_endpoint localhost:" in arguments
    assert f"-m launch.train --config c.yaml run={run} train.steps=9" in arguments
    assert (place / "scontrol").read_text() == 2 * f"requeue {env['SLURM_JOB_ID']}\n"
    assert codes == [0, 0, 1]
    assert (place / "srun").read_text() == "--cpus-per-task=7\n", "srun itself does not take it from sbatch"
    assert not (run / ".requeued").exists(), "a job that is queued by hand begins to count anew"


def test_a_job_that_is_warned_before_there_is_a_run_is_queued_again(place):
    env = cluster(place, 1)
    run = place / "run"
    stand_in(place / "bin", "torchrun", f"touch {place}/up; until [ -e {run}/STOP ]; do sleep 0.05; done; exit 1")
    job = subprocess.Popen(["sh", str(BATCH), "c.yaml", str(run)], env=env)
    wait_for((place / "up").exists)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 0
    assert (place / "scontrol").read_text() == f"requeue {env['SLURM_JOB_ID']}\n"


def test_a_job_whose_run_somebody_has_stopped_is_not_queued_again(place):
    env = cluster(place, 1)
    (place / "status").write_text(status_text("stopped", 4, stop_file_reason(place / "run")))
    stand_in(place / "bin", "torchrun", f"cp {place}/status {place}/run/status.json")
    assert subprocess.run(["sh", str(BATCH), "c.yaml", str(place / "run")], env=env, check=False).returncode == 75
    assert not (place / "scontrol").exists()


@pytest.mark.slow
def test_jobs_that_do_the_same_steps_again_are_not_queued_for_ever(place):
    env = cluster(place, 1)
    stand_in(place / "bin", "torchrun", training(place, [("running", 1500), ("running", 1480)], saves=False))
    command = ["sh", str(BATCH), "c.yaml", str(place / "run")]
    assert [subprocess.run(command, env=env, check=False).returncode for _ in range(3)] == [0, 0, 1]


@pytest.mark.slow
@pytest.mark.faults
def test_two_nodes_train_one_run_and_go_on_after_a_warning(place):
    run = LaunchedRun(place, make_dataset(place / "shards"), train__steps=300, checkpoint__every_steps=1000)
    env = cluster(place, 2)
    command = ["sh", str(BATCH), str(run.config), str(run.path)]
    log = (place / "job.log").open("a")
    job = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    wait_for(lambda: "step 5/" in (place / "job.log").read_text())
    assert "processes: 2" in (place / "job.log").read_text()
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 0
    stopped = read_status(run.path)
    assert stopped.state == "stopped"
    assert stopped.reason.startswith("found the stop file")
    assert run.saved_steps == [stopped.step]
    assert (place / "scontrol").read_text() == f"requeue {env['SLURM_JOB_ID']}\n"
    assert subprocess.run(command, env=env, stdout=log, stderr=log, timeout=300, check=False).returncode == 0
    log.close()
    assert read_status(run.path).state == "finished"
    assert json.loads((run.path / "metrics.json").read_text())["step"] == 300
