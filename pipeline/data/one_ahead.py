"""An iterator that a thread keeps one item ahead of its consumer.

While the consumer works on an item, the thread makes the next: a consumer that is slower than its source finds it
ready. Exactly one is made ahead, so what waits takes the room of one item.

    batches = OneAhead(source, grace_seconds=2)
    for batch in batches: ...
    batches.close()
"""

import threading
import weakref
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

__all__ = ["OneAhead"]

Item = TypeVar("Item")


class OneAhead(Iterator[Item], Generic[Item]):
    """Items of an iterator, in its order; the thread starts at once, and ends when this is closed or gone, or at exit.

    An error of the source is raised in the place of the item that it prevented; nothing comes after it.

    Args:
        source: Only the thread uses it from now on. It must not refer to this object, which would never be gone then.
        grace_seconds: How long the end waits for a thread that is in its source; then it is left to end by itself.
    """

    def __init__(self, source: Iterator[Item], grace_seconds: float) -> None:
        self._made: SimpleQueue[tuple[Item | None, BaseException | None]] = SimpleQueue()
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._wanted.put(True)
        self._has_ended = False
        # A daemon, as a source that is stuck must not keep the process.
        thread = threading.Thread(target=_make, args=(source, self._wanted, self._made), name="one-ahead", daemon=True)
        thread.start()
        # Also at exit: the interpreter ends a daemon wherever it is, and one in torch takes the process down with it.
        self._end = weakref.finalize(self, _end, thread, self._wanted, grace_seconds)

    def __next__(self) -> Item:
        if self._has_ended:
            raise StopIteration
        self._has_ended = True  # unless an item is handed over: what a signal's handler raises here may lose one
        item, error = self._made.get()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback would else refer to this frame, and the frame to it
        self._wanted.put(True)
        self._has_ended = False
        return item  # type: ignore[return-value]  # None only with an error, or where the source gave it

    def close(self) -> None:
        """End the thread; nothing comes any more."""
        self._has_ended = True
        self._end()


def _end(thread: threading.Thread, wanted: "SimpleQueue[bool]", grace_seconds: float) -> None:
    wanted.put(False)
    if thread is not threading.current_thread():  # garbage may be collected in any thread
        thread.join(grace_seconds)


def _make(source: Iterator[Any], wanted: "SimpleQueue[bool]", made: "SimpleQueue[Any]") -> None:
    # No name here holds an item: it would keep the memory of a batch that the consumer is done with.
    while wanted.get():
        try:
            made.put((next(source), None))
        except BaseException as error:
            made.put((None, error))
            del source, made  # the error's traceback refers to this frame
            return
