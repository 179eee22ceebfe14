"""A scheduler that does to a batch script what SLURM does, when the test says so.

    slurm = Slurm(folder, environment)
    job = slurm.submit("launch/slurm/train.sbatch", "c.yaml", "run", options=["--nodes=2"])
    job.warn(); job.wait()                 # the signal of --signal=B:..., then whatever the script decides
    job.time_up(kill_wait=1)               # SIGTERM to everything, then SIGKILL
    slurm.requeued(job); job = slurm.start_again(job)

`srun`, `scontrol` and `scancel` are executables that come first on the PATH. As in SLURM the script runs from a copy
elsewhere, in the folder of submission; `#SBATCH` lines and options are read, and what the script must not count on
(`SLURM_RESTART_COUNT` in a first start) is absent. Nodes are groups of processes of this machine.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Job", "Slurm"]

MARKER = "DEPTHRANK_TEST_JOB"
KNOWN = "job-name nodes ntasks-per-node gres cpus-per-task time signal requeue open-mode output array partition account"


@dataclass
class Job:
    """One start of a batch script."""

    number: int
    command: list[str]
    options: dict[str, str]
    process: subprocess.Popen[bytes]
    marker: str
    restarts: int = 0
    element: int | None = None

    def warn(self) -> None:
        """Send what `--signal` asks for, to the script alone, as `B:` says."""
        found = re.fullmatch(r"B:(\w+)@(\d+)", self.options["signal"])
        assert found, "without B: every process of the job would get it"
        assert int(found[2]) >= 60, "seconds to save before the time is up"
        self.process.send_signal(getattr(signal, f"SIG{found[1]}"))

    def time_up(self, kill_wait: float) -> None:
        """The limit of time, or a preemption: SIGTERM to all processes, SIGKILL to those that are left."""
        self.signal_all(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(kill_wait)
        self._kill()

    def node_fails(self) -> None:
        """Everything is gone at once."""
        self._kill()

    def signal_all(self, number: int) -> None:
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _kill(self) -> None:
        processes = self._processes()
        self.signal_all(signal.SIGKILL)
        self.process.wait(60)
        until = time.monotonic() + 60
        while any(map(_lives, processes)):  # one that dies holds its locks to the end
            assert time.monotonic() < until
            time.sleep(0.02)

    def wait(self, seconds: float = 120) -> int:
        return self.process.wait(seconds)

    def _processes(self) -> list[int]:
        """All processes of the job, whoever their parent is by now."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if f"{MARKER}={self.marker}".encode() in (folder / "environ").read_bytes():
                        found.append(int(folder.name))
        return found


def _lives(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Slurm:
    def __init__(self, folder: Path, environment: dict[str, str], *, may_requeue: bool = True) -> None:
        self.folder = folder
        self.log = folder / "job.log"
        self._environment = environment
        self._next = 4242
        (folder / "bin").mkdir(exist_ok=True)
        self._stand_in("srun", f'python3=$(command -v python3)\nexec "$python3" -c {shlex.quote(SRUN)} "$@"')
        refusal = "" if may_requeue else "echo 'Requested operation is presently disabled' >&2; exit 1\n"
        self._stand_in(
            "scontrol",
            f'if [ "$1" = show ]; then i=0; while [ $i -lt "$SLURM_JOB_NUM_NODES" ]; do echo localhost; '
            f'i=$((i + 1)); done; exit 0; fi\n{refusal}echo "$@" >>{folder}/scontrol',
        )
        self._stand_in("scancel", f'echo "$@" >>{folder}/scancel')

    def submit(self, script: Path, *arguments: str, options: tuple[str, ...] = (), element: int | None = None) -> Job:
        asked = dict(self._option(line) for line in re.findall(r"^#SBATCH (.+)$", script.read_text(), re.MULTILINE))
        asked |= dict(self._option(text) for text in options)
        spool = self.folder / "spool"
        spool.mkdir(exist_ok=True)
        if element is None or element == 1:
            self._next += 1
        copy = spool / f"job{self._next}"
        shutil.copy(script, copy)
        number = self._next if element is None else self._next + element
        return self._start(number, ["sh", str(copy), *arguments], asked, 0, element)

    def start_again(self, job: Job) -> Job:
        """After a requeue, by the script or by SLURM where a node failed."""
        assert "requeue" in job.options
        return self._start(job.number, job.command, job.options, job.restarts + 1, job.element)

    def requeued(self, job: Job) -> bool:
        """Whether the script has asked for it, once; forgets it."""
        path = self.folder / "scontrol"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        assert lines in ([], [f"requeue {job.number}"])
        return bool(lines)

    @property
    def cancelled(self) -> list[str]:
        path = self.folder / "scancel"
        return path.read_text().splitlines() if path.exists() else []

    def _start(
        self, number: int, command: list[str], options: dict[str, str], restarts: int, element: int | None
    ) -> Job:
        marker = uuid.uuid4().hex
        environment = {
            **self._environment,
            "PATH": os.pathsep.join([str(self.folder / "bin"), self._environment["PATH"]]),
            MARKER: marker,
            "SLURM_JOB_ID": str(number),
            "SLURM_JOB_NUM_NODES": options["nodes"],
            "SLURM_JOB_NODELIST": f"node[1-{options['nodes']}]",
            "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
        }
        if restarts:
            environment["SLURM_RESTART_COUNT"] = str(restarts)
        if element is not None:
            environment |= {"SLURM_ARRAY_JOB_ID": str(number - element), "SLURM_ARRAY_TASK_ID": str(element)}
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        return Job(number, command, options, process, marker, restarts, element)

    def _option(self, text: str) -> tuple[str, str]:
        name, _, value = text.removeprefix("--").partition("=")
        assert text.startswith("--") and name in KNOWN.split(), f"sbatch knows no {text}"
        return name, value

    def _stand_in(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


SRUN = """
import os, subprocess, sys
words = sys.argv[1:]
while words and words[0].startswith("--"):
    assert words.pop(0) == "--cpus-per-task=" + os.environ["SLURM_CPUS_PER_TASK"]
nodes = int(os.environ["SLURM_JOB_NUM_NODES"])
tasks = [subprocess.Popen(words, env={**os.environ, "SLURM_NODEID": str(node), "SLURM_PROCID": str(node)})
         for node in range(nodes)]
import signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda number, _: [task.send_signal(number) for task in tasks if task.poll() is None])
sys.exit(max(task.wait() for task in tasks))
"""
