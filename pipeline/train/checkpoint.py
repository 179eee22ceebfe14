"""The checkpoints of a run: saved in the background, kept by rule, found again after any kind of end.

    store = CheckpointStore(run_dir, run_id="redweb", config=config.checkpoint)
    found = store.find()                                   # newest that verifies, or None
    loaded = store.load(found.path)
    store.save(step, {"model": net.state_dict(), "optimizer": optimizer.state_dict()}, state)
    store.wait()

The copy to the host blocks training, the writing does not; one write is in flight at most. A save that fails costs no
older checkpoint and not the run: it is logged, and the next one tries again.
"""

import json
import logging
import math
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
from pipeline.train.checkpoint_search import Found, find_checkpoint, step_folders, step_in
from pipeline.train.config import CheckpointConfig
from pipeline.train.optimizer_state import flatten_optimizer
from pipeline.train.retention import steps_to_delete
from shards.errors import CheckpointError, RunError

__all__ = ["CheckpointStore", "Found", "Loaded"]

SPARE_SPACE = 1.1
"""Free space that a save asks for, as a multiple of its tensors."""
_log = logging.getLogger("depthrank")


class CheckpointStore:
    """Checkpoints below `RUN/checkpoints`; used by the main process alone, which holds the run's lock.

    Args:
        run_dir: run folder.
        run_id: what a checkpoint elsewhere must carry to count as one of this run.
        config: when to keep, where to search.
    """

    def __init__(self, run_dir: Path, *, run_id: str, config: CheckpointConfig) -> None:
        self._folder = run_dir / "checkpoints"
        self._run_dir = run_dir
        self._run_id = run_id
        self._config = config
        self._writer: threading.Thread | None = None
        self._verified: dict[int, bool] = {}
        self._is_clean = False
        self.last_error: str | None = None
        """Why the latest save failed; None if it did not."""
        self.published_step: int | None = None
        """Step of the newest checkpoint that this object saved."""
        self.slowest_save_seconds = 0.0
        """Longest save so far, from the call to the published folder."""

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
            tensors: `model`: a `state_dict()` of tensors; `optimizer`: the optimizer's `state_dict()`.
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
        snapshot = Snapshot(step, _host_copy(tensors["model"]), _host_copy(moments), rest, plain_state)
        # Not a daemon: an interpreter that ends waits for the write.
        self._writer = threading.Thread(target=self._write, args=(snapshot, metric, start), name="checkpoint")
        self._writer.start()

    def wait(self) -> None:
        """Return when no write is in flight; `last_error` then tells how the latest one ended."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def find(self) -> Found | None:
        """The checkpoint that `checkpoint.resume` asks for; None for a new run. See `find_checkpoint`.

        Raises:
            CheckpointError: there are checkpoints but none verifies, or the path holds none.
            RunError: `none`, and the run folder has checkpoints.
        """
        return find_checkpoint(self._run_dir, run_id=self._run_id, config=self._config)

    def load(self, path: Path) -> Loaded:
        """Read a checkpoint onto the CPU after verifying every file.

        Raises:
            CheckpointError: it does not verify.
        """
        return read_folder(path)

    def clean(self) -> None:
        """Remove what killed writers left; only for the holder of the run's lock, best before `find`.

        A folder that was moved aside to be replaced, and whose successor never came, is put back. The first save does
        this too, but too late to resume from that folder.

        Raises:
            OSError: the folder cannot be written.
        """
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
            RunError: it has not.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = max(1, self._config.keep_last + 1 - len(step_folders(self._folder)))
        needed, free = SPARE_SPACE * tensor_bytes * missing, shutil.disk_usage(self._folder).free
        if free < needed:
            raise RunError(
                f"{self._folder}: checkpoints need {_mb(needed)} more ({_mb(tensor_bytes)} each), {_mb(free)} are free;"
                f" free some space or choose a `run` folder on another disk"
            )

    def _write(self, snapshot: Snapshot, metric: float | None, start: float) -> None:
        step, path = snapshot.step, self._folder / folder_name(snapshot.step)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._is_clean:
                self.clean()
            needed = SPARE_SPACE * _bytes_of(snapshot)
            if (free := shutil.disk_usage(self._folder).free) < needed:
                raise OSError(f"disk full: it needs {_mb(needed)}, {_mb(free)} are free")
            write_folder(path, snapshot, run_id=self._run_id, metric=metric)
        except Exception as error:  # nothing that goes wrong here may end the run, least of all unseen in a thread
            self.last_error = str(error) or type(error).__name__
            _log.warning("checkpoint of step %d not saved: %s; older ones are kept", step, self.last_error)
            return
        self.last_error = None
        self.published_step = step
        self._verified[step] = True
        self.slowest_save_seconds = max(self.slowest_save_seconds, time.monotonic() - start)
        try:
            self._delete_old(step)
        except (OSError, CheckpointError) as error:
            _log.warning("old checkpoints not removed: %s", error)

    def _delete_old(self, published: int) -> None:
        folders = {step_in(path): path for path in step_folders(self._folder)}
        for step, path in folders.items():
            if step not in self._verified:
                self._verified[step] = _refusal(path) is None
        valid = {step: read_manifest(path).metric for step, path in folders.items() if self._verified[step]}
        for step in steps_to_delete(folders, valid, published, self._config):
            # Renamed first: a kill in the middle must not leave half a folder under a checkpoint's name.
            condemned = self._folder / f".{folder_name(step)}.tmp-old"
            folders[step].rename(condemned)
            shutil.rmtree(condemned)
            del self._verified[step]


def _refusal(path: Path) -> str | None:
    try:
        verify_folder(path)
    except CheckpointError as error:
        return str(error)
    return None


def _host_copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Own, contiguous copies on the CPU: training goes on with the originals."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _bytes_of(snapshot: Snapshot) -> int:
    return sum(tensor.nbytes for tensor in [*snapshot.model.values(), *snapshot.optimizer_tensors.values()])


def _mb(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:.0f} MB"
