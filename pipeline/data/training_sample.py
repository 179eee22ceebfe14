"""From a stored sample to the tensors of one training picture.

A pure function of the sample and the key of its randomness, so a picture looks the same whichever worker, process or
session draws it. View, pairs, colour and loss of quality each draw from a stream of their own: switching one on leaves
the others as they were.

    picture = training_picture(store.read(17), config, (384, 384), (seed, fingerprint, epoch, 17))
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.augment import inside_view, propose_views, view_image, view_map, view_pairs
from pipeline.data.colour import colour_size, draw_colour
from pipeline.data.config import DataConfig
from pipeline.data.degrade import degrade
from pipeline.data.online_pairs import Shown, draw_pairs, some_pairs
from pipeline.data.shared_batches import Fields
from shards.errors import DecodeError, ShardError
from shards.format import Sample, decode_jpeg
from shards.randomness import CounterRng

__all__ = ["TrainingPicture", "fill_picture", "needs_maps", "picture_fields", "training_picture"]

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


def picture_fields(config: DataConfig, size_hw: tuple[int, int], dense: bool) -> Fields:
    """Shape and type of the fields of `TrainingPicture` that are not None."""
    fields: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "image": ((3, *size_hw), torch.uint8),
        "colour": ((colour_size(config.augment),), torch.float32),
        "pairs_yx": ((config.num_pairs, 4), torch.int16),
        "relation": ((config.num_pairs,), torch.int8),
        "valid": ((config.num_pairs,), torch.bool),
        "view": ((5,), torch.int32),
    }
    if dense:
        fields |= {"inverse_depth": (size_hw, torch.float32), "confidence": (size_hw, torch.uint8)}
    return fields


def training_picture(
    sample: Sample, config: DataConfig, size_hw: tuple[int, int], key: tuple[int | str, ...], dense: bool = True
) -> TrainingPicture:
    """Decode, crop, scale and mirror a sample and give it its pairs; see `fill_picture`.

    Args:
        sample: As stored; its maps may be missing where `needs_maps` says so.
        config: Pairs and augmentation.
        size_hw: Height and width of the network's input.
        key: Of all random draws: seed, dataset, epoch, sample.
        dense: Whether inverse depth and confidence are wanted beside the pairs.

    Raises:
        ShardError: The sample cannot be decoded or lacks what `data.pairs` needs.
    """
    fields = picture_fields(config, size_hw, dense)
    tensors = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in fields.items()}
    fill_picture({name: values.numpy() for name, values in tensors.items()}, sample, config, key)
    return TrainingPicture(**{name: tensors.get(name) for name in TrainingPicture._fields})  # type: ignore[arg-type]


def fill_picture(
    out: Mapping[str, NDArray[Any]], sample: Sample, config: DataConfig, key: tuple[int | str, ...]
) -> None:
    """Write a training picture into arrays, all of them: what they held before does not matter.

    A crop that shows no pair (online: fewer than two known pixels) is drawn again a few times, then the whole picture
    is taken; if even that has none, no pair is valid.

    Args:
        out: One array for each of `picture_fields`; undefined after an error.
        sample: As stored; its maps may be missing where `needs_maps` says so.
        config: Pairs and augmentation.
        key: Of all random draws: seed, dataset, epoch, sample.

    Raises:
        ShardError: As `training_picture`.
    """
    try:
        picture = decode_jpeg(sample.image)
    except DecodeError as error:
        raise ShardError(f"sample {sample.key}: {error}") from error
    if config.pairs == "online" and sample.disparity is None:
        raise ShardError(f"sample {sample.key} has no disparity to draw pairs from; set data.pairs to stored")
    if config.pairs == "stored" and not len(sample.pairs):
        raise ShardError(f"sample {sample.key} has no stored pairs; set data.pairs to online")
    dense = "inverse_depth" in out
    source_hw, size_hw = picture.shape[:2], out["image"].shape[1:]
    maps = needs_maps(config, dense)
    pairs_rng = CounterRng(*key, "pairs")
    for view in propose_views(CounterRng(*key, "view"), source_hw, size_hw, config.augment):
        image = view_image(picture, view, size_hw)
        codes = view_map(sample.disparity, view, size_hw) if maps and sample.disparity is not None else None
        stored = view_map(sample.confidence, view, size_hw) if maps and sample.confidence is not None else None
        if config.pairs == "stored":
            pairs = some_pairs(view_pairs(sample.pairs, view, size_hw, source_hw), config.num_pairs, pairs_rng)
        elif codes is not None and np.count_nonzero(codes) >= 2:
            rows, columns = inside_view(view, source_hw, size_hw)
            part = Shown(
                image[rows, columns],
                codes[rows, columns],
                None if stored is None else stored[rows, columns],
                (rows.start, columns.start),
            )
            pairs = draw_pairs(sample, part, config, pairs_rng)
        else:
            continue
        if len(pairs):
            break
    else:
        pairs = np.zeros((0, 5), dtype=np.int16)
    _fill_image(out["image"], degrade(image, config.augment, CounterRng(*key, "degrade")))
    _fill_pairs(out, pairs)
    if out["colour"].size:
        out["colour"][:] = draw_colour(config.augment, CounterRng(*key, "colour"))
    out["view"][:] = view
    if dense:
        _fill_maps(out, codes, stored)


def _fill_image(out: NDArray[np.uint8], image: NDArray[np.uint8]) -> None:
    """Write (h, w, 3) into (3, h, w)."""
    assert out.shape == (3, *image.shape[:2])  # else OpenCV would take planes of its own
    cv2.split(image, list(out))


def _fill_pairs(out: Mapping[str, NDArray[Any]], pairs: NDArray[np.int16]) -> None:
    number = len(pairs)
    for column in range(4):  # all at once takes three times as long
        out["pairs_yx"][:number, column] = pairs[:, column]
    out["relation"][:number] = pairs[:, 4]
    out["valid"][:number] = True
    for name in ("pairs_yx", "relation", "valid"):
        out[name][number:] = 0


def _fill_maps(
    out: Mapping[str, NDArray[Any]], codes: NDArray[np.uint16] | None, stored: NDArray[np.uint8] | None
) -> None:
    """Write inverse depth and confidence: as stored, else certain; 0 where the disparity is unknown."""
    if codes is None:
        out["inverse_depth"][:] = 0
        out["confidence"][:] = 0
        return
    np.divide(codes, _TOP_CODE, out=out["inverse_depth"], dtype=np.float32)
    np.multiply((codes > 0).view(np.uint8), np.uint8(255) if stored is None else stored, out=out["confidence"])
