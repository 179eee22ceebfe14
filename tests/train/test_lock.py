import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.train.lock import Holder, RunLock, lock_is_held, read_holder
from shards.errors import RunError

HOLD = """
import sys, time
from pathlib import Path
from pipeline.train.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holding_process(run_dir: Path) -> subprocess.Popen:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n"
    return child


def ended(child: subprocess.Popen) -> int:
    child.stdin.close()
    child.stdout.close()
    return child.wait()


def test_a_second_trainer_is_refused_until_the_first_is_killed(tmp_path):
    child = holding_process(tmp_path)
    try:
        assert lock_is_held(tmp_path)
        holder = read_holder(tmp_path)
        assert holder.pid == child.pid
        text = re.escape(f"{tmp_path}: another trainer holds this run: process {child.pid} on {holder.host} since ")
        for _ in range(2):  # a refused attempt must not erase the holder's name
            with pytest.raises(RunError, match=text), RunLock(tmp_path):
                pass
    finally:
        child.kill()
        ended(child)
    assert not lock_is_held(tmp_path)
    assert read_holder(tmp_path) == holder, "what a killed holder leaves"
    with RunLock(tmp_path):
        assert read_holder(tmp_path).pid == os.getpid()
        assert lock_is_held(tmp_path)
    assert not lock_is_held(tmp_path)
    assert read_holder(tmp_path) is None
    assert (tmp_path / ".lock").exists(), "a removed lock file could be locked twice"


def test_a_successor_waits_for_one_that_is_still_saving(tmp_path):
    child = holding_process(tmp_path)
    start = time.monotonic()
    with pytest.raises(RunError, match=r"waited 1 s for it"), RunLock(tmp_path, wait_seconds=1.0):
        pass
    assert time.monotonic() - start >= 1.0
    child.stdin.write("\n")
    child.stdin.flush()
    with RunLock(tmp_path, wait_seconds=30):
        assert ended(child) == 0


def test_two_in_one_process_exclude_each_other(tmp_path):
    with (
        RunLock(tmp_path),
        pytest.raises(RunError, match=f"process {os.getpid()} on"),
        RunLock(tmp_path),
    ):
        pass


def test_a_look_at_the_lock_does_not_refuse_a_trainer_that_starts(tmp_path):
    with RunLock(tmp_path):
        pass
    looking = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    end_of_the_look = threading.Timer(0.2, os.close, [looking])
    end_of_the_look.start()
    with RunLock(tmp_path):
        pass
    end_of_the_look.join()


FORK_AND_DIE = """
import os, signal, sys
from pathlib import Path
from pipeline.train.lock import RunLock
with RunLock(Path(sys.argv[1])):
    if os.fork() == 0:
        print("worker lives", flush=True)
        sys.stdin.read()
        print("worker ends", flush=True)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_forked_worker_does_not_keep_the_lock_of_a_trainer_that_is_gone(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", FORK_AND_DIE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.wait() == -signal.SIGKILL
    assert child.stdout.readline() == "worker lives\n"
    with RunLock(tmp_path):
        pass
    child.stdin.close()
    assert child.stdout.readline() == "worker ends\n"
    child.stdout.close()


@pytest.mark.parametrize("text", [b"", b"nonsense", b"[" * 9000, b'{"pid": null}', b"{}", b"\xff" * 100])
def test_whatever_the_file_says_blocks_nobody(tmp_path, text):
    (tmp_path / ".lock").write_bytes(text)
    assert read_holder(tmp_path) is None
    assert not lock_is_held(tmp_path)
    with RunLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_bytes())["pid"] == os.getpid()


def test_a_longer_text_of_a_dead_holder_is_replaced_whole(tmp_path):
    (tmp_path / ".lock").write_text(json.dumps({"pid": 1, "host": "h" * 3000, "since": "2020"}))
    assert read_holder(tmp_path) == Holder(1, "h" * 255, "2020")
    with RunLock(tmp_path):
        assert read_holder(tmp_path).pid == os.getpid()


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/run: cannot be used as a run folder \(Not a directory\)"):
        RunLock(tmp_path / "file" / "run").__enter__()
    assert not lock_is_held(tmp_path / "nothing")


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_a_filesystem_without_locks_is_named(tmp_path, monkeypatch, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RunError, match=r"this filesystem cannot lock files .* choose a `run` folder on a local disk"):
        RunLock(tmp_path).__enter__()


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match="cannot be used as a run folder"):
        RunLock(tmp_path).__enter__()
    assert (tmp_path / "precious").read_text() == "precious"
