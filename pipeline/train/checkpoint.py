"""The checkpoints of a run: saved in the background, kept by rule, found again after any kind of end.

    store = CheckpointStore(run_dir, run_id="redweb", config=config.checkpoint)
    store.clean(); store.meet_mirror()                     # only by the holder of the run's lock
    found = store.find()                                   # newest that verifies, or None
    loaded = store.load(found.path)
    store.save(step, {"model": net.state_dict(), "optimizer": optimizer.state_dict()}, state)
    if store.wants_retry(): ...                            # a save has failed: save at the next step
    store.finish(); store.wait_for_mirror(600)

The copy to the host blocks training, the writing does not; one write is in flight at most. A save that fails costs no
older checkpoint and not the run: it is logged, tried again after 1, 2, 4 ... minutes, and once more at the end.
"""

import json
import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.train.checkpoint_folder import (
    Loaded,
    Snapshot,
    folder_name,
    read_folder,
    read_manifest,
    step_of,
    verify_folder,
    write_folder,
)
from pipeline.train.checkpoint_search import Found, find_checkpoint, is_inside, step_folders, step_in
from pipeline.train.config import CheckpointConfig
from pipeline.train.host_copy import HostCopies
from pipeline.train.mirror import Mirror
from pipeline.train.optimizer_state import flatten_optimizer
from pipeline.train.retention import steps_to_delete
from shards.errors import CheckpointError, ConfigError, RunError, ShardError
from shards.storage import local_path

__all__ = ["CheckpointStore", "Found", "Loaded"]

SPARE_SPACE = 1.1
"""Free space that a save asks for, as a multiple of its tensors."""
RETRY_SECONDS = (60.0, 960.0)
"""Wait after a failed save; doubles with each further one up to the second figure."""
LAST_PAUSES_SECONDS = (0.0, 1.0, 3.0)
"""Before each try to write a failed save at the end of a session; torchrun allows 30 s after a signal."""
_log = logging.getLogger("depthrank")


class CheckpointStore:
    """Checkpoints below `RUN/checkpoints`; used by the main process alone, which holds the run's lock.

    Args:
        run_dir: run folder.
        run_id: what a checkpoint elsewhere must carry to count as one of this run.
        config: when to keep, where to search, where to mirror.

    Raises:
        ConfigError: `checkpoint.mirror` holds a user, a password or a token, or leads to the run folder itself.
    """

    def __init__(self, run_dir: Path, *, run_id: str, config: CheckpointConfig) -> None:
        self._folder = run_dir / "checkpoints"
        self._run_dir = run_dir
        self._run_id = run_id
        self._config = config
        self._mirror = None if config.mirror is None else Mirror(config.mirror, run_id, config)
        _refuse_own_folder(self._folder, config.mirror, run_id)
        self._copies = HostCopies()
        self._writer: threading.Thread | None = None
        self._verified: dict[int, bool] = {}
        self._found: Found | None = None
        self._is_clean = False
        self._unsaved: Snapshot | None = None
        self._failures = 0
        self._failed_at = 0.0
        self._slowest_write_seconds = 0.0
        self.last_error: str | None = None
        """Why the latest save failed; None if it did not."""
        self.published_step: int | None = None
        """Step of the newest checkpoint that this object saved."""

    @property
    def slowest_save_seconds(self) -> float:
        """Longest save so far, from the call to the published folder and its verified copy at the mirror."""
        return self._slowest_write_seconds + (0.0 if self._mirror is None else self._mirror.slowest_seconds)

    @property
    def mirrored_step(self) -> int | None:
        """Step of the newest checkpoint that was verified at the mirror in this session."""
        return None if self._mirror is None else self._mirror.step

    @property
    def shortcomings(self) -> list[str]:
        """What did not succeed in the end, for the status: a last save, a last copy to the mirror."""
        lines = [] if self.last_error is None else [f"the last checkpoint was not saved ({self.last_error})"]
        if self._mirror is not None and self._mirror.lag is not None:
            lines.append(self._mirror.lag)
        return lines

    def save(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, Any]],
        state: Mapping[str, Any],
        *,
        metric: float | None = None,
    ) -> None:
        """Copy everything to the host and write it in the background.

        Args:
            step: optimizer steps done.
            tensors: `model`: a `state_dict()` of tensors; `optimizer`: the optimizer's `state_dict()`; `ema`, where
                the run keeps a moving average: its tensors by name.
            state: what else a resume needs, as JSON values; `format_version`, `run_id` and `step` are added.
            metric: validation figure of this step, lower is better; the best checkpoint is kept.

        Raises:
            TypeError: something in the state is not JSON, or something in the optimizer is of no known kind.
            ValueError: a number in the state is not finite.
        """
        self.wait()
        start = time.monotonic()
        moments, rest = flatten_optimizer(tensors["optimizer"])
        plain_state = json.loads(json.dumps(dict(state), allow_nan=False))
        metric = metric if metric is not None and math.isfinite(metric) else None
        self._unsaved = None  # its tensors are overwritten now
        copies = self._copies.take({**tensors, "optimizer": moments})
        snapshot = Snapshot(
            step, copies["model"], copies["optimizer"], rest, plain_state, ema=copies.get("ema"), metric=metric
        )
        # Not a daemon: an interpreter that ends waits for the write.
        writer = threading.Thread(target=self._write, args=(snapshot, start), name="checkpoint")
        try:
            writer.start()
        except RuntimeError as error:
            self._note_failure(snapshot, error)
        else:
            self._writer = writer

    def wants_retry(self, now: float | None = None) -> bool:
        """Whether a save has failed and it is time for the next one, without waiting for the regular step.

        Args:
            now: `time.monotonic()`, by default that of this moment.
        """
        if self._failures == 0 or (self._writer is not None and self._writer.is_alive()):
            return False
        wait = _retry_seconds(self._failures)
        return (time.monotonic() if now is None else now) - self._failed_at >= wait

    def wait(self) -> None:
        """Return when no write is in flight; `last_error` then tells how the latest one ended."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def finish(self) -> None:
        """End a session: try again to write a save that failed. Never raises."""
        self.wait()
        for pause in LAST_PAUSES_SECONDS:
            if self._unsaved is not None:
                time.sleep(pause)
                self._write(self._unsaved, time.monotonic())

    def wait_for_mirror(self, seconds: float, is_hurried: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the mirror; what is not there in time is left to the next session. Never raises.

        Args:
            seconds: the longest wait.
            is_hurried: asked meanwhile; once it holds, the wait ends.

        Returns:
            Whether there is a mirror, which may have got further meanwhile.
        """
        if self._mirror is None:
            return False
        self._mirror.finish(seconds, is_hurried)
        return True

    def meet_mirror(self, accept: Callable[[dict[str, Any], str], None] | None = None) -> None:
        """Download the mirror's newest checkpoint where it is newer than all that are at hand; else catch up there.

        Only for the holder of the run's lock, before `find`, which then finds it in the run folder. A path in
        `checkpoint.resume` only starts a run: where it lies outside, what the mirror has of the run itself is newer.

        Args:
            accept: raises a `RunError` where a mirrored state must not be gone on from, given its place as well.

        Raises:
            RunError: `checkpoint.resume` is `none`, and the mirror has checkpoints or cannot be read.
            CheckpointError: nothing is at hand and the mirror cannot be read, so it is not known whether there is
                something to continue.
        """
        if self._mirror is None or is_inside(self._run_dir, self._config.resume):
            return
        if self._config.resume == "none":
            self._refuse_mirrored()
            return
        try:
            found = self.find()
        except CheckpointError:
            found = None  # damaged ones: the mirror may hold a whole one; else `find` will tell
        is_own = found is not None and found.path.parent == self._folder
        # Steps of a checkpoint that only starts the run are those of another one.
        counts = found is not None and (is_own or self._config.resume == "auto")
        fetched = self._mirror.fetch_newer(found.step if found and counts else -1, self._folder, accept)
        if fetched is None and found is not None and is_own:
            self._mirror.offer(found.path)

    def _refuse_mirrored(self) -> None:
        assert self._mirror is not None
        try:
            steps = self._mirror.steps()
        except (OSError, ShardError) as error:
            raise RunError(
                f"checkpoint.mirror cannot be read, and may hold checkpoints of this run: {error}"
            ) from error
        if steps:
            raise RunError(
                f"checkpoint.mirror has checkpoints of the run {self._run_id!r} up to step {max(steps)} and"
                f" checkpoint.resume is none; set it to auto to continue, or choose another `run` or mirror"
            )

    def find(self) -> Found | None:
        """The checkpoint that `checkpoint.resume` asks for; None for a new run. See `find_checkpoint`.

        Raises:
            CheckpointError: there are checkpoints but none verifies, or the path holds none.
            RunError: `none`, and the run folder has checkpoints.
        """
        self._found = find_checkpoint(self._run_dir, run_id=self._run_id, config=self._config)
        return self._found

    def load(self, path: Path) -> Loaded:
        """Read a checkpoint onto the CPU after verifying every file; only once, where it is as it was just found.

        Raises:
            CheckpointError: it does not verify.
        """
        found, self._found = self._found, None
        return read_folder(path, verified=found.stamp if found is not None and found.path == path else None)

    def clean(self) -> None:
        """Remove what killed writers left; only for the holder of the run's lock, best before `find`.

        A folder that was moved aside to be replaced, and whose successor never came, is put back. The first save does
        this too, but too late to resume from that folder.

        Raises:
            RunError: the folder cannot be written.
        """
        try:
            self._clean()
        except OSError as error:
            raise RunError(f"{self._folder}: cannot be put in order ({error.strerror or error})") from error

    def _clean(self) -> None:
        self._is_clean = True
        for leftover in sorted(self._folder.glob(".step_*")):
            name, _, kind = leftover.name[1:].partition(".")
            if step_of(name) is None:
                continue
            if kind.startswith("old-") and not (self._folder / name).exists():
                leftover.rename(self._folder / name)
            elif kind.startswith(("old-", "tmp-")):
                shutil.rmtree(leftover, ignore_errors=True)

    def require_space(self, tensor_bytes: int) -> None:
        """Check before a run that the disk has room for the checkpoints it will keep and the one being written.

        Raises:
            RunError: it has not, or the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise RunError(f"{self._folder}: cannot be written ({error.strerror or error})") from error
        missing = max(1, self._config.keep_last + 1 - len(step_folders(self._folder)))
        needed = SPARE_SPACE * tensor_bytes * missing
        if free < needed:
            raise RunError(
                f"{self._folder}: checkpoints need {_mb(needed)} more ({_mb(tensor_bytes)} each), {_mb(free)} are free;"
                f" free some space or choose a `run` folder on another disk"
            )

    def _write(self, snapshot: Snapshot, start: float) -> None:
        step, path = snapshot.step, self._folder / folder_name(snapshot.step)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._is_clean:
                self._clean()
            if shutil.disk_usage(self._folder).free < SPARE_SPACE * snapshot.tensor_bytes:
                raise OSError("disk full")
            write_folder(path, snapshot, run_id=self._run_id)
        except Exception as error:  # nothing that goes wrong here may end the run, least of all unseen in a thread
            self._note_failure(snapshot, error)
            return
        if self._failures:
            _log.info("checkpoint of step %d saved, after %d failed attempt(s)", step, self._failures)
        self._unsaved, self._failures, self.last_error = None, 0, None
        self.published_step = step
        self._verified[step] = True
        self._slowest_write_seconds = max(self._slowest_write_seconds, time.monotonic() - start)
        if self._mirror is not None:
            self._mirror.offer(path)
        try:
            self._delete_old(step)
        except (OSError, CheckpointError) as error:
            self._is_clean = False
            _log.warning("old checkpoints not removed: %s", error)

    def _note_failure(self, snapshot: Snapshot, error: Exception) -> None:
        self._is_clean = False  # a faulty disk may have kept the half that was written
        self._unsaved = snapshot
        self._failures += 1
        self._failed_at = time.monotonic()
        self.last_error = f"{str(error) or type(error).__name__}; {self._space_text(snapshot)}"
        _log.warning(
            "checkpoint of step %d not saved in %s: %s; older ones are kept, the next try is in %.0f min at the latest",
            snapshot.step,
            self._folder,
            self.last_error,
            _retry_seconds(self._failures) / 60,
        )

    def _space_text(self, snapshot: Snapshot) -> str:
        needed = f"it needs {_mb(SPARE_SPACE * snapshot.tensor_bytes)}"
        try:
            return f"{needed}, {_mb(shutil.disk_usage(self._folder).free)} are free"
        except OSError:
            return needed

    def _delete_old(self, published: int) -> None:
        folders = {step_in(path): path for path in step_folders(self._folder)}
        for step, path in folders.items():
            if step not in self._verified:
                self._verified[step] = _refusal(path) is None
        valid = {}
        for step, path in folders.items():
            if self._verified[step]:
                try:
                    valid[step] = read_manifest(path).metric
                except CheckpointError:
                    self._verified[step] = False  # damaged since
        copied = None if self._mirror is None else self._mirror.copied_step
        for step in steps_to_delete(folders, valid, published, self._config):
            if step == copied:
                continue  # a slow mirror would else never get one; it goes after a later save
            # Renamed first: a kill in the middle must not leave half a folder under a checkpoint's name.
            condemned = self._folder / f".{folder_name(step)}.tmp-old"
            folders[step].rename(condemned)
            shutil.rmtree(condemned)
            del self._verified[step]


def _refuse_own_folder(folder: Path, mirror: str | None, run_id: str) -> None:
    place = None if mirror is None else local_path(mirror)
    if place is not None and (place / run_id / "checkpoints").resolve() == folder.resolve():
        raise ConfigError(f"checkpoint.mirror: {place} is where the run itself lies; give another folder, or null")


def _retry_seconds(failures: int) -> float:
    first, longest = RETRY_SECONDS
    return min(longest, first * 2.0 ** min(failures - 1, 30))


def _refusal(path: Path) -> str | None:
    try:
        verify_folder(path)
    except CheckpointError as error:
        return str(error)
    return None


def _mb(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:.0f} MB"
