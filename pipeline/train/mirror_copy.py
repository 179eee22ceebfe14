"""A checkpoint at a mirror: carried there and back at any fsspec URL, and believed only when its bytes were read.

    URL/step_00001200/{model.safetensors, ..., manifest.json}

The files go first; each is read back and hashed; the manifest goes last, so an unfinished copy is no checkpoint.
Of a mirror nothing is trusted: names are compared with ours, sizes come from a manifest that is bounded and checked.

    push(path, url, stop, check_writer); pull(url, 1200, "demo", run_dir / "checkpoints")
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from fsspec.core import url_to_fs

from pipeline.train.checkpoint_folder import put_in_place, read_manifest_bytes
from pipeline.train.checkpoint_manifest import (
    EMA_NAME,
    FILE_NAMES,
    MANIFEST_LIMIT_BYTES,
    MANIFEST_NAME,
    STATE_NAME,
    Manifest,
    folder_name,
    manifest_bytes,
    parse_json,
    parse_manifest,
    step_of,
)
from shards.errors import CheckpointError, ShardError
from shards.retry import ShortBodyError, with_retries
from shards.storage import (
    fsync_folder,
    join,
    list_names,
    local_path,
    make_folder,
    publish_bytes,
    read_bytes,
    remote_file,
    remove,
    shown,
)

__all__ = ["claim", "mirrored_manifest", "mirrored_steps", "pull", "push", "remove_mirrored", "require_writer"]

PATIENCE_SECONDS = 600.0
"""How long one file, or one range of it, is tried again where a fault may pass."""
_WRITER_NAME = "writer"
_WRITER_LIMIT_BYTES = 1024
_RANGE_BYTES = 8 << 20
_RANGE_SECONDS = 60.0
_SECRETS = re.compile(r"(?<=://)[^/@\s]*@|\?[^\s'\"]+")  # that a driver's message may show
_Result = TypeVar("_Result")


def mirrored_steps(url: str) -> list[int]:
    """Steps of which the folder `url` has something, rising; not all of it need be a checkpoint.

    Raises:
        ShardError: it cannot be listed.
    """
    if local_path(url) is None:
        with contextlib.suppress(Exception):  # what is wrong with the URL, listing it tells
            url_to_fs(url)[0].invalidate_cache()
    return sorted(step for name in list_names(url) if (step := step_of(name)) is not None)


def mirrored_manifest(url: str, step: int) -> Manifest | None:
    """The manifest of a step; None where the copy is unfinished.

    Raises:
        ShardError: it cannot be read.
        CheckpointError: it is damaged.
    """
    place = join(url, folder_name(step))
    text = _manifest_text(place)
    return None if text is None else parse_manifest(text, shown(join(place, MANIFEST_NAME)), folder_name(step))


def claim(url: str, writer: str) -> None:
    """Say who writes to the folder `url` from now on; see `require_writer`.

    Raises:
        ShardError: it cannot be written.
    """
    make_folder(url)
    publish_bytes(join(url, _WRITER_NAME), writer.encode())


def require_writer(url: str, writer: str) -> None:
    """Make sure that nobody else has claimed the folder `url` since.

    Raises:
        CheckpointError: somebody has.
        ShardError: it cannot be read.
    """
    if read_bytes(join(url, _WRITER_NAME), limit_bytes=_WRITER_LIMIT_BYTES) != writer.encode():
        raise CheckpointError(
            f"{shown(url)}: another trainer mirrors a run of this name there; this one stops doing so"
        )


def push(path: Path, url: str, stop: threading.Event, check_writer: Callable[[], None]) -> None:
    """Copy a checkpoint into the folder `url`; returns once every byte was read back and agreed.

    Args:
        path: the checkpoint's folder.
        url: folder of the mirror.
        stop: once it is set, the copy is given up.
        check_writer: raises where somebody else writes there; called before the first file and before the manifest.

    Raises:
        CheckpointError: what was read back is not what was written, the copy was given up, or another writer came.
        ShardError: the mirror cannot be written or read.
        OSError: the checkpoint cannot be read.
    """
    check_writer()
    text = read_manifest_bytes(path)
    manifest = parse_manifest(text, str(path / MANIFEST_NAME), path.name)
    place = join(url, path.name)
    there = _manifest_text(place)
    if there == text and _agrees(place, manifest, stop):
        return
    if there is not None:
        remove(join(place, MANIFEST_NAME))
    make_folder(place)
    for name, (size, digest) in manifest.files.items():
        _put(path / name, join(place, name), stop)
        if _digest_of(join(place, name), size, stop) != digest:
            raise CheckpointError(f"{shown(join(place, name))}: what is read back is not what was written")
    check_writer()
    publish_bytes(join(place, MANIFEST_NAME), text)
    if _manifest_text(place) != text:
        raise CheckpointError(f"{shown(join(place, MANIFEST_NAME))}: what is read back is not what was written")


def pull(
    url: str, step: int, run_id: str, folder: Path, accept: Callable[[dict[str, Any], str], None] | None = None
) -> Path | None:
    """Download a checkpoint into `folder`, verified; its path, or None where the mirror's copy is unfinished.

    Args:
        url: folder of the mirror.
        step: which one.
        run_id: the run that it must be of.
        folder: where it is put.
        accept: raises where the state, from the place that it is given, must not be gone on from; asked before
            anything is put in place, and before the large files are read.

    Raises:
        CheckpointError: it is damaged, of another run, or too large for the disk.
        ShardError: the mirror cannot be read.
        OSError: the disk cannot be written.
    """
    manifest = mirrored_manifest(url, step)
    if manifest is None:
        return None
    place = join(url, folder_name(step))
    if manifest.run_id != run_id:
        raise CheckpointError(f"{shown(place)}: is of the run {manifest.run_id!r}")
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = sum(size for size, _ in manifest.files.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(f"{shown(place)}: needs {needed} bytes, {folder} has {free} left")
    part = folder / f".{folder_name(step)}.tmp-mirror"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        for name, (size, digest) in sorted(manifest.files.items(), key=lambda file: file[0] != STATE_NAME):
            found = hashlib.sha256()
            with (part / name).open("wb") as file:
                for data in _ranges(join(place, name), size, threading.Event()):
                    file.write(data)
                    found.update(data)
                file.flush()
                os.fsync(file.fileno())
            if found.hexdigest() != digest:
                raise CheckpointError(f"{shown(join(place, name))}: damaged (sha256 does not agree with the manifest)")
            if name == STATE_NAME and accept is not None:
                accept(parse_json((part / name).read_bytes(), shown(join(place, name))), shown(place))
        # The text that was checked, not a second reading of it.
        publish_bytes(str(part / MANIFEST_NAME), manifest_bytes(manifest))
        fsync_folder(part)
        put_in_place(part, folder / folder_name(step))
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / folder_name(step)


def remove_mirrored(url: str, step: int) -> None:
    """Remove a step, its manifest first, and nothing but files that a checkpoint has.

    Raises:
        ShardError: it cannot be removed.
    """
    place = join(url, folder_name(step))
    present = set(list_names(place))
    for name in (MANIFEST_NAME, *FILE_NAMES, EMA_NAME):
        if name in present:
            remove(join(place, name))
    path = local_path(place)
    with contextlib.suppress(Exception):  # the empty folder; object stores have none, and somebody else's file may stay
        if path is not None:
            path.rmdir()
        else:
            fs, remote = url_to_fs(place)
            fs.rmdir(remote)


def _manifest_text(place: str) -> bytes | None:
    path = local_path(join(place, MANIFEST_NAME))
    try:
        if path is not None and path.exists():
            _plain_size(path)
        return read_bytes(join(place, MANIFEST_NAME), MANIFEST_LIMIT_BYTES)
    except ShardError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _put(source: Path, url: str, stop: threading.Event) -> None:
    path = local_path(url)
    if path is not None:
        path.unlink(missing_ok=True)  # perhaps a link to somewhere else
        with source.open("rb") as reading, path.open("xb") as writing:
            while not stop.is_set() and (data := reading.read(_RANGE_BYTES)):
                writing.write(data)
            writing.flush()
            os.fsync(writing.fileno())
        return
    fs, remote = url_to_fs(url)
    _told("write", url, lambda: fs.put_file(str(source), remote), stop)


def _ranges(url: str, size: int, stop: threading.Event) -> Iterator[bytes]:
    """The bytes of a file of `size` bytes, piece by piece."""
    _require_size(url, size)
    path = local_path(url)
    with contextlib.ExitStack() as stack:
        local = stack.enter_context(path.open("rb")) if path is not None else None
        for start in range(0, size, _RANGE_BYTES):
            if stop.is_set():
                raise CheckpointError("given up at the end of the session")
            length = min(_RANGE_BYTES, size - start)
            yield local.read(length) if local is not None else _told("read", url, _range_of(url, start, length), stop)


def _agrees(place: str, manifest: Manifest, stop: threading.Event) -> bool:
    """Whether every file is as the manifest says; what was once put there whole may have been damaged since."""
    try:
        return all(
            _digest_of(join(place, name), size, stop) == digest for name, (size, digest) in manifest.files.items()
        )
    except (CheckpointError, ShardError):
        return False  # where the mirror does not answer, putting the files there will tell


def _digest_of(url: str, size: int, stop: threading.Event) -> str:
    found = hashlib.sha256()
    for data in _ranges(url, size, stop):
        found.update(data)
    return found.hexdigest()


def _require_size(url: str, size: int) -> None:
    """Before reading: a short answer of a server is asked for again and again, a short file is damaged."""
    path = local_path(url)
    found = remote_file(url).size() if path is None else _plain_size(path)
    if found is not None and found != size:
        raise CheckpointError(f"{shown(url)}: has {found} bytes, the manifest says {size}")


def _plain_size(path: Path) -> int:
    """Bytes of a file that is none of the kinds that lead elsewhere or block."""
    try:
        found = path.lstat()
    except OSError as error:
        raise ShardError(f"{path}: cannot read it: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path}: is not a plain file")
    return found.st_size


def _range_of(url: str, start: int, length: int) -> Callable[[], bytes]:
    file = remote_file(url)

    def read() -> bytes:
        data = file.read(start, start + length, timeout_seconds=_RANGE_SECONDS)
        if len(data) != length:
            raise ShortBodyError(f"{len(data)} bytes came instead of {length}")
        return data

    return read


def _told(what: str, url: str, call: Callable[[], _Result], stop: threading.Event) -> _Result:
    """Call, again where a fault may pass; what stays is told in one line without secrets."""
    try:
        return with_retries(lambda _: call(), until=time.monotonic() + PATIENCE_SECONDS, stop=stop)
    except FileNotFoundError as error:
        raise ShardError(f"{shown(url)}: there is no such file or folder") from error
    except Exception as error:  # drivers raise far more than OSError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ShardError(f"{shown(url)}: cannot {what} it: {_SECRETS.sub('...', reason)}") from error
