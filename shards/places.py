"""The pixels of a picture that may be drawn, each in proportion to its confidence.

places = Places(known, confidence)
a, b = places.two(3000, CounterRng("pairs", seed, name))       # flat indices of two different pixels
"""

import numpy as np
from numpy.typing import NDArray

from shards.randomness import CounterRng

__all__ = ["Places"]


class Places:
    """Known pixels and their weights.

    Args:
        known: (H, W) where a pixel may be drawn.
        confidence: uint8 (H, W), 255 = certain, 0 = never drawn; None: all known pixels alike.

    Raises:
        ValueError: The confidence is not uint8 of the same shape.
    """

    def __init__(self, known: NDArray[np.bool_], confidence: NDArray[np.uint8] | None = None) -> None:
        if confidence is not None:
            if confidence.dtype != np.uint8 or confidence.shape != known.shape:
                raise ValueError(f"confidence is {confidence.dtype} {confidence.shape}, must be uint8 {known.shape}")
            known = known & (confidence > 0)
        self.known = known
        """(H, W): what may be drawn."""
        self.flat = np.flatnonzero(known)
        """Flat indices of it, ascending."""
        self._weights = None if confidence is None else confidence.reshape(-1)
        self._largest = 255 if confidence is None else int(confidence[known].max(initial=1))
        self._ends = None if confidence is None else np.cumsum(confidence.reshape(-1)[self.flat], dtype=np.int64)

    def one(self, num: int, rng: CounterRng) -> NDArray[np.int64]:
        """Draw `num` pixels, with replacement, in proportion to their confidence; int64 (num,) flat indices."""
        if self._ends is None:
            return self.flat[rng.integers(num, len(self.flat))]
        return self.flat[np.searchsorted(self._ends, self._below(rng, num, self._ends[-1]), side="right")]

    def two(self, num: int, rng: CounterRng) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw `num` pairs of two different pixels, B like A but for the pixel of A; two must be known.

        Returns:
            Flat indices of A and of B, int64 (num,) each.
        """
        if self._ends is None:
            index_a = rng.integers(num, len(self.flat))
            index_b = rng.integers(num, len(self.flat) - 1)
            index_b += index_b >= index_a  # any other pixel, each equally likely
            return self.flat[index_a], self.flat[index_b]
        ends = self._ends
        index_a = np.searchsorted(ends, self._below(rng, num, ends[-1]), side="right")
        starts = np.concatenate([[0], ends[:-1]])[index_a]
        weight = ends[index_a] - starts
        ticket = self._below(rng, num, ends[-1] - weight)
        ticket += np.where(ticket >= starts, weight, 0)  # step over what belongs to A
        return self.flat[index_a], self.flat[np.searchsorted(ends, ticket, side="right")]

    def thin(self, *points: NDArray[np.int64], rng: CounterRng) -> NDArray[np.bool_]:
        """Accept each of (N,) pairs or pixels, proposed alike, with a chance in proportion to their confidence.

        Args:
            *points: int64 (N,) flat indices of known pixels; the chance is the product over them.
            rng: Source of the draws; untouched where there is no confidence.
        """
        if self._weights is None:
            return np.ones(len(points[0]), dtype=bool)
        chance = np.ones(len(points[0]))
        for point in points:
            chance *= self._weights[point] / self._largest
        return rng.uniform(len(chance)) < chance

    @staticmethod
    def _below(rng: CounterRng, num: int, bound: NDArray[np.int64] | int) -> NDArray[np.int64]:
        return np.floor(rng.uniform(num) * bound).astype(np.int64)
