"""A training run under any launcher, with its data behind a server that can hold back files.

with data_server(folder) as server:
    run = LaunchedRun(folder, server.url, "torchrun"); life = run.start()
"""

import contextlib
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from ..train.killed_run import Life

__all__ = ["LAUNCHERS", "DataServer", "LaunchedRun", "data_server", "mapped_memory"]

STEPS = 40
ACCELERATE = ["accelerate.commands.launch", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
LAUNCHERS: dict[str, list[str]] = {
    "python": [],
    "accelerate": [*ACCELERATE, "--num_processes=1", "-m"],
    "accelerate of two": [*ACCELERATE, "--multi_gpu", "--num_processes=2", "-m"],
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"],
}


class DataServer(ThreadingHTTPServer):
    """Serves a folder; requests for the file named `held` wait."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held = ""
        self.waiting = 0
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Those who hang up are part of the game."""


class _Handler(SimpleHTTPRequestHandler):
    server: DataServer

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, directory=str(args[2].folder))

    def send_head(self) -> Any:
        if self.server.held and self.path.endswith(self.server.held):
            self.server.waiting += 1
            while self.server.held and not self.server.ended.wait(0.05):
                pass
            self.server.waiting -= 1
        return super().send_head()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def data_server(folder: Path) -> Iterator[DataServer]:
    server = DataServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


class LaunchedRun:
    def __init__(self, folder: Path, data: str, launcher: str = "python", **changes: Any) -> None:
        """`changes` of the settings are dotted with __."""
        self.path = folder / "run"
        self.log = folder / "log.txt"
        self.launcher = launcher
        settings: dict[str, Any] = {
            "run": str(self.path),
            "data": {"train": data, "val": data, "num_workers": 0, "num_pairs": 32, "cache_dir": str(folder / "cache")},
            "model": {"encoder": "resnet18", "encoder_width": 8, "decoder_channels": 8},
            "optim": {"lr": 1e-3, "encoder_lr_ratio": 1.0},
            "train": {"steps": STEPS, "batch_size": 4, "size": 32, "threads": 1},
            "checkpoint": {"every_steps": 8},
            "monitor": {"log_every_steps": 1, "eval_every_steps": 20, "num_images": 1, "tensorboard": False},
        }
        for name, value in changes.items():
            *path, last = name.split("__")
            section = settings
            for part in path:
                section = section.setdefault(part, {})
            section[last] = value
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump(settings))
        self.environment = {
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])),
        }

    def start(self, *overrides: str, launcher: Sequence[str] | None = None) -> Life:
        words = LAUNCHERS[self.launcher] if launcher is None else launcher
        module = words if words else ["-m"]
        command = [sys.executable, *(["-m", *module] if words else module), "launch.train"]
        return Life([*command, "--config", str(self.config), *overrides], self.environment, self.log)

    def wait_until(self, life: Life, condition: Callable[[], bool], seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert not life.has_ended, self.tail()
            assert time.monotonic() < deadline, self.tail()
            time.sleep(0.002)

    def says(self, text: str) -> bool:
        return self.log.exists() and text in self.log.read_text(errors="replace")

    @property
    def saved_steps(self) -> list[int]:
        return sorted(int(path.name[5:]) for path in (self.path / "checkpoints").glob("step_*"))

    @property
    def weights(self) -> str:
        return hashlib.sha256((self.path / "model.safetensors").read_bytes()).hexdigest()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""


def mapped_memory(pid: int) -> set[str]:
    """Files in /dev/shm that a process has mapped and that have a name."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    names = {line[line.index("/dev/shm/") :] for line in lines if "/dev/shm/" in line}
    return {name for name in names if not name.endswith(" (deleted)")}
