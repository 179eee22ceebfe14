"""A decoded stereo pair to a sample: crop, match, judge, decide the eyes, label.

judged = label_stereo(item, pair, config)       # judged.sample, or judged.reason
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.config import PackConfig
from shards.disparity import encode_disparity, resize_nearest
from shards.eyes import weigh
from shards.format import Sample
from shards.images import encode_jpeg, picture_box, scale_down
from shards.match import Match, match
from shards.names import printable, sample_key
from shards.pairs import Tolerance, sample_random_pairs
from shards.prepared import Prepared
from shards.quality import is_same_picture, verdict
from shards.randomness import CounterRng
from shards.sources import Item, StereoPair
from shards.sources.config import StereoSourceConfig

__all__ = ["label_stereo"]

_FRAME_MARGIN_PX = 2  # JPEG smears the edge of a black frame into the picture
Box = tuple[int, int, int, int]


def label_stereo(item: Item, pair: StereoPair, config: PackConfig) -> Prepared:
    """The sample of a stereo pair, or why there is none."""
    left, right = pair.left, pair.right
    sizes = {"left_hw": list(left.shape[:2]), "right_hw": list(right.shape[:2])}
    if left.shape != right.shape:
        return Prepared(item, reason="size_mismatch", figures=sizes)
    wild = config.source if isinstance(config.source, StereoSourceConfig) else None
    box = _common_box(left, right) if wild else (0, 0, *left.shape[:2])
    if wild and min(box[2:]) < wild.min_side_px:
        return Prepared(item, reason="too_small", figures=sizes | {"crop_yxhw": list(box)})
    y, x, height, width = box
    left, right = left[y : y + height, x : x + width], right[y : y + height, x : x + width]
    if is_same_picture(left, right):
        return Prepared(item, reason="identical", figures=sizes)

    eyes: str = wild.eyes if wild else "as_given"
    if eyes == "swapped":
        left, right = right, left
    matched = match(left, right, config.shards.match)
    reason, figures = verdict(matched, config.shards.quality)
    if reason is None and eyes == "auto":
        seen = weigh(matched)
        eyes, figures = seen.eyes, figures | seen.figures()
        if eyes == "undecided":
            reason = "eyes_undecided"
        elif eyes == "swapped":
            left, right = right, left
            matched = match(left, right, config.shards.match)
            reason, again = verdict(matched, config.shards.quality)
            figures |= again
    if reason is not None:
        return Prepared(item, reason=reason, figures=figures)
    jpeg = pair.right_jpeg if eyes == "swapped" else pair.left_jpeg
    whole = box == (0, 0, *pair.left.shape[:2])
    sample = _label(item, pair, left, jpeg if whole else None, matched, config)
    sample.meta.update(eyes=eyes, crop_yxhw=list(box), figures=figures)
    return Prepared(item, sample=sample, figures=figures)


def _label(
    item: Item, pair: StereoPair, left: NDArray[np.uint8], jpeg: bytes | None, matched: Match, config: PackConfig
) -> Sample:
    """The sample of a pair that is kept; `left` is the true left eye."""
    settings = config.shards
    picture = scale_down(left, settings.long_side_px)
    if jpeg is None or picture is not left:
        jpeg = encode_jpeg(picture, settings.jpeg_quality)
    size_hw = picture.shape[:2]
    codes, coding = encode_disparity(matched.disparity_px, matched.known)
    codes = resize_nearest(codes, *size_hw)
    name = printable(item.name)
    tolerance = Tolerance("range", settings.tolerance)
    pairs = sample_random_pairs(
        codes, codes > 0, settings.pairs.num_pairs, CounterRng("pairs", settings.pairs.seed, name), tolerance
    )
    meta: dict[str, Any] = {
        "source": config.source.kind,
        "name": name,
        "size_hw": list(size_hw),
        "coding": coding | {"unit": "px of figures.matched_hw"},
        "matcher": {"name": "dis", **settings.match.model_dump(mode="json")},
        "sampler": {"name": "random", **settings.pairs.model_dump(mode="json")},
        "tolerance": {"kind": tolerance.kind, "value": tolerance.value},
        **({"about": pair.meta} if pair.meta else {}),
    }
    return Sample(key=sample_key(item.name), image=jpeg, meta=meta, disparity=codes, pairs=pairs)


def _common_box(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> Box:
    """What lies inside the black frames of both: y, x, height, width; one box for both keeps rows and shift."""
    boxes = [picture_box(picture) for picture in (left, right)]
    span = []
    for axis in (0, 1):
        side = left.shape[axis]
        start = max(box[axis] for box in boxes)
        stop = min(box[axis] + box[axis + 2] for box in boxes)
        start = start + _FRAME_MARGIN_PX if start > 0 else start
        stop = stop - _FRAME_MARGIN_PX if stop < side else stop
        span.append((start, max(stop - start, 0)))
    return span[0][0], span[1][0], span[0][1], span[1][1]
