"""A training run as real processes that are killed with SIGKILL, and what it leaves behind.

    with KilledRun(folder, settings, processes=2) as run:
        life = run.start(["checkpoint.every_steps=1"])
        run.wait_for_new_step(life, seconds=60); life.kill("rank", draw); life.wait_until_gone(60)

The processes of a life are found by a variable in their environment, whoever their parent is by then.
Linux only: it reads /proc.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from pipeline.train.metrics_log import read_metrics
from pipeline.train.session_log import read_record

__all__ = ["KilledRun", "Life"]

MARKER = "DEPTHRANK_TEST_LIFE"
PROC = Path("/proc")
SHARED_MEMORY = "/dev/shm/"
POLL_SECONDS = 0.002


class Life:
    """The processes of one start of a run."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.name = uuid.uuid4().hex
        self.shared_memory: set[str] = set()
        """Names in /dev/shm that its processes had mapped when they were killed."""
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env={**environment, MARKER: self.name},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def has_ended(self) -> bool:
        """Whether the process that was started is gone; others of the life may still be there."""
        return self.process.poll() is not None

    def processes(self) -> dict[int, int]:
        """All that live, each with its parent."""
        wanted = f"{MARKER}={self.name}".encode()
        found = {}
        for folder in PROC.iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        return found

    def kill(self, whom: str, draw: random.Random) -> bool:
        """Send SIGKILL to `all`, to the `trainer` or `launcher` that was started, or to one `rank` or `worker`.

        Returns:
            Whether there was one to kill.
        """
        family = self.processes()
        commands = {pid: _command(pid) for pid in family}
        servers = {pid for pid, command in commands.items() if "multiprocessing.forkserver" in command}
        chosen = {
            "all": sorted(family),
            "trainer": [self.process.pid],
            "launcher": [self.process.pid],
            "rank": [pid for pid, parent in family.items() if parent == self.process.pid and pid not in servers],
            "worker": [pid for pid, parent in family.items() if pid in servers and parent in servers],
        }[whom]
        self.shared_memory |= {name for pid in family for name in _mapped(pid)}
        if whom in ("rank", "worker"):
            chosen = draw.sample(sorted(chosen), min(1, len(chosen)))
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(chosen)

    def wait_until_gone(self, seconds: float) -> dict[int, str]:
        """Wait until no process of this life is left; returns those that are after so many seconds, killed then."""
        deadline = time.monotonic() + seconds
        while (family := self.processes()) and time.monotonic() < deadline:
            self.process.poll()
            time.sleep(0.05)
        left = {pid: _command(pid) for pid in family}
        while family := self.processes():
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        return left

    def leaked_memory(self) -> set[str]:
        """Names in /dev/shm that it had and that are still there."""
        return {name for name in self.shared_memory if Path(name).exists()}


class KilledRun:
    """A run and its lives.

    Attributes:
        reached_step: Last step that any life has done so far.
        again_steps: Steps that were done again so far.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], *, processes: int) -> None:
        """Prepare a run in `folder/run`; `settings` are those of a `RunConfig`, with `monitor.log_samples`."""
        self.folder = folder
        self.path = folder / "run"
        self.log = folder / "log.txt"
        folder.mkdir(parents=True, exist_ok=True)
        self.temporary = Path(tempfile.mkdtemp(prefix="killed-"))  # short: sockets lie below it
        self.reached_step = 0
        self.again_steps = 0
        self.processes = processes
        self._read_bytes = 0
        self._lives: list[Life] = []
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump({**settings, "run": str(self.path)}))
        launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
        self._command = [sys.executable, "-m", *(launcher if processes > 1 else []), "launch.train"]
        self._command += ["--config", str(config)]
        self._environment = {
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])),
        }

    def __enter__(self) -> Self:
        return self

    def count_left_files(self) -> int:
        """In the folder of temporary files, which goes with this run."""
        return len(list(self.temporary.iterdir()))

    def __exit__(self, *error: object) -> None:
        """Leave no process and no shared memory behind, however the test ended."""
        for life in self._lives:
            life.wait_until_gone(0)
            for name in life.leaked_memory():
                Path(name).unlink(missing_ok=True)
        shutil.rmtree(self.temporary)

    def start(self, overrides: Sequence[str] = ()) -> Life:
        """Start it, or start it again."""
        life = Life([*self._command, *overrides], self._environment, self.log)
        self._lives.append(life)
        return life

    def finish(self, overrides: Sequence[str] = (), *, seconds: float) -> None:
        """Start it and let it come to its end."""
        life = self.start(overrides)
        assert life.process.wait(seconds) == 0, self.tail()
        assert life.wait_until_gone(60) == {}
        self.look()

    def wait_for_new_step(self, life: Life, *, seconds: float) -> bool:
        """Wait until a step is done that no life had done; False where the life ended before."""
        before = self.look()
        return self.wait_until(life, lambda: self.look() > before, seconds=seconds)

    def wait_until(self, life: Life, condition: Callable[[], bool], *, seconds: float) -> bool:
        """Wait for something that a life does; False where it ended before."""
        deadline = time.monotonic() + seconds
        while not condition():
            if life.has_ended:
                return condition()
            assert time.monotonic() < deadline, f"nothing happened for {seconds:.0f} s:\n{self.tail()}"
            time.sleep(POLL_SECONDS)
        return True

    def look(self) -> int:
        """Read on in `samples.jsonl`; returns the last step that any life has done."""
        path = self.path / "samples.jsonl"
        if path.exists():
            with path.open("rb") as file:
                file.seek(self._read_bytes)
                for line in file:
                    entry = read_record(line)
                    if entry is None:
                        break  # it is being written
                    self._read_bytes += len(line)
                    self.again_steps += bool(entry.get("again"))
                    self.reached_step = max(self.reached_step, entry["step"])
        return self.reached_step

    @property
    def is_saving(self) -> bool:
        """Whether a checkpoint is being written, put in place or removed."""
        checkpoints = self.path / "checkpoints"
        return checkpoints.is_dir() and any(path.name.startswith(".step_") for path in checkpoints.iterdir())

    def is_evaluating(self, every_steps: int) -> bool:
        """Whether the last step is due for an evaluation whose figures are not there yet."""
        step = self.look()
        lines = [line for line in read_metrics(self.path / "metrics.jsonl") if line["step"] == step]
        return step > 0 and step % every_steps == 0 and not any("val/whdr" in line for line in lines)

    def tail(self, num_bytes: int = 6000) -> str:
        """The end of what its processes printed."""
        return self.log.read_bytes()[-num_bytes:].decode(errors="replace")


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _mapped(pid: int) -> set[str]:
    """Files in /dev/shm that a process has mapped and that still had a name."""
    try:
        lines = (PROC / str(pid) / "maps").read_text().splitlines()
    except OSError:
        return set()
    names = {line[line.index(SHARED_MEMORY) :] for line in lines if SHARED_MEMORY in line}
    return {name for name in names if not name.endswith(" (deleted)")}
