"""A picture as it arrives: plain bytes, bounded in size and in time, in memory only.

    data = await receive(request, Bounds())

Not a form: parsers of forms put large files into the temporary folder, and a page of another site could send a form
without asking the server first.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from starlette.requests import ClientDisconnect, Request

__all__ = ["Bounds", "TooLargeError", "drain", "receive"]

_READ_ON = 2
"""A browser that is cut off while it sends never sees why, so this many times the bound is read before that."""


class Bounds(NamedTuple):
    """What one visitor, and all together, may ask for."""

    upload_bytes: int = 32 * 1024**2
    upload_seconds: float = 60.0
    """For a picture to arrive."""
    places: int = 8
    """Pictures that are sent, wait or are predicted at a time; each may hold `upload_bytes`."""


class TooLargeError(Exception):
    """More bytes than are taken."""


async def receive(request: Request, bounds: Bounds) -> bytes:
    """The body of a request.

    Raises:
        TooLargeError: It is over the bound; what exceeds it was read and thrown away.
        TimeoutError: It did not arrive in time.
        ClientDisconnect: The visitor has gone.
    """
    parts: list[bytes] = []
    size = 0
    async for part in _arriving(request, bounds):
        size += len(part)
        if size <= bounds.upload_bytes:
            parts.append(part)
        else:
            parts.clear()
    if size > bounds.upload_bytes:
        raise TooLargeError
    return b"".join(parts)


async def drain(request: Request, bounds: Bounds) -> None:
    """Read the body of a request that is refused, and keep nothing of it."""
    try:
        async for _ in _arriving(request, bounds):
            pass
    except (TimeoutError, ClientDisconnect):
        return


async def _arriving(request: Request, bounds: Bounds) -> AsyncIterator[bytes]:
    size = 0
    async with asyncio.timeout(bounds.upload_seconds):
        async for part in request.stream():
            yield part
            size += len(part)
            if size > _READ_ON * bounds.upload_bytes:
                return
