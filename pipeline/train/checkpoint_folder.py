"""One checkpoint on disk: a folder that exists whole and verified, or not at all.

    step_00001200/
    ├── model.safetensors        weights and buffers
    ├── ema.safetensors          their moving average, where the run keeps one
    ├── optimizer.safetensors    tensors of the optimizer, and
    ├── optimizer.json           the rest of it
    ├── state.json               everything else that a resume needs
    └── manifest.json            size and sha256 of each file above, and its own; written last

It is written under a hidden temporary name, each file synced, then renamed. No pickle, no archive (some upload
services unpack those), no links.

    write_folder(path, snapshot, run_id="demo", metric=None); verify_folder(path); loaded = read_folder(path)
"""

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.train.checkpoint_manifest import (
    EMA_NAME,
    FORMAT_VERSION,
    MANIFEST_LIMIT_BYTES,
    MANIFEST_NAME,
    Manifest,
    folder_name,
    json_bytes,
    manifest_bytes,
    parse_json,
    parse_manifest,
    step_of,
)
from pipeline.train.optimizer_state import unflatten_optimizer
from shards.errors import CheckpointError
from shards.storage import fsync_folder

__all__ = [
    "Loaded",
    "Snapshot",
    "Stamp",
    "folder_name",
    "put_in_place",
    "read_folder",
    "read_manifest",
    "read_manifest_bytes",
    "read_state",
    "stamp_of",
    "step_of",
    "verify_folder",
    "write_folder",
]

_JSON_LIMIT_BYTES = 1 << 26
"""Most of it are the random generators, 14 kB a process: enough for four thousand."""
_CHUNK_BYTES = 1 << 20

Stamp = dict[str, tuple[int, int, int, int]]
"""Of each file of a folder by name: inode, size, and times of the last change of content and of inode."""


@dataclass(frozen=True)
class Snapshot:
    """What goes into a checkpoint: contiguous tensors on the CPU and JSON values."""

    step: int
    model: dict[str, Tensor]
    optimizer_tensors: dict[str, Tensor]
    optimizer_rest: dict[str, Any]
    """With the tensors, what `flatten_optimizer` returns."""
    state: dict[str, Any]
    ema: dict[str, Tensor] | None = None
    """Moving average of weights and buffers; None where the run keeps none."""
    metric: float | None = None
    """Validation figure at this step, lower is better; None where none was taken."""

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors; the rest is small."""
        groups = (self.model, self.optimizer_tensors, self.ema or {})
        return sum(tensor.nbytes for group in groups for tensor in group.values())


@dataclass(frozen=True)
class Loaded:
    """What comes out of one, on the CPU."""

    model: dict[str, Tensor]
    """Like `ema` it may be pages of the file: for a network's `load_state_dict`, which copies."""
    optimizer: dict[str, Any]
    """As `torch.optim.Optimizer.state_dict()`."""
    state: dict[str, Any]
    ema: dict[str, Tensor] | None = None
    """Moving average of weights and buffers; None where the checkpoint holds none."""


def write_folder(path: Path, snapshot: Snapshot, *, run_id: str) -> None:
    """Write a checkpoint and put it in the place of any that is there.

    A kill at any moment leaves either the former or the new content under `path`, or, for the instant between two
    renames, the former content under a hidden name that `CheckpointStore.clean` brings back.

    Raises:
        OSError: the disk is full or faulty, or the folder not writable; nothing is left behind, `path` is unchanged.
        ValueError: the state cannot be put into JSON.
        TypeError: the same.
    """
    part = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        _write_files(part, snapshot, run_id=run_id)
        fsync_folder(part)
        put_in_place(part, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_manifest(path: Path) -> Manifest:
    """Read a checkpoint's manifest; every byte of it is checked, the other files are not.

    Raises:
        CheckpointError: there is none, or it is not one that this version wrote for a folder of this name.
    """
    return parse_manifest(read_manifest_bytes(path), str(path / MANIFEST_NAME), path.name)


def read_manifest_bytes(path: Path) -> bytes:
    """Content of a checkpoint's manifest, unchecked but bounded.

    Raises:
        CheckpointError: there is none.
    """
    _require(path, stat.S_ISDIR, "is not a folder")
    return _read_bounded(path / MANIFEST_NAME, MANIFEST_LIMIT_BYTES)


def verify_folder(path: Path) -> Manifest:
    """Check size and sha256 of every file.

    Raises:
        CheckpointError: the first thing that is wrong.
    """
    manifest = read_manifest(path)
    for name, (size, _) in manifest.files.items():
        found = _require(path / name, stat.S_ISREG, "is not a plain file").st_size
        if found != size:
            raise CheckpointError(f"{path / name}: has {found} bytes, the manifest says {size}")
    for name, (size, digest) in manifest.files.items():
        if _file_digest(path / name, size) != digest:
            raise CheckpointError(f"{path / name}: damaged (sha256 does not agree with the manifest)")
    return manifest


def stamp_of(path: Path) -> Stamp:
    """What becomes another one once a file of a checkpoint is written or replaced.

    Raises:
        CheckpointError: the folder cannot be read.
    """
    try:
        with os.scandir(path) as entries:
            found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    return {name: (at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for name, at in found.items()}


def read_folder(path: Path, *, verified: Stamp | None = None) -> Loaded:
    """Verify a checkpoint and read it onto the CPU, bit for bit.

    Args:
        path: its folder.
        verified: its stamp of before `verify_folder` passed in this process; while that holds, nothing is hashed again.

    Raises:
        CheckpointError: it does not verify, or is not what its manifest says it is.
    """
    unchanged = verified is not None and stamp_of(path) == verified
    manifest = read_manifest(path) if unchanged else verify_folder(path)
    try:
        model = load_file(path / "model.safetensors")
        ema = load_file(path / EMA_NAME) if EMA_NAME in manifest.files else None
        tensors = _read_copies(path / "optimizer.safetensors")
        optimizer = unflatten_optimizer(tensors, _read_json(path / "optimizer.json"))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    return Loaded(model, optimizer, read_state(path), ema)


def read_state(path: Path) -> dict[str, Any]:
    """Read `state.json` of a checkpoint that was verified.

    Raises:
        CheckpointError: it is of another run or step than the manifest says.
    """
    state = _read_json(path / "state.json")
    manifest = read_manifest(path)
    if (state.get("run_id"), state.get("step")) != (manifest.run_id, manifest.step):
        raise CheckpointError(f"{path}: state.json and manifest.json are of different runs or steps")
    return state


def put_in_place(part: Path, path: Path) -> None:
    """Give a finished, synced folder its name, in the place of any that has it; see `write_folder`.

    Raises:
        OSError: it cannot be renamed; what was there is there again.
    """
    former = path.with_name(f".{path.name}.old-{os.getpid()}")
    shutil.rmtree(former, ignore_errors=True)
    replaces = os.path.lexists(path)
    if replaces:
        path.rename(former)
    try:
        part.rename(path)
    except OSError:
        if replaces:
            former.rename(path)
        raise
    fsync_folder(path.parent)
    if replaces:
        shutil.rmtree(former, ignore_errors=True)


def _write_files(folder: Path, snapshot: Snapshot, *, run_id: str) -> None:
    state = {**snapshot.state, "format_version": FORMAT_VERSION, "run_id": run_id, "step": snapshot.step}
    files = {}
    for name, text in (("state.json", json_bytes(state)), ("optimizer.json", json_bytes(snapshot.optimizer_rest))):
        if len(text) > _JSON_LIMIT_BYTES:
            raise ValueError(f"{name} would have {len(text)} bytes; at most {_JSON_LIMIT_BYTES} are read back")
        files[name] = _write_synced(folder / name, text)
    # safetensors makes files that only their owner may read; others of a team resume and evaluate too.
    mode = stat.S_IMODE((folder / "state.json").stat().st_mode)
    contents = {"model.safetensors": snapshot.model, "optimizer.safetensors": snapshot.optimizer_tensors}
    if snapshot.ema is not None:
        contents[EMA_NAME] = snapshot.ema
    for name, content in contents.items():
        save_file(content, folder / name)
        (folder / name).chmod(mode)
        files[name] = _sync(folder / name)
    _write_synced(folder / MANIFEST_NAME, manifest_bytes(Manifest(snapshot.step, run_id, snapshot.metric, files)))


def _read_copies(path: Path) -> dict[str, Tensor]:
    # What `load_file` returns may be pages of the file, which the retention deletes while training runs; an optimizer
    # keeps the tensors that it is given.
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def _read_json(path: Path) -> dict[str, Any]:
    return parse_json(_read_bounded(path, _JSON_LIMIT_BYTES), str(path))


def _file_digest(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while size > 0 and (chunk := file.read(min(size, _CHUNK_BYTES))):
                digest.update(chunk)
                size -= len(chunk)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def _write_synced(path: Path, data: bytes) -> tuple[int, str]:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return len(data), hashlib.sha256(data).hexdigest()


def _sync(path: Path) -> tuple[int, str]:
    """Sync a written file; its size and the sha256 of what a reader gets."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    size = path.stat().st_size
    return size, _file_digest(path, size)


def _require(path: Path, is_kind: Any, complaint: str) -> os.stat_result:
    try:
        found = path.lstat()
    except OSError as error:
        raise CheckpointError(f"{path}: {'is missing' if error.errno == 2 else error.strerror}") from error
    if not is_kind(found.st_mode):
        raise CheckpointError(f"{path}: {complaint}")
    return found


def _read_bounded(path: Path, limit_bytes: int) -> bytes:
    size = _require(path, stat.S_ISREG, "is not a plain file").st_size
    if size > limit_bytes:
        raise CheckpointError(f"{path}: has {size} bytes, at most {limit_bytes} are read")
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
