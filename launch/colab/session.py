"""One session of a run on Colab: the command that trains, its logs to Drive, the last checkpoint too.

    session = ColabSession("configs/webstereo.yaml", "web", drive=Path("/content/drive/MyDrive/depthrank"), ...)
    session.train(); session.finish(); drive.flush_and_unmount()

`checkpoint.mirror` carries the checkpoints to Drive, `checkpoint.search` finds them there and brings the logs along.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from launch.colab.precision import Gpu, lent_gpu, precision_for, recorded_precision
from launch.config.report import write_value
from launch.recipe import load_recipe
from pipeline.train.checkpoint_search import step_folders, step_in
from pipeline.train.config import RunConfig
from pipeline.train.mirror import Mirror
from pipeline.train.status import describe, read_status
from shards.errors import ConfigError, RunError
from shards.manifest import read_manifest

__all__ = ["ColabSession"]

LOG_SECONDS = 300.0
FINISH_SECONDS = 600.0
KEEP_LAST = 3
"""Drive uploads when it likes: the newest copy may be half there when the machine goes, and the one before it too."""
RESULTS = ("metrics.jsonl", "samples.jsonl", "status.json", "config.yaml", "env.json", "metrics.json", "config.json")
WEIGHTS = "model.safetensors"


class ColabSession:
    """A run, its folder on this machine and its folder on Drive.

    Args:
        recipe: Path of the recipe, in the checkout.
        name: Name of the run.
        drive: Folder on Drive for all runs.
        place: Folder on this machine for all runs.
        shards: Where the dataset lies, None for the recipe's.
        precision: `auto`, or a value of `train.precision`.
        overrides: More settings, `key=value`.
        say: Told what is done.

    Raises:
        ConfigError: The settings are wrong, or the GPU lacks the precision.
        RunError: Drive is not mounted.
    """

    def __init__(
        self,
        recipe: str,
        name: str,
        *,
        drive: Path,
        place: Path,
        shards: str | None = None,
        precision: str = "auto",
        overrides: Sequence[str] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        if not name or name != Path(name).name or name.startswith("."):
            raise ConfigError(f"NAME {name!r}: give a plain name for the run")
        if not drive.parent.is_dir():
            raise RunError(f"{drive.parent}: there is no such folder; run the cell that mounts Drive")
        self._say = say
        self.run = place / name
        self.copy = drive / name
        self.gpu: Gpu | None = lent_gpu()
        self.precision = precision_for(precision, recorded_precision(self.copy), self.gpu)
        settings: dict[str, object] = {
            "run": str(self.run),
            "train.precision": self.precision.value,
            "checkpoint.mirror": str(drive),
            "checkpoint.search": [str(self.copy)],
            "checkpoint.keep_last": KEEP_LAST,
            **({} if shards is None else _data(shards)),
        }
        self.arguments = ["--config", recipe, *(f"{key}={write_value(value)}" for key, value in settings.items())]
        self.arguments += overrides
        self.config = load_recipe(recipe, self.arguments[2:], needs=RunConfig).recipe.run_config()

    def describe(self) -> str:
        """What this session has and where its run stands."""
        newest = self._newest_on_drive()
        return "\n".join(
            [
                f"GPU: {self.gpu or 'none'}",
                str(self.precision),
                f"run: {self.run}; its checkpoints and logs go to {self.copy}",
                "a new run" if newest is None else f"goes on: Drive has step {newest}",
            ]
        )

    def train(self) -> str:
        """Train until the run is finished, its time is used up, or the cell is interrupted; all of these save first.

        Returns:
            How the run stands.

        Raises:
            RunError: Training could not start, as its last lines say.
        """
        command = [sys.executable, "-u", "-m", "launch.train", *self.arguments]
        self._say(shlex.join(["python", *command[2:]]))
        ended = threading.Event()
        copier = threading.Thread(target=self._copy_logs_until, args=(ended,), daemon=True)
        copier.start()
        try:
            code = self._run(command)
        finally:
            ended.set()
            copier.join()
        self.copy_logs()
        status = read_status(self.run) if self.run.is_dir() else None
        if status is None or (code and (code, status.state) != (1, "failed")):
            raise RunError(f"training ended with code {code}; what it said is above")
        return describe(status)

    def _run(self, command: list[str]) -> int:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            while True:
                try:
                    for line in process.stdout:
                        self._say(line.rstrip("\n"))
                    break
                except KeyboardInterrupt:
                    self._say("asked to stop: it saves and ends; interrupt again to end it at once")
                    process.send_signal(signal.SIGINT)  # Jupyter may have done so as well; two at once are one wish
        return process.returncode

    def finish(self) -> str:
        """Bring the newest checkpoint and the logs to Drive, where training had no time for it; then flush Drive.

        Returns:
            What Drive has.
        """
        self.copy_logs()
        own = step_folders(self.run / "checkpoints")
        if not own:
            there = self._newest_on_drive()
            return (
                "there is no checkpoint yet" if there is None else f"Drive has step {there}, and there is no newer one"
            )
        mirror = Mirror(str(self.copy.parent), self.run.name, self.config.checkpoint)
        mirror.offer(own[-1])
        mirror.finish(FINISH_SECONDS, lambda: False)
        return mirror.lag or f"Drive has step {mirror.step}, every byte read back; it uploads when it is flushed"

    def copy_logs(self) -> None:
        """Copy logs and results that have changed; what cannot be copied is told, and tried again with the next."""
        names = [*RESULTS, *([WEIGHTS] if (self.run / "metrics.json").is_file() else [])]
        events = [path.relative_to(self.run) for path in sorted((self.run / "tb").glob("events.*"))]
        for name in (*events, *map(Path, names)):
            try:
                _copy_changed(self.run / name, self.copy / name)
            except OSError as error:
                self._say(f"{name} is not copied to Drive: {error.strerror or error}")

    def _newest_on_drive(self) -> int | None:
        return max(map(step_in, step_folders(self.copy / "checkpoints")), default=None)

    def _copy_logs_until(self, ended: threading.Event) -> None:
        while not ended.wait(LOG_SECONDS):
            self.copy_logs()


def _data(shards: str) -> dict[str, object]:
    return {"data.train": shards, "data.val": shards if "val" in read_manifest(shards).splits else None}


def _copy_changed(source: Path, target: Path) -> None:
    """Copy a file whose size or time has changed; the copy is whole or the former one."""
    if not source.is_file():
        return
    new = source.stat()
    if target.is_file() and (target.stat().st_size, int(target.stat().st_mtime)) == (new.st_size, int(new.st_mtime)):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    os.utime(part, ns=(new.st_atime_ns, new.st_mtime_ns))
    part.replace(target)
