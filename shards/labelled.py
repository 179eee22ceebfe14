"""A picture that comes with labels to a sample: scale it, bring its labels along, draw pairs where none are given.

    judged = label_picture(item, picture, config)       # judged.sample, or judged.reason

Reasons: `size_mismatch` (the labels are those of a picture of another shape), `nothing_known`, `flat` (nearest and
farthest are equally far), `no_pairs` (none of those given lies in the picture).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.config import PackConfig, PairsConfig
from shards.disparity import decode_values, resize_nearest
from shards.format import Sample
from shards.images import encode_jpeg, scale_down
from shards.names import printable, sample_key
from shards.pair_sampler import sample_pairs
from shards.pairs import Tolerance, equal_share, label_pairs, relations, robust_range
from shards.prepared import Prepared
from shards.preview import preview_strip
from shards.randomness import CounterRng
from shards.sources import Item, LabelledPicture

__all__ = ["label_picture"]


def label_picture(item: Item, picture: LabelledPicture, config: PackConfig) -> Prepared:
    """The sample of a picture with labels, or why there is none."""
    settings = config.shards
    picture_hw = picture.image.shape[0], picture.image.shape[1]
    figures: dict[str, Any] = {"picture_hw": list(picture_hw)}
    codes, pairs_hw = picture.codes, picture.pairs_hw or picture_hw
    labels_hw = pairs_hw if codes is None else codes.shape
    if not _same_shape(pairs_hw, picture_hw) or (codes is not None and codes.shape != picture_hw):
        return Prepared(item, reason="size_mismatch", figures=figures | {"labels_hw": list(labels_hw)})

    stored = scale_down(picture.image, settings.long_side_px)
    size_hw = stored.shape[0], stored.shape[1]
    jpeg = picture.jpeg if stored is picture.image and picture.jpeg else encode_jpeg(stored, settings.jpeg_quality)
    meta: dict[str, Any] = {
        "source": config.source.kind,
        "name": printable(item.name),
        "size_hw": list(size_hw),
        "crop_yxhw": [0, 0, *picture_hw],
        **({"about": picture.meta} if picture.meta else {}),
    }
    tolerance = Tolerance(picture.tolerance_kind, settings.tolerance)
    preview = None  # a picture without a map needs no review page, and DIW has hundreds of thousands
    if codes is not None:
        codes = resize_nearest(codes, *size_hw)
        preview = preview_strip(stored, None, np.where(codes > 0, codes, np.float32("nan")))
        figures["known_share"] = round(float((codes > 0).mean()), 4)
        values = _compared(codes, picture.coding, tolerance)
        if reason := _unusable(codes, values, tolerance):
            return Prepared(item, reason=reason, figures=figures, preview=preview)
        meta |= {"coding": picture.coding, "tolerance": {"kind": tolerance.kind, "value": tolerance.value}}

    if picture.pairs is not None:
        pairs, left_out = _bring_along(picture.pairs, pairs_hw, size_hw)
        meta["sampler"] = {"name": "given"}
        figures |= left_out
    elif codes is not None:
        rng = CounterRng("pairs", settings.pairs.seed, meta["name"])
        pairs, drawn = _draw(stored, codes, values, settings.pairs, rng, tolerance)
        sampler = settings.pairs.model_dump(mode="json")
        meta["sampler"] = {"name": sampler.pop("sampler"), **sampler}
        figures |= drawn
    else:
        raise ValueError(f"{item.name!r}: a labelled picture needs codes or pairs")
    if not len(pairs):
        return Prepared(item, reason="no_pairs", figures=figures, preview=preview)
    figures["equal_share"] = round(equal_share(pairs), 4)
    meta["figures"] = figures
    sample = Sample(sample_key(item.name), jpeg, meta, disparity=codes, pairs=pairs)
    return Prepared(item, sample=sample, figures=figures, preview=preview)


def _same_shape(hw: tuple[int, int], other_hw: tuple[int, int]) -> bool:
    """Whether one is the other scaled, up to the rounding of its sides."""
    small, large = sorted((hw, other_hw))
    return any(
        round(large[axis] * small[1 - axis] / large[1 - axis]) in range(small[axis] - 1, small[axis] + 2)
        for axis in (0, 1)
    )


def _compared(codes: NDArray[np.uint16], coding: dict[str, Any] | None, tolerance: Tolerance) -> NDArray[Any]:
    """What relations are read from: the inverse depth where its zero is known, else the codes."""
    return codes if tolerance.kind == "range" else decode_values(codes, coding or {})


def _unusable(codes: NDArray[np.uint16], values: NDArray[Any], tolerance: Tolerance) -> str | None:
    """Why nothing can be learned from a map."""
    known = codes > 0
    if not known.any():
        return "nothing_known"
    ends = values[known].min(), values[known].max()
    value_range = robust_range(codes, known) if tolerance.kind == "range" else None
    return "flat" if relations([ends[0]], [ends[1]], tolerance, value_range=value_range)[0] == 0 else None


def _draw(
    picture: NDArray[np.uint8],
    codes: NDArray[np.uint16],
    values: NDArray[Any],
    config: PairsConfig,
    rng: CounterRng,
    tolerance: Tolerance,
) -> tuple[NDArray[np.int16], dict[str, Any]]:
    """Pairs whose places are drawn on the codes, which are finite and evenly spread, and labelled by the values."""
    known = codes > 0
    by_code = Tolerance("range", tolerance.value)
    drawn = sample_pairs(picture, codes, known, config, rng, by_code)
    pairs = drawn.pairs
    if tolerance.kind == "ratio":
        width = codes.shape[1]
        a, b = (pairs[:, side].astype(np.int64) * width + pairs[:, side + 1] for side in (0, 2))
        pairs = label_pairs(values, a, b, tolerance)
    return pairs, {"pairs_drawn": drawn.drawn}


def _bring_along(
    pairs: NDArray[np.int32], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> tuple[NDArray[np.int16], dict[str, int]]:
    """Given pairs in pixels of another size, and how many had to be left out.

    A point moves to the pixel that its centre falls into, which is (p + 0.5) * s - 0.5, rounded.
    """
    points = pairs[:, :4].astype(np.int64)
    old, new = np.array(from_hw * 2), np.array(to_hw * 2)
    inside = ((points >= 0) & (points < old)).all(axis=1)
    moved = (2 * points + 1) * new // (2 * old)
    merged = inside & (moved[:, :2] == moved[:, 2:]).all(axis=1)
    kept = inside & ~merged
    counts = {"pairs_outside": int((~inside).sum()), "pairs_merged": int(merged.sum())}
    return np.column_stack([moved[kept], pairs[kept, 4]]).astype(np.int16), {k: n for k, n in counts.items() if n}
