"""A second home for a run's checkpoints, at any fsspec URL, filled in the background.

    mirror = Mirror("s3://bucket/runs", "demo", config.checkpoint)
    mirror.fetch_newer(than=1000, folder=run_dir / "checkpoints")     # at the start
    mirror.offer(run_dir / "checkpoints" / "step_00001200")           # after each save
    mirror.finish(600, lambda: False)                                 # at the end

One copy is on its way at most. Where the mirror falls behind, the newest checkpoint is next and those between are left
out. Nothing that goes wrong there ends or delays the run: it is said once for each kind of fault, and the next
checkpoint, or the end of the session, tries again. Older copies go by the same rule as in the run folder, once a newer
one has been verified.

The lock of a run folder binds one machine. At the mirror the session that copies last has the say: it leaves a word
there, and one that finds another's word copies nothing more.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.train.checkpoint_folder import step_of
from pipeline.train.config import CheckpointConfig
from pipeline.train.mirror_copy import (
    claim,
    mirrored_manifest,
    mirrored_steps,
    pull,
    push,
    remove_mirrored,
    require_writer,
)
from pipeline.train.retention import steps_to_delete
from shards.errors import CheckpointError, ConfigError, ShardError
from shards.storage import join, shown

__all__ = ["Mirror"]

_LOOK_SECONDS = 0.5
_log = logging.getLogger("depthrank")


class Mirror:
    """The checkpoints of one run at `URL/RUN_ID/checkpoints`; used by the process that writes the run folder.

    Args:
        url: any fsspec URL, or a local folder.
        run_id: name of the run.
        config: which checkpoints to keep.

    Raises:
        ConfigError: the URL holds a user, a password or a token, which would end in every record of the settings.
    """

    def __init__(self, url: str, run_id: str, config: CheckpointConfig) -> None:
        if shown(url) != url:
            raise ConfigError(
                f"checkpoint.mirror: {shown(url)} is given with a user, password or query, which would be stored with"
                " the settings; give credentials as the driver's environment variables or fsspec's config file"
            )
        self._home = join(url, run_id)
        self._url = join(self._home, "checkpoints")
        self._run_id = run_id
        self._config = config
        self._writer = secrets.token_hex(16)
        self._has_claimed = False
        self._idle = threading.Condition()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next: Path | None = None
        self._copied_step: int | None = None
        self._missed: Path | None = None
        self._offered: int | None = None
        self._metrics: dict[int, float | None] = {}
        self._said: set[str] = set()
        self.step: int | None = None
        """Step of the newest checkpoint that was verified there in this session."""
        self.slowest_seconds = 0.0
        """Longest copy so far, verified."""

    @property
    def lag(self) -> str | None:
        """What is missing there, in words; None while it has the newest checkpoint."""
        if self._offered == self.step:
            return None
        held = "no checkpoint of this session" if self.step is None else f"step {self.step}"
        return f"the mirror has {held}, step {self._offered} is not verified there"

    def offer(self, path: Path) -> None:
        """Copy a published checkpoint in the background, or once the copy on its way is done."""
        with self._idle:
            self._next, self._offered = path, step_of(path.name)
            if self._thread is None:
                # A daemon: a hanging connection must not keep the program from ending.
                thread = threading.Thread(target=self._work, name="mirror", daemon=True)
                try:
                    thread.start()  # it waits for the lock that is held here
                except RuntimeError as error:
                    self._next = None
                    self._note_failure(path, error)
                else:
                    self._thread = thread

    @property
    def copied_step(self) -> int | None:
        """Step of the checkpoint that is being copied, which must stay where it is; None where none is."""
        with self._idle:
            return self._copied_step

    def steps(self) -> list[int]:
        """Steps of which the mirror has something, rising.

        Raises:
            ShardError: it cannot be listed.
        """
        return mirrored_steps(self._url)

    def wait(self, seconds: float) -> bool:
        """Wait for the copies on their way; False where time ran out."""
        with self._idle:
            return self._idle.wait_for(lambda: self._thread is None, seconds)

    def finish(self, seconds: float, is_hurried: Callable[[], bool]) -> None:
        """Wait for the newest checkpoint to be copied, tried again if it failed; then give up and say so.

        Args:
            seconds: The longest wait.
            is_hurried: Asked twice a second; once it holds, the wait ends.
        """
        start = time.monotonic()

        def seconds_left() -> float:
            return 0.0 if is_hurried() else seconds - (time.monotonic() - start)

        def wait() -> bool:
            done = self.wait(0)
            while not done and (left := seconds_left()) > 0:
                done = self.wait(min(left, _LOOK_SECONDS))
            return done

        done = wait()
        if done and self._missed is not None and seconds_left() > 0:
            self.offer(self._missed)
            done = wait()
        if not done:
            self._stop.set()
            waited = time.monotonic() - start
            _log.warning("mirror %s: the copy did not end within %.0f s and was given up", shown(self._url), waited)

    def fetch_newer(
        self, than: int, folder: Path, accept: Callable[[dict[str, Any], str], None] | None = None
    ) -> Path | None:
        """Download the newest checkpoint whose step is above `than` into `folder`; None where there is none.

        Args:
            than: step of the newest that is at hand; below 0 where there is none.
            folder: where it is put.
            accept: see `pull`; what it raises, if not a CheckpointError, is raised here.

        Raises:
            CheckpointError: `than` is below 0, there is nothing else to continue, and the mirror cannot be read.
        """
        faults: list[str] = []
        try:
            for step in reversed(mirrored_steps(self._url)):
                if step <= than:
                    break
                try:
                    path = pull(self._url, step, self._run_id, folder, accept)
                except (CheckpointError, ShardError) as error:
                    faults.append(str(error))
                    _log.warning("mirrored checkpoint refused: %s", error)
                else:
                    if path is not None:
                        _log.info("checkpoint of step %d fetched from the mirror %s", step, shown(self._url))
                        return path
        except (OSError, ShardError) as error:
            faults.append(str(error))
            _log.warning("mirror not searched: %s", error)
        if faults and than < 0:
            raise CheckpointError(
                "checkpoint.mirror: no checkpoint can be had from there, and starting anew would throw the run away:\n"
                + "\n".join(f"  {fault}" for fault in faults)
                + "\nmend it, or set checkpoint.mirror to null to do without"
            )
        return None

    def _work(self) -> None:
        while True:
            with self._idle:
                path, self._next = self._next, None
                self._copied_step = None if path is None else step_of(path.name)
                if path is None:
                    self._thread = None
                    self._idle.notify_all()
                    return
            try:
                self._copy(path)
            except Exception as error:  # nothing here may end the run, least of all unseen in a thread
                self._note_failure(path, error)

    def _copy(self, path: Path) -> None:
        start = time.monotonic()
        step = step_of(path.name)
        assert step is not None
        self._metrics.pop(step, None)
        if not self._has_claimed:
            claim(self._home, self._writer)
            self._has_claimed = True
        push(path, self._url, self._stop, lambda: require_writer(self._home, self._writer))
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - start)
        self.step, self._missed = step, None
        self._said &= {"removal"}  # a fault that comes back is told again
        _log.info("checkpoint of step %d is mirrored and verified at %s", step, shown(self._url))
        try:
            self._delete_old(step)
        except (OSError, ShardError) as error:
            self._say_once("removal", f"old copies at the mirror are not removed: {error}")

    def _note_failure(self, path: Path, error: Exception) -> None:
        if self._stop.is_set():
            return  # given up, as `finish` says
        self._missed = path
        self._say_once(
            type(error.__cause__ or error).__name__,
            f"{path.name} is not mirrored: {error}; the next checkpoint tries again",
        )

    def _say_once(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            _log.warning("%s", text)

    def _delete_old(self, published: int) -> None:
        steps = mirrored_steps(self._url)
        for step in steps:
            if step not in self._metrics:
                try:
                    manifest = mirrored_manifest(self._url, step)
                except CheckpointError:
                    continue  # damaged: no checkpoint
                if manifest is not None:
                    self._metrics[step] = manifest.metric
        valid = {step: self._metrics[step] for step in steps if step in self._metrics}
        for step in steps_to_delete(steps, valid, published, self._config):
            remove_mirrored(self._url, step)
            self._metrics.pop(step, None)
