import _thread
import functools
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import time
import weakref
from itertools import product
from pathlib import Path

import pytest
import torch.distributed as dist

from pipeline.train.config import SessionConfig
from pipeline.train.session import Interrupted, Session, agree, agree_to_stop

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["pytest", "pipeline.train.checkpoint", "pipeline.train.session"])


def fresh_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def train(run_dir: Path, saving_seconds: float = 0.0) -> None:
    """A run that writes down when it began, why it stopped, and that it saved."""
    # The server may have been started by another test, or by a shell, with signals held or ignored.
    fresh_signals()
    with (run_dir / "out").open("a", buffering=1) as out, Session(SessionConfig(), run_dir) as session:
        print(os.getpid(), file=out)
        while (reason := session.stop_reason()) is None:
            time.sleep(0.01)
        print(reason, file=out)
        time.sleep(saving_seconds)
        print("saved", file=out)


def lines_of(run_dir: Path, number: int) -> list[str]:
    """What a run has written, once there are so many lines."""
    out, deadline = run_dir / "out", time.monotonic() + 60
    while not out.exists() or out.read_text().count("\n") < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return out.read_text().splitlines()


def training(run_dir: Path, *args) -> multiprocessing.Process:
    child = FORKSERVER.Process(target=train, args=(run_dir, *args))
    child.start()
    assert lines_of(run_dir, 1) == [str(child.pid)]
    return child


def wait_without_anything_to_save(run_dir: Path, config: SessionConfig) -> None:
    fresh_signals()
    with (run_dir / "out").open("a", buffering=1) as out, Session(config, run_dir) as session:
        print(os.getpid(), file=out)
        try:
            with session.interruptible():
                time.sleep(60)
        except Interrupted as wish:
            print(f"interrupted: {wish}", file=out)
        (run_dir / "STOP").unlink(missing_ok=True)
        print(session.stop_reason(), file=out)
        time.sleep(1.2)  # the timer is off
        print("ended", file=out)


@pytest.mark.parametrize("wish", ["signal", "stop file", "budget"])
def test_a_wait_that_loses_nothing_is_interrupted_within_a_second(tmp_path, wish):
    config = SessionConfig(max_hours=1e-6 if wish == "budget" else None)
    child = FORKSERVER.Process(target=wait_without_anything_to_save, args=(tmp_path, config))
    child.start()
    lines_of(tmp_path, 1)
    if wish == "signal":
        os.kill(child.pid, signal.SIGTERM)
    elif wish == "stop file":
        (tmp_path / "STOP").touch()
    child.join(20)
    assert child.exitcode == 0
    _, interrupted, reason, last = lines_of(tmp_path, 4)
    assert interrupted == f"interrupted: {reason}", "the reason outlives what gave it"
    expected = {"signal": "received SIGTERM", "stop file": "found the stop file", "budget": "the session's budget"}
    assert reason.startswith(expected[wish])
    assert last == "ended"


def hit(run_dir: Path, number: int) -> bool:
    """Enter a wait and be hit by a signal at its line of this number; whether there is such a line."""
    seen = 0
    with Session(SessionConfig(), run_dir) as session:

        def at_line(frame, event, _):
            nonlocal seen
            if event == "line":
                seen += 1
                if seen == number:
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGTERM)
            return at_line

        sys.settrace(lambda frame, *_: at_line if frame.f_code.co_name == "interruptible" else None)
        try:
            with session.interruptible():
                sys.settrace(None)
        except Interrupted:
            pass
        finally:
            sys.settrace(None)
        left = signal.setitimer(signal.ITIMER_REAL, 0)
    assert left == (0, 0), "nothing may be interrupted any more"
    return seen >= number


def test_a_signal_at_any_moment_of_the_beginning_of_a_wait_leaves_no_timer(tmp_path):
    assert [hit(tmp_path, number) for number in range(1, 4)] == [True, True, True]


class Signalling(weakref.ref):
    """Lets a signal arrive in C, as during a garbage collection; a Python callback would handle it at once."""

    arrive = functools.partial(_thread.interrupt_main, signal.SIGTERM)


def test_a_signal_during_a_garbage_collection_is_not_lost_in_its_callbacks(tmp_path):
    class Thing:
        pass

    known, things = weakref.WeakValueDictionary(), [Thing()]
    known[0] = things[0]  # what it does when the thing is gone is the first Python code after the signal
    signalling = Signalling(things[0], operator.methodcaller("arrive"))  # called before it, being newer

    def wait(session):
        with session.interruptible():
            things.clear()
            assert session.stop_reason() == "received SIGTERM"
            time.sleep(5)

    with Session(SessionConfig(), tmp_path) as session, pytest.raises(Interrupted, match="received SIGTERM"):
        wait(session)
    assert signalling() is None


class FakeClock:
    def __init__(self) -> None:
        self.seconds = 1e6

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_stops_in_order(tmp_path, number):
    child = training(tmp_path)
    os.kill(child.pid, number)
    child.join(60)
    assert lines_of(tmp_path, 3)[1:] == [f"received {number.name}", "saved"]
    assert child.exitcode == 0


def test_one_wish_told_twice_is_one_and_a_second_wish_ends_the_process_at_once(tmp_path):
    child = training(tmp_path, 60.0)
    os.kill(child.pid, signal.SIGTERM)
    lines_of(tmp_path, 2)
    os.kill(child.pid, signal.SIGINT)  # such as Ctrl-C in a terminal, which torchrun tells its workers again
    time.sleep(1.2)
    os.kill(child.pid, signal.SIGUSR1)  # a scheduler's warning is no second wish
    time.sleep(0.1)
    assert child.is_alive()
    os.kill(child.pid, signal.SIGINT)
    child.join(60)
    assert child.exitcode == -signal.SIGINT
    assert lines_of(tmp_path, 2)[1:] == ["received SIGTERM"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_a_warning_is_no_first_wish(tmp_path, number):
    child = training(tmp_path, 2.5)
    os.kill(child.pid, number)
    lines_of(tmp_path, 2)
    time.sleep(1.2)
    os.kill(child.pid, signal.SIGTERM)
    child.join(60)
    assert child.exitcode == 0
    assert lines_of(tmp_path, 3)[1:] == [f"received {number.name}", "saved"]


def test_handlers_set_a_flag_and_are_put_back(tmp_path):
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
    before = [signal.getsignal(number) for number in numbers]
    with Session(SessionConfig(), tmp_path) as session:
        assert session.stop_reason() is None
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        assert session.stop_reason() == "received SIGUSR1", "the first is the reason"
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_signal_that_was_ignored_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Session(SessionConfig(), tmp_path) as session:
            signal.raise_signal(signal.SIGINT)
            assert session.stop_reason() is None
    finally:
        signal.signal(signal.SIGINT, before)


def fork_a_worker(run_dir: Path) -> None:
    with Session(SessionConfig(), run_dir) as session:
        if os.fork() == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(session.stop_reason() is not None)
        assert os.wait()[1] == 0
        assert session.stop_reason() is None


def test_a_forked_worker_leaves_the_signal_to_its_parent(tmp_path):
    child = FORKSERVER.Process(target=fork_a_worker, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_the_stop_file_stops_and_is_removed_afterwards(tmp_path):
    session = Session(SessionConfig(stop_file="HALT"), tmp_path)
    assert session.stop_reason() is None
    session.remove_stop_file()
    (tmp_path / "HALT").touch()
    assert session.stop_reason() == f"found the stop file {tmp_path / 'HALT'}"
    session.remove_stop_file()
    assert session.stop_reason() is None


def test_the_budget_counts_from_the_start_of_the_process_and_leaves_time_to_save(tmp_path):
    clock = FakeClock()
    session = Session(SessionConfig(max_hours=2.0), tmp_path, clock=clock)
    lived = session.hours * 3600
    assert 0 < lived < 24 * 3600, "this process has been running for a while"
    clock.seconds += 7200 - lived - 100
    assert session.hours_left == pytest.approx(100 / 3600)
    assert session.stop_reason() is None
    assert session.stop_reason(reserve_seconds=99) is None
    assert session.stop_reason(reserve_seconds=101).startswith("the session's budget of 2 h is used up")
    clock.seconds += 101
    assert session.stop_reason() is not None


def test_without_a_budget_a_session_never_ends_by_time(tmp_path, monkeypatch):
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    clock = FakeClock()
    session = Session(SessionConfig(), tmp_path, clock=clock)
    clock.seconds += 1e9
    assert session.hours_left is None
    assert session.stop_reason(reserve_seconds=1e9) is None
    assert session.description == "session: no time budget (session.max_hours is not set)"


def test_kaggle_has_a_preset_that_is_announced(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    clock = FakeClock()
    session = Session(SessionConfig(), tmp_path, clock=clock)
    assert 10 < session.hours_left <= 11 or session.hours > 1, "counted from the start of the machine"
    assert "budget 11 h" in session.description
    assert "preset on Kaggle, counted from the start of the container" in session.description


def test_the_most_urgent_reason_comes_first(tmp_path):
    clock = FakeClock()
    (tmp_path / "STOP").touch()
    with Session(SessionConfig(max_hours=1.0), tmp_path, clock=clock) as session:
        clock.seconds += 7200
        assert session.stop_reason().startswith("found the stop file")
        signal.raise_signal(signal.SIGTERM)
        assert session.stop_reason() == "received SIGTERM"


def launch(run_dir: Path, environ: dict[str, str]) -> None:
    if os.fork() == 0:
        for name in [name for name in os.environ if name.startswith(("ACCELERATE_", "TORCHELASTIC_"))]:
            del os.environ[name]
        os.environ.update(environ)
        train(run_dir)
        os._exit(0)
    os.wait()


def orphan(run_dir: Path, environ: dict[str, str]) -> None:
    """Start a run below a launcher, and kill the launcher."""
    launcher = FORKSERVER.Process(target=launch, args=(run_dir, environ))
    launcher.start()
    lines_of(run_dir, 1)
    launcher.kill()
    launcher.join()


@pytest.mark.parametrize("environ", [{"ACCELERATE_DYNAMO_BACKEND": "no"}, {"TORCHELASTIC_RUN_ID": "none"}])
def test_the_orphan_of_a_launcher_stops(tmp_path, environ):
    orphan(tmp_path, environ)
    assert lines_of(tmp_path, 3)[1:] == ["the launcher that started this process is gone", "saved"]


def test_without_a_launcher_an_orphan_lives_on(tmp_path):
    orphan(tmp_path, {"ACCELERATE_USE_CPU": "true"})
    time.sleep(0.3)
    assert len(lines_of(tmp_path, 1)) == 1
    (tmp_path / "STOP").touch()
    assert lines_of(tmp_path, 3)[1].startswith("found the stop file")


@pytest.mark.slow
def test_the_orphan_of_accelerate_launch_stops(tmp_path):
    tests = Path(__file__)
    script = tmp_path / "train.py"
    script.write_text(f"import test_session, pathlib\ntest_session.train(pathlib.Path({str(tmp_path)!r}))\n")
    launcher = subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", str(script)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": f"{tests.parents[2]}:{tests.parent}"},
    )
    try:
        lines_of(tmp_path, 1)
        launcher.terminate()
        assert launcher.wait() == -signal.SIGTERM
        assert lines_of(tmp_path, 3)[1:] == ["the launcher that started this process is gone", "saved"]
    finally:
        launcher.kill()
        launcher.wait()


REASONS = [
    (None, None),
    ("received SIGTERM", None),
    (None, "found the stop file ünder RUN"),
    ("first", "second"),
    ("x" * 600, None),
    (None, None),
]


FLAGS = list(product((False, True), repeat=2))


def agree_in_a_process(rank: int, store: str, answers) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    said = [agree_to_stop(reasons[rank], dist.group.WORLD) for reasons in REASONS]
    flagged = [agree(reasons[rank], flags[rank], dist.group.WORLD) for reasons, flags in product(REASONS, FLAGS)]
    answers.put((rank, (said, flagged)))
    dist.destroy_process_group()


def test_all_ranks_get_the_reason_of_the_lowest_that_has_one(tmp_path):
    answers = FORKSERVER.Queue()
    children = [
        FORKSERVER.Process(target=agree_in_a_process, args=(rank, str(tmp_path / "store"), answers))
        for rank in range(2)
    ]
    for child in children:
        child.start()
    given = dict(answers.get(timeout=60) for _ in children)
    for child in children:
        child.join()
    expected = [None, "received SIGTERM", "found the stop file ünder RUN", "first", "x" * 512, None]
    flagged = [(reason, any(flags)) for reason, flags in product(expected, FLAGS)]
    assert given == {0: (expected, flagged), 1: (expected, flagged)}


def test_a_single_process_agrees_with_itself():
    assert agree_to_stop(None) is None
    assert agree_to_stop("received SIGTERM") == "received SIGTERM"
    assert agree("received SIGTERM", True) == ("received SIGTERM", True)
    assert agree(None, False) == (None, False)
