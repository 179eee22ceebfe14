"""A stand-in for Kaggle's machines: runs a notebook's cells in a container laid out as /kaggle, and keeps the output.

    machine = KaggleMachine(folder)
    version = machine.run(notebook_bytes(settings), {"web-shards": shards, "notebooks/me/run": former.output})

As on Kaggle, the attached folders are read-only mounts, /kaggle/working is a small disk, the session's first process is
as old as the session, there is no internet, and when the first process is killed all others are gone with it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["KaggleMachine", "Version", "cell_sources", "skip_without_containers"]

CONTAINER = ["unshare", "-rmn", "sh", "-c"]
SESSION = """
set -e
mount -t tmpfs -o size="$1" tmpfs "$2/working"
root=$2
kept=$3
shift 3
while [ "$1" != -- ]; do
    mount --bind "$1" "$root/input/$2"
    mount -o remount,bind,ro "$root/input/$2"
    shift 2
done
shift
cd "$root/working"
code=0
unshare -pf --mount-proc "$@" || code=$?
cp -a "$root/working/." "$kept"
exit $code
"""
RUNNER = """
import json, sys
sys.path.pop(0)
namespace = {"__name__": "__main__"}
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        print(f"--- cell {cell['id']}", flush=True)
        exec(compile("".join(cell["source"]), f"<cell {cell['id']}>", "exec"), namespace)
"""


@dataclass(frozen=True)
class Version:
    """What a session has left.

    Attributes:
        code: 0, or another one where a cell failed or the session was killed.
        seconds: Of the whole session.
        first_seen: Seconds from its begin until its log held a text that was looked for.
    """

    code: int
    output: Path
    log: str
    seconds: float
    first_seen: dict[str, float]


class KaggleMachine:
    """Sessions, one after the other.

    Args:
        folder: For everything.
        output_mb: Size of /kaggle/working.
    """

    def __init__(self, folder: Path, *, output_mb: int = 512) -> None:
        self._folder = folder
        self._output_mb = output_mb
        self._sessions = 0
        folder.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        notebook: bytes,
        inputs: Mapping[str, Path],
        *,
        watch: Callable[[str], bool] = lambda log: False,
        look_for: str = "",
    ) -> Version:
        """Run all cells, until the end or until `watch`, which is told the log so far, says to kill the session."""
        self._sessions += 1
        session = self._folder / f"session{self._sessions}"
        root, output = session / "kaggle", session / "output"
        for path in (root / "working", output, *(root / "input" / place for place in inputs)):
            path.mkdir(parents=True)
        (session / "notebook.ipynb").write_bytes(notebook)
        mounts = [text for place, path in inputs.items() for text in (str(path), place)]
        command = [*CONTAINER, SESSION, "sh", f"{self._output_mb}m", str(root), str(output), *mounts, "--"]
        command += [sys.executable, "-c", RUNNER, str(session / "notebook.ipynb")]
        log = session / "log.txt"
        start = time.monotonic()
        seen: dict[str, float] = {}
        with log.open("w") as file:
            process = subprocess.Popen(command, env=_environment(root), stdout=file, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None:
                    text = log.read_text(errors="replace")
                    if look_for and look_for in text:
                        seen.setdefault(look_for, time.monotonic() - start)
                    if watch(text):
                        _kill_first_process(process.pid)
                        process.wait()
                    time.sleep(0.02)
            finally:  # a test that is given up leaves no session behind
                _kill_first_process(process.pid)
                process.wait()
        return Version(process.returncode, output, log.read_text(errors="replace"), time.monotonic() - start, seen)


def cell_sources(notebook: bytes) -> dict[str, str]:
    """The sources of the code cells by name."""
    cells = json.loads(notebook)["cells"]
    return {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}


def skip_without_containers(folder: Path) -> None:
    """Skip the test where this machine lets nobody mount or begin a space of processes."""
    mount = f"mount -t tmpfs tmpfs '{folder}' && unshare -pf --mount-proc true"
    try:
        probe = subprocess.run([*CONTAINER, mount], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if probe.returncode:
        pytest.skip(f"no containers can be made here: {probe.stderr.strip()}")


def _environment(root: Path) -> dict[str, str]:
    ours = ("PYTHONPATH", "RANK", "WORLD_SIZE", "LOCAL_RANK", "PYTEST_CURRENT_TEST")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {
        **kept,
        "DEPTHRANK_KAGGLE_ROOT": str(root),
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


def _kill_first_process(parent: int) -> None:
    """Kill the process that is number 1 in the session's own space."""
    for pid in _descendants(parent):
        with contextlib.suppress(OSError):
            numbers = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "NSpid" in line)
            if numbers.split()[2:] == ["1"]:
                os.kill(pid, signal.SIGKILL)


def _descendants(parent: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                owner = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(owner, []).append(int(folder.name))
    found, todo = [], [parent]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found
