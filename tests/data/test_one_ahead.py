import gc
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from itertools import count, islice

import pytest

from pipeline.data.one_ahead import OneAhead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def wait_until_no_thread_is_left() -> None:
    end = time.monotonic() + 10
    while "one-ahead" in threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert "one-ahead" not in threads()


class Item:
    def __init__(self, number: int) -> None:
        self.number = number


class Source(Iterator[Item]):
    """Items that it does not keep; it notes which threads made them, and waits before the one that is gated."""

    def __init__(self, gated: int = -1) -> None:
        self.gated, self.gate = gated, threading.Event()
        self.made: list[weakref.ref[Item]] = []
        self.by: set[str] = set()

    def __next__(self) -> Item:
        if len(self.made) == self.gated:
            self.gate.wait()
        item = Item(len(self.made))
        self.made.append(weakref.ref(item))
        self.by.add(threading.current_thread().name)
        return item


def wait_for(source: Source, made: int) -> None:
    end = time.monotonic() + 10
    while len(source.made) < made and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(0.02)  # for one that must not be made
    assert len(source.made) == made


def test_the_items_come_in_order_and_to_their_end() -> None:
    assert list(OneAhead(iter(range(1000)), 10)) == list(range(1000))
    assert list(OneAhead(iter(()), 10)) == []
    assert list(OneAhead(iter([None, 0, None]), 10)) == [None, 0, None]
    wait_until_no_thread_is_left()


def test_exactly_one_is_made_ahead_by_a_thread_of_its_own() -> None:
    source = Source()
    items = OneAhead(source, 10)
    for taken in range(5):
        wait_for(source, taken + 1)
        assert next(items).number == taken
    assert source.by == {"one-ahead"}
    items.close()
    assert "one-ahead" not in threads()


def test_an_item_that_was_handed_over_is_kept_by_nobody_else() -> None:
    source = Source()
    items = OneAhead(source, 10)
    gc.disable()
    try:
        for taken in range(5):
            item = next(items)
            wait_for(source, taken + 2)
            del item
            assert source.made[taken]() is None
            assert source.made[taken + 1]() is not None
    finally:
        gc.enable()
    items.close()


def failing(after: int, error: BaseException) -> Iterator[int]:
    yield from range(after)
    raise error


@pytest.mark.parametrize("error", [ValueError("the third"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_comes_in_its_place_and_nothing_after_it(error: BaseException) -> None:
    items = OneAhead(failing(3, error), 10)
    assert list(islice(items, 3)) == [0, 1, 2]
    with pytest.raises(type(error)) as caught:
        next(items)
    assert caught.value is error
    assert list(items) == []
    wait_until_no_thread_is_left()


def test_after_closing_nothing_comes() -> None:
    items = OneAhead(count(), 10)
    next(items)
    items.close()
    items.close()
    assert list(items) == []
    assert "one-ahead" not in threads()


def test_a_stuck_source_does_not_hold_up_closing_and_ends_later() -> None:
    source = Source(gated=1)
    items = OneAhead(source, 0.1)
    assert next(items).number == 0
    began = time.monotonic()
    items.close()
    assert 0.1 <= time.monotonic() - began < 5
    assert "one-ahead" in threads()
    source.gate.set()
    wait_until_no_thread_is_left()


def test_what_a_signal_raises_while_it_waits_ends_it() -> None:
    def stop(number: int, frame: object) -> None:
        raise InterruptedError

    source = Source(gated=1)
    items = OneAhead(source, 10)
    next(items)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(InterruptedError):
            next(items)
    finally:
        signal.signal(signal.SIGALRM, before)
    source.gate.set()
    assert list(items) == []
    items.close()


def test_an_error_that_nobody_asked_for_keeps_nothing_of_the_source() -> None:
    source = Source(gated=0)
    gone = weakref.ref(source)
    source.made = None  # type: ignore[assignment]  # so that it fails
    items = OneAhead(source, 10)
    gc.disable()
    try:
        wait_until_no_thread_is_left()
        del source, items
        assert gone() is None
    finally:
        gc.enable()


def test_one_that_is_forgotten_ends_its_thread_and_lets_the_source_go() -> None:
    source = Source()
    gone = weakref.ref(source)
    items = OneAhead(source, 10)
    del source
    next(items)
    del items
    wait_until_no_thread_is_left()
    assert gone() is None


def test_at_exit_the_thread_is_not_cut_off_in_its_source() -> None:
    code = """
import torch
from pipeline.data.one_ahead import OneAhead

def source():
    while True:
        yield torch.zeros(1000)
        for _ in range(2000):  # the interpreter would end a thread in here with an abort of the process
            torch.from_numpy(torch.zeros(1).numpy())
        print("made", flush=True)

items = OneAhead(source(), 60)
next(items)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "made\n", "")
