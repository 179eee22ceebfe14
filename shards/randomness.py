"""Random numbers that are a pure function of a key.

Whoever draws for the same key (a worker, a rank, a resumed session) gets the same numbers, and drawing for one sample
says nothing about another. numpy promises the raw stream of its Philox bit generator for ever, but not the streams of
`numpy.random.Generator`; so only the raw stream is used and the transforms are ours.

    rng = CounterRng("crop", seed, epoch, sample)
    u = rng.uniform(2)
"""

import hashlib
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.random import Philox  # now: numpy would load it at the first draw, and its loading swallows a Ctrl-C
from numpy.typing import NDArray

__all__ = ["CounterRng", "digest_key"]


def digest_key(*key: int | str) -> bytes:
    """The sha256 digest of a key, in which type, length and content of each part count: (1,) and ("1",) differ.

    Args:
        key: Integers of any size and sign, and strings.

    Raises:
        TypeError: A part is neither an integer nor a string (a float or a bool in a key is a mistake).
    """
    digest = hashlib.sha256()
    for part in key:
        if isinstance(part, str):
            tag, content = b"s", part.encode("utf-8", "surrogatepass")
        elif isinstance(part, (int, np.integer)) and not isinstance(part, bool):
            tag, content = b"i", str(int(part)).encode("ascii")
        else:
            raise TypeError(f"a key is made of integers and strings, not {part!r} ({type(part).__name__})")
        digest.update(tag + len(content).to_bytes(8, "little") + content)
    return digest.digest()


class CounterRng:
    """A short stream of random numbers for one key; successive calls continue the stream."""

    def __init__(self, *key: int | str) -> None:
        self._key = key

    @cached_property
    def _raw(self) -> Callable[[int], NDArray[np.uint64]]:  # made when something is drawn, as it costs 20 us
        raw: Callable[[int], NDArray[np.uint64]] = Philox(
            key=int.from_bytes(digest_key(*self._key)[:16], "little")
        ).random_raw
        return raw

    def uniform(self, n: int) -> NDArray[np.float64]:
        """Draw `n` numbers in [0, 1), multiples of 2^-53, as float64 (n,)."""
        return (self._raw(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, n: int, high: int) -> NDArray[np.int64]:
        """Draw `n` integers in [0, high) as int64 (n,).

        The bias of any value is below high / 2^53.

        Raises:
            ValueError: `high` is not in 1..2^32.
        """
        if not 1 <= high <= 2**32:
            raise ValueError(f"high must be in 1..2^32, not {high}")
        return np.floor(self.uniform(n) * high).astype(np.int64)
