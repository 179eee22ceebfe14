"""A decoded stereo pair to a sample: crop, match, judge, decide the eyes, label.

Reasons for which there is none: `size_mismatch`, `too_small`, `identical`, `dropped_by_hand`, those of
`shards.quality`, and `eyes_undecided`.

    judged = label_stereo(item, pair, config)       # judged.sample, or judged.reason
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.align import Alignment, unwarp_map
from shards.config import PackConfig
from shards.decisions import Decision, Decisions, read_decisions
from shards.disparity import LOWEST_CODE, encode_disparity, resize_nearest
from shards.errors import DecodeError
from shards.eyes import weigh
from shards.format import Sample
from shards.frames import common_box
from shards.halves import equalise
from shards.images import encode_jpeg, scale_down
from shards.match import Match, match
from shards.names import printable, sample_key
from shards.pair_sampler import sample_pairs
from shards.pairs import Tolerance
from shards.prepared import Prepared
from shards.preview import preview_strip
from shards.quality import is_same_picture, verdict
from shards.randomness import CounterRng
from shards.sky import find_sky
from shards.sources import Item, StereoPair
from shards.sources.config import StereoSourceConfig
from shards.storage import local_path

__all__ = ["label_stereo"]

Box = tuple[int, int, int, int]
Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class _Eye:
    """One eye's picture as it may be stored: cropped, and where it comes from."""

    picture: Picture
    crop_yxhw: Box
    jpeg: bytes | None
    sky: NDArray[np.bool_] | None


def label_stereo(item: Item, pair: StereoPair, config: PackConfig) -> Prepared:
    """The sample of a stereo pair, or why there is none."""
    wild = config.source if isinstance(config.source, StereoSourceConfig) else None
    figures: dict[str, Any] = {"left_hw": list(pair.left.shape[:2]), "right_hw": list(pair.right.shape[:2])}
    eyes_given = _crop(item, pair, trim_frames=wild is not None)
    if eyes_given is None:
        return Prepared(item, reason="size_mismatch", figures=figures)
    first, second = eyes_given
    height, width = first.picture.shape[:2]
    if wild and min(height, width) < wild.min_side_px:
        return Prepared(item, reason="too_small", figures=figures | {"crop_yxhw": list(first.crop_yxhw)})
    decision = _decision(item, config)
    if decision.keep is False:
        strip = preview_strip(first.picture, second.picture, None)
        return Prepared(item, reason="dropped_by_hand", figures=figures, preview=strip)
    if is_same_picture(first.picture, second.picture):
        return Prepared(item, reason="identical", figures=figures)

    matched = match(first.picture, second.picture, config.shards.match)
    reason, judged = verdict(matched, config.shards.quality)
    figures |= judged
    eyes: str = decision.eyes or (wild.eyes if wild else "as_given")
    if eyes == "auto":
        seen = weigh(matched)
        eyes, figures = seen.eyes, figures | seen.figures()
    if decision.keep:
        reason = None
    if reason is None and eyes == "undecided":
        reason = "eyes_undecided"
    swapped = eyes == "swapped"
    left, right = (second, first) if swapped else (first, second)
    disparity_px, certainty = _labels(matched, swapped, config)
    preview = preview_strip(left.picture, right.picture, disparity_px)
    if reason is None and np.count_nonzero(np.isfinite(disparity_px)) < 2:
        reason = "nothing_known"
    if reason is not None:
        return Prepared(item, reason=reason, figures=figures | {"eyes": eyes}, preview=preview)
    sample = _sample(item, pair, left, disparity_px, certainty, config)
    sample.meta.update(eyes=eyes, figures=figures | sample.meta["figures"])
    return Prepared(item, sample=sample, figures=sample.meta["figures"], preview=preview)


def _crop(item: Item, pair: StereoPair, *, trim_frames: bool) -> tuple[_Eye, _Eye] | None:
    """Both eyes at one size and without the frame around them; None where they are no pair of pictures."""
    if not trim_frames and pair.left.shape == pair.right.shape:
        box = 0, 0, *pair.left.shape[:2]
        return _Eye(pair.left, box, pair.left_jpeg, None), _Eye(pair.right, box, pair.right_jpeg, None)
    halves = equalise(pair.left, pair.right)
    if halves is None:
        return None
    y, x, height, width = common_box(halves.left, halves.right)

    def eye(picture: Picture, outer: Box, whole: Picture, jpeg: bytes | None, sky: Any, scale: float) -> _Eye:
        inner = tuple(round(value / scale) for value in (y, x, height, width))
        crop = outer[0] + inner[0], outer[1] + inner[1], inner[2], inner[3]
        untouched = crop == (0, 0, *whole.shape[:2]) and scale == 1
        cut = np.ascontiguousarray(picture[y : y + height, x : x + width])
        if sky is not None:
            if sky.shape != whole.shape[:2]:
                raise DecodeError(f"{printable(item.name)}: its mask of the sky is {sky.shape}, not {whole.shape[:2]}")
            rows, columns = slice(crop[0], crop[0] + crop[2]), slice(crop[1], crop[1] + crop[3])
            sky = sky[rows, columns]
        return _Eye(cut, crop, jpeg if untouched else None, sky)

    return (
        eye(halves.left, halves.left_box, pair.left, pair.left_jpeg, pair.left_sky, 1.0),
        eye(halves.right, halves.right_box, pair.right, pair.right_jpeg, pair.right_sky, halves.right_scale),
    )


def _labels(matched: Match, swapped: bool, config: PackConfig) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Disparity, NaN where unknown, and confidence on the pixels of the true left eye, at the matched size.

    Where the eyes were swapped that is the partner, which was warped to be matched: its map is warped back.
    """
    side, alignment = (matched.right, matched.alignment) if swapped else (matched.left, Alignment())
    certainty = side.confidence(config.shards.match.consistency_px)
    if alignment == Alignment():
        return side.disparity_px, certainty
    disparity_px = unwarp_map(side.disparity_px, alignment, outside=np.nan)
    return disparity_px, unwarp_map(certainty, alignment, outside=0)


def _sample(
    item: Item,
    pair: StereoPair,
    left: _Eye,
    disparity_px: NDArray[np.float32],
    certainty: NDArray[np.uint8],
    config: PackConfig,
) -> Sample:
    """The sample of a pair that is kept; `left` is the true left eye."""
    settings = config.shards
    picture = scale_down(left.picture, settings.long_side_px)
    jpeg = left.jpeg
    if jpeg is None or picture is not left.picture:
        jpeg = encode_jpeg(picture, settings.jpeg_quality)
    size_hw = picture.shape[0], picture.shape[1]
    known = np.isfinite(disparity_px)
    codes, coding = encode_disparity(disparity_px, known)
    codes, certainty = resize_nearest(codes, *size_hw), resize_nearest(certainty, *size_hw)
    sky = _sky(picture, left.sky, resize_nearest(disparity_px, *size_hw), settings.sky)
    codes[sky], certainty[sky] = LOWEST_CODE, 255
    certainty[codes == 0] = 0
    name = printable(item.name)
    tolerance = Tolerance("range", settings.tolerance)
    rng = CounterRng("pairs", settings.pairs.seed, name)
    drawn = sample_pairs(picture, codes, codes > 0, settings.pairs, rng, tolerance, confidence=certainty)
    sampler = settings.pairs.model_dump(mode="json")
    matcher = settings.match.model_dump(mode="json", exclude={"raft_weights"})
    meta: dict[str, Any] = {
        "source": config.source.kind,
        "name": name,
        "size_hw": list(size_hw),
        "crop_yxhw": list(left.crop_yxhw),
        "coding": coding | {"unit": "px of figures.matched_hw"},
        "matcher": {"name": matcher.pop("method"), **matcher},
        "sampler": {"name": sampler.pop("sampler"), **sampler},
        "tolerance": {"kind": tolerance.kind, "value": tolerance.value},
        "figures": drawn.figures() | {"sky_share": round(float(sky.mean()), 4)},
        **({"about": pair.meta} if pair.meta else {}),
    }
    confidence = certainty if settings.confidence else None
    return Sample(sample_key(item.name), jpeg, meta, disparity=codes, confidence=confidence, pairs=drawn.pairs)


def _sky(
    picture: Picture, given: NDArray[np.bool_] | None, disparity_px: NDArray[np.float32], mode: str
) -> NDArray[np.bool_]:
    """Sky of the stored picture: the source's mask, else what is surely sky."""
    if mode == "off":
        return np.zeros(disparity_px.shape, dtype=bool)
    if given is not None:
        return np.asarray(resize_nearest(given, *disparity_px.shape))
    if mode == "masks":
        return np.zeros(disparity_px.shape, dtype=bool)
    return find_sky(picture, disparity_px)


def _decision(item: Item, config: PackConfig) -> Decision:
    url = config.shards.decisions
    if url is None:
        return Decision(name=item.name)
    path = local_path(url)
    changed_ns = path.stat().st_mtime_ns if path is not None and path.exists() else 0
    return _decisions(url, changed_ns).of(item.name)


@lru_cache(maxsize=1)
def _decisions(url: str, changed_ns: int) -> Decisions:
    """Read once a process and version of the file: a worker may outlive a job."""
    return read_decisions(url)
