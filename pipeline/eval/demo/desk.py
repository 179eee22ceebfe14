"""One picture after the other; a bounded number waits, who comes after these is told so, and who waits at the end too.

    desk = Desk(num_places=8)
    with desk.visit(), desk.place():        # BusyError where all places are taken
        data = await receive()
        async with desk.turn():
            result = await asyncio.to_thread(job, data)
    desk.close()                            # cancels every visit that has not had its turn

A place is taken before a picture is received, so that memory is bounded by the places, whatever is sent.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

__all__ = ["BusyError", "Desk"]


class BusyError(Exception):
    """All places are taken."""


class Desk:
    """A queue before one worker.

    Args:
        num_places: For those who are served, wait, or send their picture, together.
    """

    def __init__(self, num_places: int) -> None:
        self._num_free = num_places
        self._waiting: set[asyncio.Task[Any]] = set()
        self._turn = asyncio.Lock()  # which is fair: first come, first served

    @contextmanager
    def visit(self) -> Iterator[None]:
        """A request; cancelled where the desk is closed before its turn."""
        task = _this_task()
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            BusyError: All are taken.
        """
        if not self._num_free:
            raise BusyError
        self._num_free -= 1
        try:
            yield
        finally:
            self._num_free += 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the turn of this visit, and hold it."""
        async with self._turn:
            self._waiting.discard(_this_task())  # from here on a thread works for it, which cannot be stopped
            yield

    def close(self) -> None:
        """Cancel who waits; who has their turn is served to the end."""
        for task in self._waiting:
            task.cancel()


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # a request is always handled in one
    return task
