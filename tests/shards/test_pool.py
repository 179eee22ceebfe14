import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.pool import open_pool
from shards.sources import Item

ITEMS = [Item(f"{number:02d}") for number in range(20)]


def late_when_even(item, config):
    time.sleep(0.02 * (int(item.name) % 2 == 0))
    return f"{config} {item.name}"


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers):
    with ThreadPoolExecutor(3) as threads, open_pool(workers, len(ITEMS), None if workers == 1 else threads) as run:
        assert list(run(late_when_even, ITEMS, "x")) == [f"x {item.name}" for item in ITEMS]
        assert list(run(late_when_even, [], "x")) == []


def test_what_has_not_begun_is_dropped():
    futures = []

    class Never(ThreadPoolExecutor):
        def submit(self, function, /, *arguments):
            futures.append(Future())
            return futures[-1]

    with Never(1) as executor, open_pool(2, len(ITEMS), executor) as run:
        results = run(late_when_even, ITEMS, "x")
        with ThreadPoolExecutor(1) as other:
            first = other.submit(next, results)
            while len(futures) < 8:
                time.sleep(0.001)
            futures[0].set_result("first")
            assert first.result() == "first"
        results.close()
    assert len(futures) == 8
    assert all(future.cancelled() for future in futures[1:])


def dies(item, config):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_dies_is_one_clear_line():
    with (
        open_pool(2, len(ITEMS)) as run,
        pytest.raises(DataError, match=r"a packing process died near \d\d.*start again to continue"),
    ):
        list(run(dies, ITEMS, "x"))


SCRIPT = """
import os, sys, time
from shards.pool import open_pool
from shards.sources import Item
from tests_of_pool import pid
if __name__ == "__main__":
    with open_pool(2, 40) as run:
        for number in run(pid, [Item(str(n)) for n in range(40)], None):
            print(number, flush=True)
"""


@pytest.mark.slow
def test_no_process_outlives_the_packing_process(tmp_path):
    (tmp_path / "tests_of_pool.py").write_text(
        "import os, time\ndef pid(item, config):\n    time.sleep(0.2)\n    return os.getpid()\n"
    )
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")], env=environment, stdout=subprocess.PIPE, text=True
    ) as packing:
        workers = {int(packing.stdout.readline()) for _ in range(4)}
        packing.kill()
    assert all(worker != packing.pid for worker in workers)
    until = time.monotonic() + 20
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.05)


def is_running(process):
    stat = Path(f"/proc/{process}/stat")  # one that ended but that nobody waits for still has a number
    try:
        os.kill(process, 0)
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
