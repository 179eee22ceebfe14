"""The training of one session: a subprocess, because launchers inside a notebook break once something touched CUDA.

code = run_to_end(train_command(len(gpus), site, settings), site=site, cwd=working, run_dir=run_dir)
carry_checkpoint(config)
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.train.config import RunConfig

__all__ = ["carry_checkpoint", "run_to_end", "train_command"]

ACCELERATE_FILES = {0: "cpu.yaml", 1: "one_gpu.yaml", 2: "two_t4.yaml"}


def train_command(num_gpus: int, site: Path, arguments: Sequence[str]) -> list[str]:
    """The command that trains on so many GPUs; 0 is the CPU.

    Args:
        num_gpus: A process each.
        site: Where the program is installed.
        arguments: Of `launch.train`.
    """
    file = site / "launch" / "accelerate" / ACCELERATE_FILES.get(num_gpus, "two_t4.yaml")
    more = [] if num_gpus in ACCELERATE_FILES else [f"--num_processes={num_gpus}", "--gpu_ids=all"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file), *more]
    return [*launcher, "-m", "launch.train", *arguments]


def run_to_end(command: Sequence[str], *, site: Path, cwd: Path, run_dir: Path) -> int:
    """Run the command and repeat what it says, line by line.

    An interrupt (the notebook's stop button) becomes the run's stop file: it saves and ends. A second one kills it.

    Returns:
        Its exit code.
    """
    print(f"$ {shlex.join(command)}", flush=True)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # the notebook's interrupt would reach it as well
    )
    assert process.stdout is not None
    was_asked = False
    while True:
        try:
            for line in process.stdout:  # until the last of its processes has ended
                print(line, end="", flush=True)
            process.stdout.close()
            return process.wait()
        except KeyboardInterrupt:
            if was_asked:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.stdout.close()
                process.wait()
                raise
            was_asked = True
            run_dir.mkdir(parents=True, exist_ok=True)
            (run_dir / "STOP").touch()
            print("\nstopping: the run ends at its next step and saves; interrupt again to kill it", flush=True)


def carry_checkpoint(config: RunConfig) -> Path | None:
    """Copy the newest checkpoint into the run folder, where only an attached one has it.

    A session that was stopped before its first save would leave an output from which nobody can go on.

    Returns:
        The copy; None where there is nothing to copy.
    """
    from pipeline.train.carry_logs import carry_logs
    from pipeline.train.checkpoint_search import find_checkpoint
    from pipeline.train.trainer import run_folder, run_id

    run_dir = run_folder(config)
    found = find_checkpoint(run_dir, run_id=run_id(config), config=config.checkpoint)
    if found is None or found.path.is_relative_to(run_dir):
        return None
    carry_logs(found.path, run_dir)
    target = run_dir / "checkpoints" / found.path.name
    part = target.with_name(f".{target.name}.tmp-carried")  # a later start removes what is left of it
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for path in sorted(found.path.iterdir()):
        shutil.copyfile(path, part / path.name)  # not its permissions, which are those of a read-only mount
    part.rename(target)
    return target
