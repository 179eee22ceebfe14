"""Byte ranges of one remote file, from any number of threads.

fsspec's `cat_file(start, end)` may be called from any thread: asynchronous drivers (s3, gs, http) queue the request to
one loop, and it is stateless. Drivers without a loop (hf, memory) open the file anew for each range, without the read
ahead that would fetch more than was asked for. Errors are raised as the driver raises them, for `shards.retry`.

    file = remote_file("s3://bucket/shards/train-000000.tar"); data = file.read(0, 8 << 20, timeout_seconds=20)
"""

import contextlib

import fsspec
from fsspec.asyn import sync

__all__ = ["RemoteFile"]


class RemoteFile:
    """One file; `shards.storage.remote_file` finds the driver of a URL.

    Args:
        fs: The driver.
        path: Of the file, as the driver names it.
    """

    def __init__(self, fs: fsspec.AbstractFileSystem, path: str) -> None:
        self._fs = fs
        self._path = path

    def read(self, start: int, end: int, *, timeout_seconds: float) -> bytes:
        """Bytes start..end; fewer where the file ends, or where the server or the connection failed.

        Args:
            start: First byte.
            end: Byte behind the last.
            timeout_seconds: Patience with the whole answer; drivers without a loop have their own.
        """
        if getattr(self._fs, "async_impl", False):
            # The method behind `cat_file`, which takes no time limit.
            data = sync(self._fs.loop, self._fs._cat_file, self._path, start=start, end=end, timeout=timeout_seconds)
        else:
            with self._fs.open(self._path, "rb", cache_type="none") as file:
                file.seek(start)
                data = file.read(end - start)
        return bytes(data)

    def size(self) -> int | None:
        """Bytes of the file; None where the server does not say."""
        with contextlib.suppress(Exception):
            self._fs.invalidate_cache()
            size = self._fs.size(self._path)
            return None if size is None else int(size)
        return None
