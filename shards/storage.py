"""Files at any fsspec URL: bounded reads, and writes that appear whole or not at all.

A plain path or `file://` is handled with the operating system directly (write under a temporary name, fsync, rename,
fsync the folder); every other URL goes through fsspec, whose object stores publish an upload atomically. There, reads
of whole files and writes are tried again for a minute where a fault may pass (`shards.retry`).

    publish_bytes(join(url, "manifest.json"), data); data = read_bytes(join(url, "manifest.json"), 1 << 20)
"""

import contextlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from shards.errors import ShardError
from shards.retry import with_retries

if TYPE_CHECKING:  # fsspec is imported where a URL needs it: local files, and help, do without
    import fsspec

    from shards.remote_file import RemoteFile

__all__ = [
    "exists",
    "find_files",
    "fsync_folder",
    "home_path",
    "join",
    "list_names",
    "local_path",
    "make_folder",
    "open_read",
    "publish_bytes",
    "publish_file",
    "read_at",
    "read_bytes",
    "remote_file",
    "remove",
    "shown",
]

_RETRY_SECONDS = 60.0
_SMALL_FILE_SECONDS = 60.0  # patience with one attempt
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|[a-z0-9]+::")  # two letters at least: C:\ is a drive
_USER = re.compile(r"://[^/@]*@")
_QUERY = re.compile(r"\?[^\s'\"]+")  # of a URL inside a driver's message: it may hold a token


def local_path(url: str) -> Path | None:
    """Path of a URL on this machine's file system; None for a remote one."""
    if not _SCHEME.match(url):
        return home_path(url)
    if url.startswith(("file://", "local://")):
        return Path(unquote(urlsplit(url).path))
    return None


def home_path(text: str) -> Path:
    """The path with its `~` spelled out; that of an unknown user stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 # pathlib raises where there is no such user


def shown(url: str) -> str:
    """The URL as it may be printed: without user, password and query, which can hold credentials."""
    if local_path(url) is not None:
        return url
    return _USER.sub("://", url.partition("?")[0])


def join(url: str, name: str) -> str:
    """URL of the file `name` in the folder `url`; a query (a token, say) stays at the end."""
    path = local_path(url)
    if path is not None:
        return str(path / name)
    head, mark, query = url.partition("?")
    return f"{head.rstrip('/')}/{name}{mark}{query}"


def exists(url: str) -> bool:
    """Whether there is a file or folder at the URL."""
    path = local_path(url)
    if path is not None:
        return path.exists()
    fs, remote = _remote(url)
    return bool(_try("look at", url, fs.exists, remote))


def open_read(url: str) -> Any:
    """Open a file for reading bytes.

    Raises:
        ShardError: There is no such file, or it cannot be opened.
    """
    path = local_path(url)
    if path is not None:
        return _try("open", url, path.open, "rb")
    fs, remote = _remote(url)
    return _try("open", url, fs.open, remote, "rb")


def read_bytes(url: str, limit_bytes: int) -> bytes:
    """Read a whole file of at most `limit_bytes`.

    Raises:
        ShardError: It does not exist, cannot be read or is larger.
    """
    data: bytes
    if local_path(url) is None:
        # One request: the drivers' open files ask for the size first, and some take a failed answer for a missing file.
        file = remote_file(url)
        data = _try_again("read", url, lambda: file.read(0, limit_bytes + 1, timeout_seconds=_SMALL_FILE_SECONDS))
    else:
        with open_read(url) as opened:
            data = _try("read", url, opened.read, limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ShardError(f"{shown(url)}: larger than {limit_bytes} bytes, which is the most such a file may have")
    return data


def remote_file(url: str) -> "RemoteFile":
    """The file at a remote URL, for reads of its ranges.

    Raises:
        ShardError: The URL is none, or no driver for it is installed.
    """
    from shards.remote_file import RemoteFile

    return RemoteFile(*_remote(url))


def read_at(file: Any, url: str, offset: int, length: int) -> bytes:
    """The bytes of a range of an open file; fewer where the file ends.

    Args:
        file: From `open_read`.
        url: Of the file, for messages.
        offset: Where the range begins; the file is not sought where it stands there.
        length: Bytes, bounded by the caller.

    Raises:
        ShardError: It cannot be read.
    """
    if file.tell() != offset:
        _try("read", url, file.seek, offset)
    data: bytes = _try("read", url, file.read, length)
    return data


def publish_bytes(url: str, data: bytes) -> None:
    """Write a file so that a reader sees all of it or the former one, also after a crash.

    Raises:
        ShardError: It cannot be written.
    """
    path = local_path(url)
    if path is None:
        fs, remote = _remote(url)
        _try_again("write", url, fs.pipe_file, remote, data)
        return
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise ShardError(f"{path}: cannot write it: {error.strerror or error}") from error


def publish_file(local: Path, url: str) -> None:
    """Move a finished, synced local file to the URL; the same promise as `publish_bytes`.

    Raises:
        ShardError: It cannot be written.
    """
    path = local_path(url)
    try:
        if path is None:
            fs, remote = _remote(url)
            _try_again("write", url, fs.put_file, str(local), remote)
            local.unlink()
        elif local.parent.resolve() == path.parent.resolve():
            local.replace(path)
            fsync_folder(path.parent)
        else:  # perhaps another file system, where a rename would be a copy that can be seen half done
            part = path.with_name(f".{path.name}.part")
            with local.open("rb") as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            part.replace(path)
            fsync_folder(path.parent)
            local.unlink()
    except OSError as error:
        raise ShardError(f"{shown(url)}: cannot write it: {error.strerror or error}") from error


def make_folder(url: str) -> None:
    """Create a folder and its parents; object stores need none and nothing happens there."""
    path = local_path(url)
    if path is not None:
        _try("create", url, lambda: path.mkdir(parents=True, exist_ok=True))


def list_names(url: str) -> list[str]:
    """Names of the files and folders in a folder, sorted; empty where there is no such folder."""
    path = local_path(url)
    if path is not None:
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    fs, remote = _remote(url)
    try:
        found = _try("list", url, fs.ls, remote, detail=False)
    except ShardError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return []
        raise
    return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)


def find_files(url: str) -> list[str]:
    """Names of all files below a folder at a remote URL, relative to it; empty where there is no such folder.

    Raises:
        ShardError: It cannot be listed.
    """
    fs, remote = _remote(url)
    root = remote.rstrip("/") + "/"
    found = _try("list", url, fs.find, remote)
    return sorted(str(name)[len(root) :] for name in found if str(name).startswith(root))


def remove(url: str) -> None:
    """Remove one file."""
    path = local_path(url)
    if path is not None:
        _try("remove", url, path.unlink)
        return
    fs, remote = _remote(url)
    _try("remove", url, fs.rm_file, remote)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # Windows opens no folders
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems refuse to sync a folder; the file itself is synced
    finally:
        os.close(descriptor)


def _remote(url: str) -> "tuple[fsspec.AbstractFileSystem, str]":
    from fsspec.core import url_to_fs

    try:
        fs, remote = url_to_fs(url)
    except ImportError as error:
        raise ShardError(f"{shown(url)}: reading it needs a package that is not installed: {error}") from error
    except (ValueError, OSError) as error:
        raise ShardError(f"{shown(url)}: cannot open this URL: {error}") from error
    return fs, remote


def _try(what: str, url: str, call: Any, *args: Any, **kwargs: Any) -> Any:
    """Call, with any failure of the storage told as one line; the drivers raise far more than OSError."""
    try:
        return call(*args, **kwargs)
    except FileNotFoundError as error:
        raise ShardError(f"{shown(url)}: there is no such file or folder") from error
    except Exception as error:
        reason = str(getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise ShardError(f"{shown(url)}: cannot {what} it: {_USER.sub('://', _QUERY.sub('?...', reason))}") from error


def _try_again(what: str, url: str, call: Any, *args: Any) -> Any:
    """`_try` of a call that may be repeated, again and again where a fault may pass."""
    until = time.monotonic() + _RETRY_SECONDS
    return _try(what, url, with_retries, lambda _: call(*args), until=until)
