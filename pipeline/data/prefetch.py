"""Fetches coming shards before they are needed, nearest first, within the cache's budget.

Each trainer process runs some daemon threads that follow its own part of the order. The processes of a machine need no
leader: a shard that another one has in hand is passed over, so ranks on the same road share the work, and together they
fetch only so many shards at a time. Nothing depends on these threads: a reader fetches what it needs and does not find.

    prefetcher = Prefetcher(cache, shards); prefetcher.follow(order.coming_shards(position)); prefetcher.close()
"""

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice

from pipeline.data.cache import ShardCache
from pipeline.data.eviction import make_room
from shards.errors import ShardError
from shards.manifest import ShardEntry

__all__ = ["Prefetcher", "wanted_shards"]

# Shards on one machine while the nearest are missing, each over several connections. Farther ones come one by one,
# which leaves the processor to the decoding.
_AT_ONCE = 4
_PAUSE_SECONDS = 0.1
_LOOKING_SHARE = 0.05  # most of the time that goes into walking the order, and into looking for what is missing
_FAULT_SECONDS = 1.0
_logger = logging.getLogger("depthrank")


def wanted_shards(coming: Iterator[int], sizes_bytes: Sequence[int], budget_bytes: int) -> list[int]:
    """The next shards in the order of use, without repeats, as many as fit the budget and one at least.

    Keeping these and nothing else is Belady's choice. Reads no further than it must, as the order never ends, and at
    most as many as there are shards: about an epoch, as each comes once in one.
    """
    wanted: dict[int, None] = {}
    total = 0
    for number in islice(coming, len(sizes_bytes)):
        if number in wanted:
            continue
        total += sizes_bytes[number]
        if wanted and total > budget_bytes:
            break
        wanted[number] = None
    return list(wanted)


class Prefetcher:
    """Daemon threads that keep the cache ahead of the reader; they start with the first plan.

    Args:
        cache: Where the shards go.
        shards: The shards of the split, by number.
    """

    def __init__(self, cache: ShardCache, shards: Sequence[ShardEntry]) -> None:
        self._cache = cache
        self._shards = shards
        self._sizes = [shard.bytes for shard in shards]
        self._lock = threading.Lock()  # of the threads; the reader never waits for it
        self._stop = threading.Event()
        self._rest_until = 0.0
        self._walk_after = 0.0
        self._plan: Iterator[int] = iter(())
        self._walked = self._plan
        self._wanted: list[int] = []
        self._in_hand: set[int] = set()
        self._told: set[int] = set()
        self._told_of_threads = False
        self._threads: list[threading.Thread] = []

    def follow(self, coming: Iterator[int]) -> None:
        """From now on fetch these shards, given in the order of their first use; returns at once.

        Call it with each step: what has been passed may then go to make room.
        """
        self._plan = coming
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, name=f"prefetch-{number}", daemon=True)
                for number in range(_AT_ONCE)
            ]
            for thread in self._threads:
                thread.start()

    def close(self) -> None:
        """Begin nothing new; what is being fetched ends with its present attempt."""
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                number = self._choose()
                if number is not None:
                    self._in_hand.add(number)
                coming = self._names()
            if number is None:
                self._stop.wait(_PAUSE_SECONDS)
                continue
            shard = self._shards[number]
            rest_until = 0.0
            try:
                if not self._cache.fetch_ahead(shard.name, shard.bytes, shard.sha256, coming, self._stop):
                    rest_until = time.monotonic() + _FAULT_SECONDS
            except ShardError as error:
                # The reader meets it when it comes there, and says it properly; there may be time to mend it.
                if number not in self._told and not self._stop.is_set():
                    self._told.add(number)
                    _logger.warning("fetching ahead failed: %s", error)
                self._stop.wait(_FAULT_SECONDS)
            except RuntimeError as error:  # no thread can be started
                if sys.is_finalizing() or not threading.main_thread().is_alive():
                    return
                if not self._told_of_threads:
                    self._told_of_threads = True
                    _logger.warning("fetching ahead failed, now and then tried again: %s", error)
                self._stop.wait(_FAULT_SECONDS)
            finally:
                with self._lock:
                    self._in_hand.discard(number)
                    self._rest_until = rest_until

    def _choose(self) -> int | None:
        """The shard to fetch next; None where there is nothing to do for a while. Under the lock."""
        began = time.monotonic()
        if began < self._rest_until:
            return None
        plan = self._plan
        if plan is not self._walked and began >= self._walk_after:
            self._wanted, self._walked = wanted_shards(plan, self._sizes, self._cache.budget_bytes), plan
            now = time.monotonic()
            self._walk_after = now + (now - began) / _LOOKING_SHARE
        number = self._next_missing()
        if number is None:
            now = time.monotonic()
            self._rest_until = now + max(_PAUSE_SECONDS, (now - began) / _LOOKING_SHARE)
        return number

    def _next_missing(self) -> int | None:
        in_hand: set[str] | None = None
        for place, number in enumerate(self._wanted):
            shard = self._shards[number]
            if number in self._in_hand or self._cache.has(shard.name, shard.bytes):
                continue
            if in_hand is None:
                in_hand = self._cache.in_hand() | {self._shards[mine].name for mine in self._in_hand}
            if shard.name not in in_hand:
                # What is needed next is fetched even where others leave no room; the rest can wait.
                at_once = _AT_ONCE if place < _AT_ONCE else 1
                free = len(in_hand) < at_once and (self._make_room(shard) or place == 0)
                return number if free else None
        return None

    def _make_room(self, shard: ShardEntry) -> bool:
        names = [(self._shards[number].name, self._sizes[number]) for number in self._in_hand]
        need = shard.bytes + sum(self._cache.bytes_to_come(*name) for name in names)
        return make_room(self._cache.folder, need, self._cache.budget_bytes, self._names(), keep=len(self._wanted))

    def _names(self) -> list[str]:
        return [self._shards[number].name for number in self._wanted]
