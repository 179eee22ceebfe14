import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import CheckpointConfig
from pipeline.train.history import History
from pipeline.train.lock import RunLock
from pipeline.train.outcome import Reporter
from pipeline.train.status import hang_reports, read_status
from pipeline.train.watchdog import Report, Watchdog, blame, place_of
from shards.writer import DatasetWriter

from ..launch.launched_run import LaunchedRun, data_server
from .killed_run import Life
from .test_trainer import make_dataset, make_sample


def report(rank, **changes):
    return Report(**{"rank": rank, "beat": 9, "idle_seconds": 1801.0, "last": "step 7", "place": "is busy", **changes})


WAITING = "waits for the other processes at pipeline/train/machine.py:100 wait"


def test_a_process_that_does_not_answer_is_named_by_the_others():
    text = blame(report(0, place=WAITING), [report(2, place=WAITING)], [report(1, last="step 6")])
    assert text.startswith("rank 0 has got no further for 30 min: after 'step 7' it waits for the other processes at")
    assert "rank 1, last heard of at 'step 6', does not answer" in text
    assert "rank 2" not in text


def test_a_process_that_answers_but_does_not_wait_is_named_by_the_others():
    text = blame(report(0, place=WAITING), [report(1, place="waits for data at pipeline/data/store.py:9 read")], [])
    assert "rank 1 after 'step 7' waits for data at pipeline/data/store.py:9 read" in text
    assert "does not answer" not in text


def test_where_the_store_is_silent_only_its_host_is_named():
    text = blame(report(1, place=WAITING), [], [report(0), report(2)])
    assert "rank 0, last heard of" in text
    assert "rank 2" not in text


@pytest.mark.parametrize(
    ("files", "place"),
    [
        (
            ["/venv/torch/distributed/distributed_c10d.py:3 all_reduce", "pipeline/train/machine.py:98 any_process"],
            "waits for the other processes at pipeline/train/machine.py:98 any_process",
        ),
        (
            ["/venv/torch/autograd/graph.py:9 _engine_run_backward", "pipeline/train/step.py:5 _backward"],
            "computes gradients, or waits for those of the other processes at pipeline/train/step.py:5 _backward",
        ),
        (
            [
                "/usr/lib/multiprocessing/queues.py:1 get",
                "/venv/torch/utils/data/dataloader.py:7 _try_get_data",
                "pipeline/data/loader.py:2 x",
            ],
            "waits for its loader processes at pipeline/data/loader.py:2 x",
        ),
        (
            ["/usr/lib/threading.py:1 wait", "pipeline/data/fetch.py:2 result"],
            "waits for data at pipeline/data/fetch.py:2 result",
        ),
        (["model/network.py:2 forward"], "is busy at model/network.py:2 forward"),
        ([], "is busy"),
    ],
)
def test_the_stack_tells_what_a_process_waits_for(files, place):
    assert place_of(files) == place


FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["pytest", "pipeline.train.watchdog"])


def watched(folder: Path, limit_seconds: float, work) -> None:
    """Work under a watchdog; what is said goes to files."""
    with (folder / "stderr").open("w") as err:
        os.dup2(err.fileno(), 2)
        sys.stderr = err
        with Watchdog(limit_seconds, folder) as watchdog:
            watchdog.on_hang = (folder / "reason").write_text
            (folder / "up").touch()
            work(watchdog)
        (folder / "lived").touch()


def start_watched(folder, limit_seconds, work):
    child = FORKSERVER.Process(target=watched, args=(folder, limit_seconds, work))
    child.start()
    until = time.monotonic() + 60
    while not (folder / "up").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    return child


def get_stuck(watchdog):
    watchdog.progress("step 3")
    time.sleep(60)


def take_leave(watchdog):
    for _ in range(8):
        time.sleep(0.2)
        watchdog.progress("a step")
    watchdog.progress("a download", leave_seconds=30)
    time.sleep(1.2)


def step_often(watchdog):
    for _ in range(20):
        time.sleep(0.1)
        watchdog.progress("a step")


def test_a_process_that_gets_no_further_ends_with_its_stacks(tmp_path):
    child = start_watched(tmp_path, 0.4, get_stuck)
    child.join(30)
    assert child.exitcode == 1
    said = (tmp_path / "stderr").read_text()
    assert said.startswith("error: rank 0 has got no further for 0 s: after 'step 3' it is busy")
    (path,) = hang_reports(tmp_path)
    assert path.name == "hang-rank0.txt"
    assert "in get_stuck" in path.read_text()
    assert "in get_stuck" in said
    assert (tmp_path / "reason").read_text().endswith(f"stacks in {path}")


@pytest.mark.slow
@pytest.mark.parametrize("work", [take_leave, step_often])
def test_progress_and_leave_keep_a_process_alive(tmp_path, work):
    child = start_watched(tmp_path, 1.0, work)
    child.join(30)
    assert child.exitcode == 0
    assert (tmp_path / "lived").exists()
    assert (tmp_path / "stderr").read_text() == ""
    assert not hang_reports(tmp_path)


@pytest.mark.slow
def test_time_in_which_the_process_was_stopped_does_not_count(tmp_path):
    child = start_watched(tmp_path, 1.0, step_often)
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(3)
    os.kill(child.pid, signal.SIGCONT)
    child.join(30)
    assert child.exitcode == 0
    assert (tmp_path / "lived").exists()


def test_leaving_ends_the_watch(tmp_path):
    with Watchdog(0.1, tmp_path) as watchdog:
        watchdog.progress("all")
    time.sleep(0.5)
    assert not hang_reports(tmp_path)


def test_a_hang_is_no_news_once_the_last_word_is_written(tmp_path):
    loop = SimpleNamespace(history=History(step=3), total_steps=9, samples_seen=12, hours=0.1)
    store = CheckpointStore(tmp_path, run_id="x", config=CheckpointConfig())
    reporter = Reporter(tmp_path, SimpleNamespace(is_main=True), loop, store, "again", "use")
    with RunLock(tmp_path):
        reporter.write("stopped", "received SIGTERM", "again")
        reporter.write_hang("rank 1 has got no further")
        assert (read_status(tmp_path).state, read_status(tmp_path).reason) == ("stopped", "received SIGTERM")
        reporter.write("running", "training", "again")
        reporter.write_hang("rank 1 has got no further")
        assert read_status(tmp_path).state == "failed"
        assert read_status(tmp_path).reason.startswith("rank 1 has got no further")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("shards") / "planes")


def ranks_of(life):
    """Processes below the launcher, rank 0 first; neither workers nor their server."""
    children = [pid for pid, parent in life.processes().items() if parent == life.process.pid]
    commands = {pid: Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in children}
    return sorted(children, key=lambda pid: [part for part in commands[pid] if part.startswith(b"RANK=")])


@pytest.mark.slow
@pytest.mark.faults
def test_an_evaluation_that_fetches_has_leave_for_it(tmp_path):
    with DatasetWriter(str(tmp_path / "shards"), shard_bytes=20_000, config={"seed": 0}) as writer:
        for split, count in (("train", 8), ("val", 12)):
            for index in range(count):
                writer.add(split, make_sample(f"{split}-{index:02d}", index))
        writer.finish({})
    with data_server(tmp_path / "shards") as server:
        server.held = max(path.name for path in (tmp_path / "shards").glob("val-*.tar"))
        assert server.held != "val-000000.tar", "the first is read at the start"
        run = LaunchedRun(tmp_path, server.url, session__hang_minutes=0.1, data__retry_minutes=1.0)
        life = run.start()
        try:
            run.wait_until(life, lambda: run.says("step 20/") and server.waiting > 0)
            time.sleep(12)  # the limit is 6 s
            server.held = ""
            assert life.process.wait(60) == 0, run.tail()
        finally:
            life.wait_until_gone(10)
    assert read_status(run.path).state == "finished"


@pytest.mark.slow
@pytest.mark.faults
def test_a_process_that_cannot_leave_its_group_ends_all_the_same(tmp_path, dataset):
    run = LaunchedRun(tmp_path, dataset, train__steps=3, session__hang_minutes=0.1, data__retry_minutes=0.01)
    script = tmp_path / "stuck.py"
    script.write_text(
        "import sys, time\n"
        "import torch.distributed as dist\n"
        "from launch.train import main\n"
        "dist.destroy_process_group = lambda *_: time.sleep(600)\n"
        "main()\n"
    )
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1", str(script)]
    life = Life([sys.executable, *command, "--config", str(run.config)], run.environment, run.log)
    try:
        assert life.process.wait(100) != 0, run.tail()
    finally:
        left = life.wait_until_gone(10)
    assert not left
    assert run.says("after 'the end of the run'"), run.tail()
    assert read_status(run.path).state == "finished", "a hang after the last word changes nothing"


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_rank_is_named_and_the_job_ends(tmp_path, dataset, stopped):
    run = LaunchedRun(
        tmp_path, dataset, "torchrun", train__steps=100_000, session__hang_minutes=0.25, data__retry_minutes=0.01
    )
    life = run.start()
    try:
        run.wait_until(life, lambda: 8 in run.saved_steps)
        os.kill(ranks_of(life)[stopped], signal.SIGSTOP)
        begin = time.monotonic()
        assert life.process.wait(90) != 0
        # The limit is 15 s; torchrun gives a process that does not heed SIGTERM 30 s.
        assert time.monotonic() - begin < 75
    finally:
        left = life.wait_until_gone(10)
    assert not left, "the stopped one is killed as well"
    said = run.log.read_text()
    assert f"error: rank {1 - stopped} has got no further" in said
    assert f"rank {stopped}, last heard of at" in said
    status = read_status(run.path)
    assert status.state == "failed"
    assert f"rank {stopped}, last heard of at" in status.reason
    assert f"the newest checkpoint is of step {run.saved_steps[-1]}" in status.reason
    assert f"stacks in {run.path}/hang-rank{1 - stopped}.txt" in status.reason
    assert (
        "any_process" in hang_reports(run.path)[0].read_text() or "_backward" in hang_reports(run.path)[0].read_text()
    )


@pytest.mark.slow
@pytest.mark.faults
def test_a_worker_that_is_stuck_ends_a_process_alone(tmp_path, dataset):
    run = LaunchedRun(
        tmp_path,
        dataset,
        train__steps=100_000,
        session__hang_minutes=0.1,
        data__num_workers=1,
        data__retry_minutes=0.5,
    )
    life = run.start()
    try:
        run.wait_until(life, lambda: 8 in run.saved_steps)
        family = life.processes()
        (worker,) = [pid for pid, parent in family.items() if parent in family and parent != life.process.pid]
        os.kill(worker, signal.SIGSTOP)
        assert life.process.wait(90) == 1, "the limit, and what fetching a shard may take"
    finally:
        left = life.wait_until_gone(10)
    assert not left, "the stuck worker is killed as well"
    assert "waits for its loader processes at pipeline/data/one_ahead.py" in read_status(run.path).reason


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_rank_ends_the_job_with_one_message_and_leaves_more_to_do(tmp_path, dataset):
    run = LaunchedRun(tmp_path, dataset, "torchrun", train__steps=100_000)
    life = run.start()
    try:
        run.wait_until(life, lambda: 8 in run.saved_steps)
        os.kill(ranks_of(life)[1], signal.SIGKILL)
        assert life.process.wait(60) != 0
    finally:
        assert not life.wait_until_gone(10)
    said = run.log.read_text()
    assert "another process of the job has been killed or has lost its connection" in said
    assert f'File "{Path.cwd() / "pipeline"}' not in said, "torchrun prints a traceback of its own, we do not"
    assert read_status(run.path).state == "stopped"
