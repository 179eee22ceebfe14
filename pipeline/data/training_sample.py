"""From a stored sample to the tensors of one training picture.

A pure function of the sample and the key of its randomness, so a picture looks the same whichever worker, process or
session draws it.

    picture = training_picture(store.read(17), config, (384, 384), CounterRng(...), CounterRng(...))
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.augment import View, propose_views, view_image, view_map, view_pairs
from pipeline.data.config import DataConfig
from shards.disparity import decode_values
from shards.errors import DecodeError, ShardError
from shards.format import Sample, decode_jpeg
from shards.pairs import Tolerance, robust_range, sample_random_pairs
from shards.randomness import CounterRng

__all__ = ["TrainingPicture", "training_picture"]

_TOP_CODE = 65535
_RANGE_PIXELS = 10_000  # of which the tolerance's range is taken: the percentiles of all pixels cost more than the JPEG


class TrainingPicture(NamedTuple):
    """Tensors of one picture; h, w are the training size and P is `data.num_pairs`."""

    image: Tensor
    """uint8 (3, h, w)."""
    inverse_depth: Tensor
    """float32 (h, w) in 0..1, larger = nearer, 0 where unknown."""
    known: Tensor
    """bool (h, w)."""
    pairs_yx: Tensor
    """int16 (P, 4): y_a, x_a, y_b, x_b."""
    relation: Tensor
    """int8 (P,): +1 A is farther, -1 A is nearer, 0 equal."""
    valid: Tensor
    """bool (P,): False where the list of pairs is filled up."""


def training_picture(
    sample: Sample, config: DataConfig, size_hw: tuple[int, int], view_rng: CounterRng, pairs_rng: CounterRng
) -> TrainingPicture:
    """Decode, crop, scale and mirror a sample and give it its pairs.

    A crop that shows no pair (online: fewer than two known pixels) is drawn again a few times, then the whole picture
    is taken; if even that has none, no pair is valid.

    Raises:
        ShardError: The sample cannot be decoded or lacks what `data.pairs` needs.
    """
    try:
        picture = decode_jpeg(sample.image)
    except DecodeError as error:
        raise ShardError(f"sample {sample.key}: {error}") from error
    source_hw = picture.shape[0], picture.shape[1]
    if config.pairs == "online" and sample.disparity is None:
        raise ShardError(f"sample {sample.key} has no disparity to draw pairs from; set data.pairs to stored")
    if config.pairs == "stored" and not len(sample.pairs):
        raise ShardError(f"sample {sample.key} has no stored pairs; set data.pairs to online")
    for view in propose_views(view_rng, source_hw, size_hw, config.augment):
        codes = _codes(sample, view, size_hw)
        if config.pairs == "stored":
            pairs = _some(view_pairs(sample.pairs, view, size_hw), config.num_pairs, pairs_rng)
        elif np.count_nonzero(codes) >= 2:
            confidence = None if sample.confidence is None else view_map(sample.confidence, view, size_hw)
            pairs = _drawn_pairs(sample, codes, confidence, config.num_pairs, pairs_rng)
        else:
            continue
        if len(pairs):
            break
    else:
        pairs = np.zeros((0, 5), dtype=np.int16)
    filled = np.zeros((config.num_pairs, 5), dtype=np.int16)
    filled[: len(pairs)] = pairs
    table = torch.from_numpy(filled)
    return TrainingPicture(
        image=view_image(picture, view, size_hw),
        inverse_depth=torch.from_numpy(codes.astype(np.float32) / _TOP_CODE),
        known=torch.from_numpy(codes > 0),
        pairs_yx=table[:, :4].contiguous(),
        relation=table[:, 4].to(torch.int8),
        valid=torch.arange(config.num_pairs) < len(pairs),
    )


def _codes(sample: Sample, view: View, size_hw: tuple[int, int]) -> NDArray[np.uint16]:
    if sample.disparity is None:
        return np.zeros(size_hw, dtype=np.uint16)
    return view_map(sample.disparity, view, size_hw)


def _drawn_pairs(
    sample: Sample, codes: NDArray[np.uint16], confidence: NDArray[np.uint8] | None, num_pairs: int, rng: CounterRng
) -> NDArray[np.int16]:
    """Pairs of the view, labelled as they would be in the whole picture; sure pixels are drawn more often."""
    assert sample.disparity is not None
    tolerance = _tolerance(sample)
    values: NDArray[Any] = codes
    value_range = None
    if tolerance.kind == "ratio":
        values = _inverse_depth(sample, codes)
    else:
        step = max(1, int((sample.disparity.size / _RANGE_PIXELS) ** 0.5))
        thinned = sample.disparity[::step, ::step]
        value_range = robust_range(thinned, thinned > 0)
    try:
        return sample_random_pairs(
            values, codes > 0, num_pairs, rng, tolerance, confidence=confidence, value_range=value_range
        )
    except ValueError as error:
        raise ShardError(f"sample {sample.key}: {error}") from error


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


def _some(pairs: NDArray[np.int16], num_pairs: int, rng: CounterRng) -> NDArray[np.int16]:
    """At most `num_pairs` of them, each equally likely, in their stored order."""
    if len(pairs) <= num_pairs:
        return pairs
    return pairs[np.sort(np.argsort(rng.uniform(len(pairs)), kind="stable")[:num_pairs])]
