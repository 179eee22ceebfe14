"""Pictures of the validation set as a network sees them: input, prediction, target, and the pairs it gets wrong.

gallery = make_gallery(load_network(Path("runs/web"), "cpu").net, "cpu", config.data, pictures=8)
"""

import base64
import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model import DepthNet
from pipeline.data.config import DataConfig
from pipeline.data.loader import validation_samples
from pipeline.eval.baselines import BASELINES
from pipeline.eval.colour import colourise
from pipeline.eval.metrics import PairCounts, add_counts, judge_pairs
from pipeline.eval.pictures import draw_pairs
from pipeline.eval.predict import Predictor
from pipeline.eval.report.privacy import public
from pipeline.eval.whdr import Predict
from shards.errors import DecodeError, ShardError
from shards.format import Sample, decode_jpeg
from shards.manifest import read_manifest

__all__ = ["NETWORK", "Gallery", "Panel", "ShownPicture", "make_gallery"]

NETWORK = "this network"
MAX_JUDGED = 200
"""Validation pictures that are judged to find the worst."""
LONG_SIDE_PX = 384
PAIRS_DRAWN = 24
"""More lines would hide the picture."""
_JPEG_QUALITY = 82
_BUDGET_BYTES = 5_000_000
"""Of all pictures as they stand in the page."""


class Panel(NamedTuple):
    """One picture of the page."""

    caption: str
    uri: str
    """`data:image/jpeg;base64,...`."""


class ShownPicture(NamedTuple):
    """A validation picture."""

    name: str
    why: str
    """`among the worst` or `drawn at random`."""
    counts: PairCounts
    drawn: int
    """Wrong pairs that are drawn."""
    panels: list[Panel]


@dataclass
class Gallery:
    """What a network makes of validation pictures."""

    judged: int = 0
    """Pictures, the first of the set, on which the figures are measured."""
    without_pairs: int = 0
    """Those of them without an unequal pair, which count in no figure."""
    counts: dict[str, PairCounts] = field(default_factory=dict)
    """This network and the baselines, all on the same pairs."""
    pictures: list[ShownPicture] = field(default_factory=list)
    left_out: int = 0
    """Chosen pictures for which the page had no room."""


def make_gallery(
    net: DepthNet,
    device: torch.device | str,
    data: DataConfig,
    *,
    pictures: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda judged, total: None,
) -> Gallery:
    """Judge validation pictures on their stored pairs, and show the worst half of `pictures` and others at random.

    Args:
        net: On `device`.
        device: Where it computes.
        data: Of the run; `data.val` is set.
        pictures: How many are shown.
        seed: Of the random ones; the same pictures as long as the set is the same.
        progress: Called with the number of pictures judged so far, and of all.

    Raises:
        ShardError: The validation set is missing or damaged.
    """
    predict = Predictor(net, device)
    methods: dict[str, Predict] = {NETWORK: predict, **BASELINES}
    gallery = Gallery()
    shares: list[float] = []
    counts: dict[str, list[PairCounts]] = {name: [] for name in methods}
    split = read_manifest(str(data.val)).splits.get("val")
    total = min(MAX_JUDGED, split.samples if split else 0)
    for sample, image in _decoded(validation_samples(data, 0, 1, MAX_JUDGED)):
        for name, method in methods.items():
            counts[name].append(_count(method(image), sample.pairs))
        shares.append(counts[NETWORK][-1].share)
        progress(len(shares), total)
    gallery.judged, gallery.without_pairs = len(shares), sum(map(math.isnan, shares))
    gallery.counts = {name: add_counts(parts) for name, parts in counts.items()}
    chosen = _choose(shares, pictures, seed)
    shown: dict[int, ShownPicture] = {}
    if chosen:
        samples = validation_samples(data, 0, 1, max(chosen) + 1)
        wanted = (sample for place, sample in enumerate(samples) if place in chosen)
        for place, (sample, image) in zip(sorted(chosen), _decoded(wanted), strict=True):
            shown[place] = _show(sample, image, predict(image), chosen[place])
    left = _BUDGET_BYTES
    for place in chosen:
        left -= sum(len(panel.uri) for panel in shown[place].panels)
        if left < 0:
            gallery.left_out += 1
        else:
            gallery.pictures.append(shown[place])
    return gallery


def _decoded(samples: Iterable[Sample]) -> Iterator[tuple[Sample, NDArray[np.uint8]]]:
    for sample in samples:
        try:
            yield sample, decode_jpeg(sample.image)
        except DecodeError as error:
            raise ShardError(f"sample {sample.key}: {error}") from error


def _count(inverse_depth: NDArray[Any], pairs: NDArray[np.int16]) -> PairCounts:
    return PairCounts(int(np.count_nonzero(judge_pairs(inverse_depth, pairs))), int(np.count_nonzero(pairs[:, 4])))


def _choose(shares: list[float], number: int, seed: int) -> dict[int, str]:
    """Places of the pictures to show, the worst first, each with the reason; equally wrong ones in their order."""
    order = sorted((place for place, share in enumerate(shares) if share == share), key=lambda place: -shares[place])
    worst = order[: (number + 1) // 2]
    rest = sorted(order[len(worst) :])
    random = np.random.default_rng(seed).permutation(len(rest))[: number - len(worst)]
    return dict.fromkeys(worst, "among the worst") | {rest[place]: "drawn at random" for place in random.tolist()}


def _show(sample: Sample, image: NDArray[np.uint8], inverse_depth: NDArray[np.float32], why: str) -> ShownPicture:
    wrong = sample.pairs[judge_pairs(inverse_depth, sample.pairs)]
    # Evenly spread ones: a sampler may give one kind after the other.
    wrong_drawn = wrong[np.linspace(0, len(wrong) - 1, min(PAIRS_DRAWN, len(wrong))).astype(int)]
    panels = [Panel("picture", _jpeg(_scaled(image))), Panel("prediction", _jpeg(_scaled(colourise(inverse_depth))))]
    if sample.disparity is not None:
        panels.append(Panel("target", _jpeg(_scaled(colourise(sample.disparity, sample.disparity > 0)))))
    panels.append(Panel("wrong pairs", _jpeg(_overlay(image, wrong_drawn))))
    name = sample.meta.get("name")
    named = f"{sample.key} ({public(name)[:120]})" if isinstance(name, str) else sample.key
    return ShownPicture(named, why, _count(inverse_depth, sample.pairs), len(wrong_drawn), panels)


def _overlay(image: NDArray[np.uint8], pairs: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Wrong pairs on the scaled picture: red, the large dot on the point that is nearer in truth."""
    picture = _scaled(image)
    scale_yx = np.array(picture.shape[:2]) / image.shape[:2]
    moved = pairs.astype(np.int32)
    moved[:, :4] = np.rint((moved[:, :4].reshape(-1, 2, 2) + 0.5) * scale_yx - 0.5).reshape(-1, 4)
    return draw_pairs(picture, moved, np.ones(len(moved), dtype=bool), max_pairs=PAIRS_DRAWN)


def _scaled(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture with its long side at `LONG_SIDE_PX`."""
    height, width = picture.shape[:2]
    scale = LONG_SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return np.asarray(scaled, dtype=np.uint8)


def _jpeg(picture: NDArray[np.uint8]) -> str:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, format="JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"
