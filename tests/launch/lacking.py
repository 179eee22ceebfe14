"""Starts commands in a process from which things that not every system has were taken: python lacking.py windows ...

The packages of others are imported before, because their own ways around are not what is tested; what is left is this
project on an interpreter without these modules, functions, signals and flags. The commands come as JSON on stdin; the
exit codes and what was printed on stderr go as JSON to stdout.
"""

import contextlib
import importlib
import io
import json
import multiprocessing
import os
import pkgutil
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

OTHERS = """
    accelerate cv2 filelock fsspec huggingface_hub numpy PIL.Image pydantic safetensors.torch torch torchvision tqdm
    webdataset yaml torch.utils.data torch.utils.tensorboard matplotlib.pyplot jinja2 multiprocessing.spawn
    multiprocessing.popen_spawn_posix torch.distributed torch.utils.flop_counter torch.multiprocessing
"""
WINDOWS: dict[ModuleType, str] = {
    os: "fork forkpty register_at_fork pread preadv pwrite sched_getaffinity posix_fallocate sysconf statvfs "
    "O_NOFOLLOW O_CLOEXEC O_DIRECTORY killpg getpgid setsid",
    signal: "SIGUSR1 SIGUSR2 SIGHUP SIGALRM SIGKILL setitimer ITIMER_REAL pthread_sigmask SIG_BLOCK SIG_SETMASK",
    time: "clock_gettime CLOCK_BOOTTIME",
    select: "poll epoll",
}
MACOS: dict[ModuleType, str] = {
    os: "sched_getaffinity posix_fallocate",
    time: "CLOCK_BOOTTIME",
    select: "epoll",
}
ABSENT = {"windows": ("fcntl", "resource", "termios", "pwd", "grp", "multiprocessing.forkserver"), "macos": ()}


def take_away(system: str) -> None:
    for module, names in {"windows": WINDOWS, "macos": MACOS}[system].items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    for name in ABSENT[system]:
        sys.modules[name] = None  # type: ignore[assignment]
    real_open: Callable[..., int] = os.open
    real_text, real_bytes = Path.read_text, Path.read_bytes

    def refuse_proc(path: Path) -> None:
        if str(path).startswith("/proc/") and path.name in {"stat", "cmdline", "uptime"}:  # the rest is for others
            raise FileNotFoundError(2, "there is no /proc", str(path))

    def open_no_folder(path: Any, *arguments: Any, **named: Any) -> int:
        if os.path.isdir(path):  # noqa: PTH112
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *arguments, **named)

    def read_text(path: Path, *arguments: Any, **named: Any) -> str:
        refuse_proc(path)
        return real_text(path, *arguments, **named)

    def read_bytes(path: Path) -> bytes:
        refuse_proc(path)
        return real_bytes(path)

    Path.read_text, Path.read_bytes = read_text, read_bytes  # type: ignore[method-assign]
    if system == "windows":
        os.open = open_no_folder
        shutil._use_fd_functions = False  # type: ignore[attr-defined]  # its way there
        multiprocessing.get_all_start_methods = lambda: ["spawn"]  # type: ignore[attr-defined]


def main() -> None:
    commands = json.load(sys.stdin)
    for name in OTHERS.split():
        importlib.import_module(name)
    take_away(sys.argv[1])
    for package in ("model", "shards", "pipeline", "launch"):
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(found.name)
    from launch.cli import run_command

    results = []
    for name, *arguments in commands:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_command(importlib.import_module(f"launch.{name}").main, arguments)
        results.append([code, out.getvalue(), err.getvalue()])
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
