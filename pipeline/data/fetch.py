"""Fetches one remote file whole, in ranges side by side, and believes it only when its sha256 is right.

A range whose answer is late is asked for again: how late is judged by the rate of the ranges before it, and the
patience doubles with each answer that was late, so that a hanging connection costs seconds and a slow network still
gets through.

    fetch_file(url, size, sha256, descriptor, until=time.monotonic() + 600, pace=Pace(), counts=FetchCounts())
"""

import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from functools import partial

from shards.errors import ShardError
from shards.remote_file import RemoteFile
from shards.retry import ShortBodyError, with_retries
from shards.storage import remote_file, shown

__all__ = ["RANGE_BYTES", "FetchCounts", "Pace", "fetch_file"]

RANGE_BYTES = 8 << 20
"""One request; so large that a latency of 50 ms is a third of its time on a connection of 60 MB/s."""
_RANGES_AT_ONCE = 8
_LOOK_SECONDS = 0.1
_DOWNLOADS = 2  # of a file whose sha256 is wrong, before it is given up
_logger = logging.getLogger("depthrank")


class FetchCounts:
    """What this process has fetched; any thread may add to it."""

    def __init__(self) -> None:
        self.files = 0
        """Files that came whole and verified."""
        self.bytes = 0
        """Bytes of the ranges that came whole."""
        self.faults = 0
        """Attempts that failed and were repeated."""
        self._lock = threading.Lock()

    def add(self, *, files: int = 0, bytes: int = 0, faults: int = 0) -> None:
        """Count."""
        with self._lock:
            self.files += files
            self.bytes += bytes
            self.faults += faults


class Pace:
    """How long to wait for a range, learned from those before."""

    _UNKNOWN_SECONDS = 20.0
    _LEAST_SECONDS = 2.0
    _TIMES_USUAL = 4.0

    def __init__(self) -> None:
        self._seconds_per_byte: float | None = None

    def learn(self, num_bytes: int, seconds: float) -> None:
        """A range of so many bytes took so long."""
        if num_bytes:
            found, usual = seconds / num_bytes, self._seconds_per_byte
            self._seconds_per_byte = found if usual is None else 0.8 * usual + 0.2 * found

    @property
    def known(self) -> bool:
        """Whether a range has come yet."""
        return self._seconds_per_byte is not None

    def patience_seconds(self, num_bytes: int, late: int, left_seconds: float) -> float:
        """Limit for an attempt at a range.

        Args:
            num_bytes: Of the range.
            late: Attempts before that came to their limit; each doubles it.
            left_seconds: Until the deadline. The limit does not pass it, but an attempt has what is usual at least.
        """
        usual = self._seconds_per_byte
        if usual is None:
            least, first = self._LEAST_SECONDS, self._UNKNOWN_SECONDS
        else:
            least = first = max(self._LEAST_SECONDS, self._TIMES_USUAL * usual * num_bytes)
        return float(max(least, min(first * 2**late, left_seconds)))


def fetch_file(
    url: str,
    size: int,
    sha256: str,
    descriptor: int,
    *,
    until: float,
    pace: Pace,
    counts: FetchCounts,
    stop: threading.Event | None = None,
) -> None:
    """Write a remote file to an open local one.

    Args:
        url: Of the file.
        size: Its bytes.
        sha256: Its digest in hexadecimal.
        descriptor: Of the local file, which is overwritten.
        until: `time.monotonic()` after which nothing is tried again.
        pace: Of this process's fetches.
        counts: Of this process's fetches.
        stop: Once it is set, nothing is tried again.

    Raises:
        ShardError: It is missing, cannot be read, or is not what the manifest lists.
        OSError: The local file cannot be written.
    """
    file = remote_file(url)
    for attempt in range(_DOWNLOADS):
        digest = hashlib.sha256()
        os.lseek(descriptor, 0, os.SEEK_SET)
        ended = threading.Event()  # of this download: whatever ends it, the ranges under way are not tried again
        ranges = [
            partial(_range, file, url, start, min(start + RANGE_BYTES, size), size, until, pace, counts, ended)
            for start in range(0, size, RANGE_BYTES)
        ]
        try:
            for data in _in_order(ranges, first_alone=not pace.known, stop=stop, ended=ended):
                digest.update(data)
                _write(descriptor, data)
        finally:
            ended.set()
        if digest.hexdigest() == sha256:
            counts.add(files=1)
            return
        if attempt + 1 < _DOWNLOADS:
            _logger.warning("%s: its sha256 is wrong; fetched again", shown(url))
            counts.add(faults=1)
    raise ShardError(
        f"{shown(url)} is not the file that its manifest lists: sha256 {digest.hexdigest()[:12]}..., expected "
        f"{sha256[:12]}... ({_DOWNLOADS} downloads); pack or upload it again"
    )


def _range(
    file: RemoteFile,
    url: str,
    start: int,
    end: int,
    size: int,
    until: float,
    pace: Pace,
    counts: FetchCounts,
    stop: threading.Event,
) -> bytes:
    """Bytes start..end of a file, all of them."""
    late = 0

    def ask(_: int) -> bytes:
        nonlocal late
        began = time.monotonic()
        try:
            data = file.read(
                start, end, timeout_seconds=pace.patience_seconds(end - start, late, left_seconds=until - began)
            )
        except TimeoutError:
            late += 1
            raise
        if len(data) > end - start:
            raise ShardError(f"{shown(url)}: the server answers a request for a part with the whole; it cannot be used")
        if len(data) < end - start:
            found = file.size()
            if found is not None and found != size:
                raise ShardError(
                    f"{shown(url)} is not the file that its manifest lists: it has {found} bytes, expected {size}; "
                    "pack or upload it again"
                )
            raise ShortBodyError(f"{len(data)} of {end - start} bytes came")
        pace.learn(len(data), time.monotonic() - began)
        return data

    def note(error: BaseException) -> None:
        _logger.debug("%s, byte %d: %s; trying again", shown(url), start, _reason(error))
        counts.add(faults=1)

    try:
        data = with_retries(ask, until=until, on_fault=note, stop=stop)
    except FileNotFoundError as error:
        raise ShardError(f"{shown(url)}: there is no such file") from error
    except ShardError:
        raise
    except Exception as error:
        raise ShardError(f"{shown(url)}: cannot fetch it: {_reason(error)}") from error
    counts.add(bytes=len(data))
    return data


def _in_order(
    calls: Iterable[Callable[[], bytes]], *, first_alone: bool, stop: threading.Event | None, ended: threading.Event
) -> Iterator[bytes]:
    """Results in the order of the calls, some of which run ahead.

    Daemon threads, not an executor's: those are joined at exit, where a hanging request would hold the process.

    Args:
        calls: What to run.
        first_alone: Begin the others when the first has its result: a server that never answered may not serve ranges.
        stop: Is passed on to `ended`.
        ended: At which the calls look.
    """

    def result(future: "Future[bytes]") -> bytes:
        while not wait([future], timeout=_LOOK_SECONDS).done:
            if stop is not None and stop.is_set():
                ended.set()
        return future.result()

    running: deque[Future[bytes]] = deque()
    for call in calls:
        future: Future[bytes] = Future()
        threading.Thread(target=_run, args=(future, call), name="fetch-range", daemon=True).start()
        running.append(future)
        if first_alone or len(running) == _RANGES_AT_ONCE:
            first_alone = False
            yield result(running.popleft())
    while running:
        yield result(running.popleft())


def _run(future: "Future[bytes]", call: Callable[[], bytes]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _reason(error: BaseException) -> str:
    """One line; without the URL's query, where a driver shows it."""
    text = str(getattr(error, "strerror", None) or getattr(error, "message", None) or error)
    text = (text or type(error).__name__).splitlines()[0].partition("?")[0]
    status = getattr(error, "status", None)
    return f"{status} {text}" if isinstance(status, int) and str(status) not in text else text
