"""`launch/slurm/train.sbatch` under a scheduler that warns, ends, preempts, loses nodes and runs arrays."""

import json
import shutil
import time
from pathlib import Path

import pytest

from pipeline.train.status import read_status

from ..train.test_trainer import make_dataset
from .launched_run import LaunchedRun
from .slurm_stand_in import Job, Slurm
from .test_until_finished import ROOT, environment, stand_in, status_text, stop_file_reason

BATCH = ROOT / "launch" / "slurm" / "train.sbatch"
pytestmark = pytest.mark.skipif(
    shutil.which("sh") is None or not Path("/proc/self/environ").exists(), reason="needs a POSIX shell and /proc"
)

# A training of 30 steps that saves every ten, and when it is asked to stop.
TRAINING = """
cd {place}; mkdir -p run/checkpoints; stop=
trap 'stop=yes' TERM
step=$(ls run/checkpoints | tail -n 1); step=$(echo "${{step#step_}}" | sed 's/^0*//'); step=${{step:-0}}
say() {{ sed "s/7777777/$step/" "$1" >run/.status && mv run/.status run/status.json; }}
save() {{ mkdir -p run/checkpoints/step_$(printf %08d $step); }}
say running; echo "begins at $step of start $SLURM_RESTART_COUNT" >>starts
while [ $step -lt 30 ]; do
    sleep 0.1; [ -z "$stop" ] && [ ! -e run/STOP ] || {{ [ -e obstinate ] || {{ save; say stopped; exit 0; }}; }}
    step=$((step + 1)); [ $((step % 10)) -ne 0 ] || save
    echo $step >at; [ ! -e hold ] || while [ -e hold ] && [ -z "$stop" ] && [ ! -e run/STOP ]; do sleep 0.05; done
done
say finished
"""


@pytest.fixture
def place(tmp_path):
    for name in ("run", "bin"):
        (tmp_path / name).mkdir()
    reason = stop_file_reason(tmp_path / "run")
    for state in ("running", "stopped", "finished"):
        (tmp_path / state).write_text(status_text(state, 7777777, reason if state == "stopped" else "r"))
    stand_in(tmp_path / "bin", "torchrun", TRAINING.format(place=tmp_path))
    return tmp_path


def slurm(place: Path, **options: bool) -> Slurm:
    return Slurm(place, environment(place, GPUS_PER_NODE="1"), **options)


def submit(scheduler: Slurm, *options: str, element: int | None = None) -> Job:
    run = scheduler.folder / "run"
    return scheduler.submit(BATCH, "c.yaml", str(run), options=options, element=element)


def reached(place: Path, step: int) -> None:
    """Wait until the training is past a step."""
    until = time.monotonic() + 60
    while not (place / "at").exists() or int((place / "at").read_text() or 0) < step:
        assert time.monotonic() < until, (place / "job.log").read_text()
        time.sleep(0.02)


def starts(place: Path) -> list[str]:
    return (place / "starts").read_text().splitlines()


def test_an_array_of_jobs_goes_on_without_requeues_and_cancels_what_is_left(place):
    scheduler = slurm(place)
    (place / "hold").touch()
    job = submit(scheduler, "--array=1-5%1", element=1)
    reached(place, 1)
    job.warn()
    assert job.wait() == 0
    assert scheduler.cancelled == [] and not scheduler.requeued(job)
    (place / "hold").unlink()
    last = submit(scheduler, "--array=1-5%1", element=2)
    assert last.wait() == 0
    assert read_status(place / "run").state == "finished"
    assert scheduler.cancelled == [f"--state=PENDING {last.number - 2}"]
    assert "the next job of the array goes on" in scheduler.log.read_text()


@pytest.mark.slow
def test_a_job_is_warned_saves_and_queues_itself_until_it_is_finished(place):
    scheduler = slurm(place)
    (place / "hold").touch()
    job = submit(scheduler)
    for _ in range(2):
        reached(place, 1)
        job.warn()
        assert job.wait() == 0
        assert scheduler.requeued(job)
        (place / "at").unlink()
        job = scheduler.start_again(job)
        reached(place, 1)
    (place / "hold").unlink()
    assert job.wait() == 0
    assert not scheduler.requeued(job)
    assert read_status(place / "run").state == "finished"
    first, *later = starts(place)
    assert first == "begins at 0 of start "
    assert [line.rpartition(" ")[2] for line in later] == ["1", "2"]
    assert not (place / "run" / "STOP").exists()


@pytest.mark.slow
def test_what_does_not_save_in_time_is_killed_and_the_next_job_goes_on_from_its_last_checkpoint(place):
    scheduler = slurm(place)
    (place / "obstinate").touch()
    job = submit(scheduler)
    reached(place, 12)
    job.time_up(kill_wait=0.5)
    assert job.wait() == -9
    assert not scheduler.requeued(job), "SLURM itself does not queue a job again whose time was up"
    (place / "obstinate").unlink()
    assert submit(scheduler).wait() == 0
    assert read_status(place / "run").state == "finished"
    assert starts(place)[1].startswith(("begins at 10 ", "begins at 20 "))


@pytest.mark.slow
def test_a_preempted_job_saves_and_is_queued_again(place):
    scheduler = slurm(place)
    job = submit(scheduler)
    reached(place, 3)
    job.time_up(kill_wait=60)
    assert job.wait() == 0
    assert scheduler.requeued(job)
    assert scheduler.start_again(job).wait() == 0
    assert read_status(place / "run").state == "finished"


@pytest.mark.slow
def test_after_a_node_has_failed_the_job_that_slurm_queues_goes_on(place):
    scheduler = slurm(place)
    job = submit(scheduler)
    reached(place, 12)
    job.node_fails()
    assert scheduler.start_again(job).wait() == 0
    assert read_status(place / "run").state == "finished"
    assert starts(place)[1].startswith(("begins at 10 ", "begins at 20 "))


@pytest.mark.slow
def test_where_jobs_may_not_queue_themselves_the_cure_is_told(place):
    scheduler = slurm(place, may_requeue=False)
    (place / "hold").touch()
    job = submit(scheduler)
    reached(place, 1)
    job.warn()
    assert job.wait() == 75
    assert "submit the same command once more, or with --array=1-10%1" in scheduler.log.read_text()


@pytest.mark.slow
@pytest.mark.faults
def test_two_nodes_that_are_killed_train_to_the_weights_of_two_that_were_not(place):
    """The real thing on one machine: torchrun on each of two nodes, a rendezvous, SIGKILL to all, a second job."""
    (place / "bin" / "torchrun").unlink()
    weights = []
    for name, killed in (("whole", False), ("killed", True)):
        folder = place / name
        run = LaunchedRun(folder, make_dataset(folder / "shards"))
        env = environment(
            place, GPUS_PER_NODE="1", ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT)
        )
        scheduler = Slurm(folder, env)
        job = scheduler.submit(BATCH, str(run.config), str(run.path), options=("--nodes=2",))
        if killed:
            until = time.monotonic() + 200
            while "step 20/" not in scheduler.log.read_text():
                assert time.monotonic() < until and job.process.poll() is None, scheduler.log.read_text()[-3000:]
                time.sleep(0.02)
            job.node_fails()
            assert read_status(run.path).state == "stopped"
            job = scheduler.start_again(job)
        assert job.wait(400) == 0, scheduler.log.read_text()[-3000:]
        assert "processes: 2" in scheduler.log.read_text()
        assert read_status(run.path).state == "finished"
        assert json.loads((run.path / "metrics.json").read_text())["step"] == 40
        weights.append((run.path / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_the_header_is_what_slurm_reads():
    lines = [line for line in BATCH.read_text().splitlines() if line.startswith("#SBATCH")]
    before = BATCH.read_text().partition("#SBATCH")[0]
    assert all(line.startswith("#") or not line for line in before.splitlines()), "the first command ends the header"
    assert len(lines) == len({line.partition("=")[0] for line in lines})
