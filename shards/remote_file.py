"""Byte ranges of one remote file, from any number of threads.

fsspec's `cat_file(start, end)` may be called from any thread: asynchronous drivers (s3, gs, http) queue the request to
one loop, and it is stateless. Drivers without a loop (hf, memory) open the file anew for each range, without the read
ahead that would fetch more than was asked for. Plain http is read here: a server that knows no ranges answers with the
whole file, of which no more is taken than shows it. Errors are raised as the driver raises them, for `shards.retry`.

    file = remote_file("s3://bucket/shards/train-000000.tar"); data = file.read(0, 8 << 20, timeout_seconds=20)
"""

import contextlib
from typing import Any

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

        One byte more shows that the server has answered with more than was asked for.

        Args:
            start: First byte.
            end: Byte behind the last.
            timeout_seconds: Patience with the whole answer; drivers without a loop have their own.
        """
        if getattr(self._fs, "async_impl", False):
            # The method behind `cat_file`, which takes no time limit.
            is_http = self._fs.protocol in ("http", ("http", "https"))  # one or the other by fsspec's version
            cat = _cat_http if is_http else type(self._fs)._cat_file
            data = sync(self._fs.loop, cat, self._fs, self._path, start=start, end=end, timeout=timeout_seconds)
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


async def _cat_http(fs: Any, url: str, *, start: int, end: int) -> bytes:
    """`HTTPFileSystem._cat_file` that takes at most one byte more than was asked for, however long the answer is."""
    options = dict(fs.kwargs)
    headers = {**options.pop("headers", {}), "Range": f"bytes={start}-{end - 1}"}
    session = await fs.set_session()
    data = bytearray()
    async with session.get(fs.encode_url(url), headers=headers, **options) as response:
        fs._raise_not_found_for_status(response, url)
        while len(data) <= end - start and (piece := await response.content.read(end - start + 1 - len(data))):
            data += piece
    return bytes(data)
