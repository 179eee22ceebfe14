"""From a stored sample to the tensors of one training picture.

A pure function of the sample and the key of its randomness, so a picture looks the same whichever worker, process or
session draws it. View, pairs, colour and loss of quality each draw from a stream of their own: switching one on leaves
the others as they were.

    picture = training_picture(store.read(17), config, (384, 384), (seed, fingerprint, epoch, 17))
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.augment import View, inside_view, propose_views, view_image, view_map, view_pairs
from pipeline.data.colour import draw_colour
from pipeline.data.config import DataConfig
from pipeline.data.degrade import degrade
from pipeline.data.online_pairs import Shown, draw_pairs, some_pairs
from shards.errors import DecodeError, ShardError
from shards.format import Sample, decode_jpeg
from shards.randomness import CounterRng

__all__ = ["TrainingPicture", "needs_maps", "training_picture"]

_TOP_CODE = np.float32(65535)


class TrainingPicture(NamedTuple):
    """Tensors of one picture; h, w are the training size and P is `data.num_pairs`."""

    image: Tensor
    """uint8 (3, h, w)."""
    colour: Tensor
    """float32 (4,) for `pipeline.data.colour.apply_colour`, or (0,) where colour is left alone."""
    inverse_depth: Tensor | None
    """float32 (h, w) in 0..1, larger = nearer, 0 where unknown; None where only pairs are asked for."""
    confidence: Tensor | None
    """uint8 (h, w), 0 = unknown, 255 = certain; None where only pairs are asked for."""
    pairs_yx: Tensor
    """int16 (P, 4): y_a, x_a, y_b, x_b."""
    relation: Tensor
    """int8 (P,): +1 A is farther, -1 A is nearer, 0 equal."""
    valid: Tensor
    """bool (P,): False where the list of pairs is filled up."""
    view: Tensor
    """int32 (5,): top, left, height and width of the view in source pixels, and 1 where it is mirrored."""


def needs_maps(config: DataConfig, dense: bool) -> bool:
    """Whether a picture needs its disparity and confidence; decoding them costs as much as all the rest."""
    return dense or config.pairs == "online"


def training_picture(
    sample: Sample, config: DataConfig, size_hw: tuple[int, int], key: tuple[int | str, ...], dense: bool = True
) -> TrainingPicture:
    """Decode, crop, scale and mirror a sample and give it its pairs.

    A crop that shows no pair (online: fewer than two known pixels) is drawn again a few times, then the whole picture
    is taken; if even that has none, no pair is valid.

    Args:
        sample: As stored; its maps may be missing where `needs_maps` says so.
        config: Pairs and augmentation.
        size_hw: Height and width of the network's input.
        key: Of all random draws: seed, dataset, epoch, sample.
        dense: Whether inverse depth and confidence are wanted beside the pairs.

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
    pairs_rng = CounterRng(*key, "pairs")
    for view in propose_views(CounterRng(*key, "view"), source_hw, size_hw, config.augment):
        image, codes, confidence = _shown(picture, sample, view, size_hw)
        if config.pairs == "stored":
            pairs = some_pairs(view_pairs(sample.pairs, view, size_hw, source_hw), config.num_pairs, pairs_rng)
        elif np.count_nonzero(codes) >= 2:
            rows, columns = inside_view(view, source_hw, size_hw)
            part = Shown(
                image.permute(1, 2, 0).numpy()[rows, columns],
                codes[rows, columns],
                None if confidence is None else confidence[rows, columns],
                (rows.start, columns.start),
            )
            pairs = draw_pairs(sample, part, config, pairs_rng)
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
        image=degrade(image, config.augment, CounterRng(*key, "degrade")),
        colour=draw_colour(config.augment, CounterRng(*key, "colour")),
        inverse_depth=torch.from_numpy(np.divide(codes, _TOP_CODE, dtype=np.float32)) if dense else None,
        confidence=torch.from_numpy(_confidence(codes, confidence)) if dense else None,
        pairs_yx=table[:, :4].contiguous(),
        relation=table[:, 4].to(torch.int8),
        valid=torch.arange(config.num_pairs) < len(pairs),
        view=torch.tensor(view, dtype=torch.int32),
    )


def _shown(
    picture: NDArray[np.uint8], sample: Sample, view: View, size_hw: tuple[int, int]
) -> tuple[Tensor, NDArray[np.uint16], NDArray[np.uint8] | None]:
    """Image, codes and stored confidence of a view; codes are 0 where the sample has no disparity."""
    return (
        view_image(picture, view, size_hw),
        np.zeros(size_hw, np.uint16) if sample.disparity is None else view_map(sample.disparity, view, size_hw),
        None if sample.confidence is None else view_map(sample.confidence, view, size_hw),
    )


def _confidence(codes: NDArray[np.uint16], stored: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Of each pixel of a view: as stored, else certain; 0 where the disparity is unknown."""
    return (codes > 0).view(np.uint8) * (np.uint8(255) if stored is None else stored)
