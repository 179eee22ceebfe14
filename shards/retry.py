"""Faults of a network that pass: told from those that stay, and tried again until a deadline.

A fault passes when the server was busy or failed (408, 425, 429, 5xx) or the connection broke, hung or ended early; a
missing file, a refused access or a wrong request stays. The waits between attempts double and are drawn at random below
that (full jitter), so that the processes of a cluster do not come back all at once.

    data = with_retries(lambda attempt: fs.cat_file(path), until=time.monotonic() + 60)
"""

import errno
import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["ShortBodyError", "is_transient", "with_retries"]

_Result = TypeVar("_Result")
_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 20.0
_RANDOM = random.SystemRandom()  # the global generator belongs to the training
_STATUSES = {408, 425, 429, 500, 502, 503, 504}
_ERRNOS = {
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EBUSY", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "EIO", "ENETDOWN"),
        *("ENETRESET", "ENETUNREACH", "EPIPE", "EREMOTEIO", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
}
# Base classes of the drivers' errors of transport, by name: none of the drivers need be installed.
_CLASSES = {
    *("ClientConnectionError", "ClientPayloadError"),  # aiohttp
    *("TransportError", "HTTPClientError", "ResponseStreamingError", "IncompleteReadError"),  # httpx, botocore
    *("ChunkedEncodingError", "ProtocolError", "Timeout", "ChecksumError"),  # requests, urllib3, gcsfs
}


class ShortBodyError(ConnectionError):
    """Fewer bytes came than were asked for, though the file has them."""


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    if isinstance(error, FileNotFoundError):  # fsspec's http says so whatever kept it from asking for the size
        return error.__cause__ is not None and is_transient(error.__cause__)
    if _of_certificate(error):
        return False
    status = _status(error)
    if status is not None:
        return status in _STATUSES
    if isinstance(error, (PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)):
        return False
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    if isinstance(error, (TimeoutError, ConnectionError, EOFError, http.client.HTTPException)):
        return True
    names = {base.__name__ for base in type(error).__mro__}
    return bool(names & _CLASSES) or (isinstance(error, OSError) and error.errno in _ERRNOS)


def with_retries(
    call: Callable[[int], _Result],
    *,
    until: float,
    on_fault: Callable[[BaseException], None] | None = None,
    stop: threading.Event | None = None,
) -> _Result:
    """The result of `call(attempt)`, attempt 0, 1, ...; an error that stays, or comes at the deadline, is raised.

    Args:
        call: What to try.
        until: `time.monotonic()` after which no further attempt begins; the first is always made.
        on_fault: Told of each fault that is tried again.
        stop: Once it is set, no further attempt begins.
    """
    stop = stop or threading.Event()
    attempt = 0
    while True:
        try:
            return call(attempt)
        except Exception as error:
            wait = _RANDOM.uniform(0, min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2**attempt))
            if not is_transient(error) or time.monotonic() + wait > until:
                raise
            if on_fault is not None:
                on_fault(error)
            if stop.wait(wait):
                raise
        attempt += 1


def _status(error: BaseException) -> int | None:
    """The HTTP status that a driver's error carries, each in its way."""
    response: Any = getattr(error, "response", None)
    found: Any = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(response, dict):  # botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:
        found = getattr(response, "status_code", found)
    try:
        status = int(found)
    except (TypeError, ValueError):
        return None
    return status if 100 <= status < 600 else None


def _of_certificate(error: BaseException) -> bool:
    return isinstance(error, ssl.SSLCertVerificationError) or isinstance(
        getattr(error, "certificate_error", None), ssl.SSLCertVerificationError
    )
