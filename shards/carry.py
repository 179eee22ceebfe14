"""What of a killed job's shards can be trusted: every byte is read again and compared with what the journal says.

Usage:

    found = verify(writes, closed_url=lambda split, shard: ..., part=lambda split, shard: ...)
    found.good          # the leading writes whose bytes are all there
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.errors import ShardError
from shards.journal import Write
from shards.manifest import SplitName
from shards.open_shard import TAR_END_BYTES, tar_end
from shards.storage import exists, open_read, shown

__all__ = ["Verified", "verify"]

Place = tuple[SplitName, int]
_CHUNK_BYTES = 1 << 20


@dataclass
class Verified:
    """What is there.

    Args:
        good: How many of the leading writes.
        closed: Size and sha256 of each finished shard that is whole.
    """

    good: int
    closed: dict[Place, tuple[int, str]] = field(default_factory=dict)


def verify(
    writes: Sequence[Write],
    *,
    closed_url: Callable[[SplitName, int], str],
    part: Callable[[SplitName, int], Path],
) -> Verified:
    """Compare shards with the journal, up to the first sample that is missing or differs.

    Args:
        writes: In the order in which they were made.
        closed_url: Where a finished shard lies.
        part: Where a growing one lies.

    Raises:
        ShardError: The storage does not answer; nothing is known about what it holds.
    """
    shards: dict[Place, list[int]] = {}
    for number, write in enumerate(writes):
        shards.setdefault((write.split, write.shard), []).append(number)
    newest = {split: max(number for of, number in shards if of == split) for split, _ in shards}
    found = Verified(len(writes))
    for (split, shard), numbers in shards.items():
        is_newest = shard == newest[split]
        growing = part(split, shard)
        url = str(growing) if is_newest and growing.exists() else closed_url(split, shard)
        good = 0
        if (shard == 0 or (split, shard - 1) in shards) and exists(url):
            good, closed = _verify_one(url, [writes[number] for number in numbers])
            if closed is not None:
                found.closed[split, shard] = closed
            elif not is_newest:
                good = 0  # it is damaged behind its last sample, or was never finished
        if good < len(numbers):
            found.good = min(found.good, numbers[good])
    return found


def _verify_one(url: str, writes: Sequence[Write]) -> tuple[int, tuple[int, str] | None]:
    """How many of its samples are there; size and sha256 where the tar is whole and ends behind them."""
    digest = hashlib.sha256()
    position = 0
    with open_read(url) as file:
        for good, write in enumerate(writes):
            if write.offset != position:
                return good, None
            for chunk in _chunks(file, write.length, url):
                digest.update(chunk)
            if digest.hexdigest() != write.sha256:
                return good, None
            position += write.length
        tail = b"".join(_chunks(file, 2 * TAR_END_BYTES, url))
    if tail != tar_end(position):
        return len(writes), None
    digest.update(tail)
    return len(writes), (position + len(tail), digest.hexdigest())


def _chunks(file: Any, num_bytes: int, url: str) -> Iterator[bytes]:
    """At most that many bytes; fewer where the file ends."""
    while num_bytes > 0:
        try:
            chunk = file.read(min(num_bytes, _CHUNK_BYTES))
        except Exception as error:  # the drivers of object stores raise far more than OSError
            reason = type(error).__name__
            raise ShardError(f"{shown(url)}: cannot read it ({reason}); start again to continue") from error
        if not chunk:
            return
        num_bytes -= len(chunk)
        yield chunk
