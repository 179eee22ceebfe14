"""Ordinal pairs drawn from what a view shows, labelled as they would be in the whole picture.

pairs = draw_pairs(sample, shown, config, rng)        # int16 (N, 5), in pixels of the view
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.config import DataConfig
from shards.config import PairsConfig
from shards.disparity import decode_values
from shards.errors import ShardError
from shards.format import Sample
from shards.pair_sampler import sample_pairs
from shards.pairs import Tolerance, robust_range
from shards.randomness import CounterRng

__all__ = ["Shown", "draw_pairs", "some_pairs"]

_RANGE_PIXELS = 10_000  # of which the tolerance's range is taken: the percentiles of all pixels cost more than the JPEG


class Shown(NamedTuple):
    """The part of a view that lies in the picture: all of it, or what the padding leaves."""

    picture: NDArray[np.uint8]
    """(h, w, 3) RGB."""
    codes: NDArray[np.uint16]
    """(h, w), 0 = unknown."""
    confidence: NDArray[np.uint8] | None
    """(h, w) as stored."""
    corner_yx: tuple[int, int]
    """Where it lies in the view."""


def draw_pairs(sample: Sample, shown: Shown, config: DataConfig, rng: CounterRng) -> NDArray[np.int16]:
    """Draw `config.num_pairs` pairs by `config.sampler`; sure pixels are drawn more often.

    Args:
        sample: As stored; its range, tolerance and coding decide the labels.
        shown: What the view shows of it.
        config: Number and sampler.
        rng: Source of the draws.

    Returns:
        int16 (num_pairs, 5) in pixels of the view; (0, 5) where fewer than two pixels are known.

    Raises:
        ShardError: The sample lacks its tolerance or its coding.
    """
    assert sample.disparity is not None
    tolerance = _tolerance(sample)
    values: NDArray[Any] = shown.codes
    value_range = None
    if tolerance.kind == "ratio":
        values = _inverse_depth(sample, shown.codes)
    else:
        step = max(1, int((sample.disparity.size / _RANGE_PIXELS) ** 0.5))
        thinned = sample.disparity[::step, ::step]
        value_range = robust_range(thinned, thinned > 0)
    how = PairsConfig(num_pairs=config.num_pairs, sampler=config.sampler, edge_share=config.edge_share)
    try:
        drawn = sample_pairs(
            shown.picture,
            values,
            shown.codes > 0,
            how,
            rng,
            tolerance,
            confidence=shown.confidence,
            value_range=value_range,
        )
    except ValueError as error:
        raise ShardError(f"sample {sample.key}: {error}") from error
    if any(shown.corner_yx):
        drawn.pairs[:, :4] += np.array(shown.corner_yx * 2, dtype=np.int16)
    return drawn.pairs


def some_pairs(pairs: NDArray[np.int16], num_pairs: int, rng: CounterRng) -> NDArray[np.int16]:
    """At most `num_pairs` of them, each equally likely, in their stored order."""
    if len(pairs) <= num_pairs:
        return pairs
    return pairs[np.sort(np.argsort(rng.uniform(len(pairs)), kind="stable")[:num_pairs])]


def _tolerance(sample: Sample) -> Tolerance:
    try:
        return Tolerance(**sample.meta["tolerance"])
    except (KeyError, TypeError, ValueError) as error:
        raise ShardError(f"sample {sample.key}: its json has no tolerance of kind and value") from error


def _inverse_depth(sample: Sample, codes: NDArray[np.uint16]) -> NDArray[np.float64]:
    """What the codes of a view stand for; a ratio needs its true zero."""
    try:
        return decode_values(codes, sample.meta["coding"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ShardError(
            f"sample {sample.key}: a tolerance by ratio needs the coding (scale, offset) in its json"
        ) from error
