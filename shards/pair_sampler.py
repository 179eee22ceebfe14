"""One call for all ways of drawing ordinal pairs: `random`, `edge_guided`, `stratified`.

drawn = sample_pairs(picture, codes, codes > 0, config.pairs, CounterRng("pairs", seed, name), tolerance)
drawn.pairs               # int16 (N, 5)
drawn.figures()           # {"equal_share": 0.09, "pairs_drawn": {"edge_guided": 2250, "random": 750}}
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.config import PairsConfig
from shards.edge_pairs import draw_edge_pairs
from shards.pairs import Tolerance, check_shapes, equal_share, label_pairs, robust_range
from shards.places import Places
from shards.randomness import CounterRng
from shards.stratified_pairs import draw_stratified_pairs

__all__ = ["DrawnPairs", "sample_pairs"]


@dataclass(frozen=True, eq=False)
class DrawnPairs:
    """The pairs of a picture and how they came about.

    Args:
        pairs: int16 (N, 5): y_a, x_a, y_b, x_b, relation; those of the chosen sampler first, then random ones.
        drawn: How many each sampler gave.
    """

    pairs: NDArray[np.int16]
    drawn: dict[str, int]

    def figures(self) -> dict[str, Any]:
        """Numbers for the record of the sample."""
        return {"equal_share": round(equal_share(self.pairs), 4), "pairs_drawn": self.drawn}


def sample_pairs(
    picture: NDArray[np.uint8],
    values: NDArray[Any],
    known: NDArray[np.bool_],
    config: PairsConfig,
    rng: CounterRng,
    tolerance: Tolerance,
    *,
    confidence: NDArray[np.uint8] | None = None,
    value_range: float | None = None,
) -> DrawnPairs:
    """Draw `config.num_pairs` pairs of two different known pixels and label them.

    What the chosen sampler cannot give (a picture without edges, say) is filled up with random pairs and counted.

    Args:
        picture: uint8 (H, W, 3) RGB or (H, W) grey; its edges guide `edge_guided`.
        values: (H, W) inverse depth.
        known: (H, W) where it is known.
        config: Sampler, number and shares; its seed is the caller's to put into `rng`.
        rng: Source of the draws.
        tolerance: What counts as equal.
        confidence: uint8 (H, W), 255 = certain: the chance of a pair grows in proportion to that of both its points.
        value_range: Robust range of the picture; by default that of these values. Give it to treat a crop as the
            whole picture would be.

    Returns:
        Exactly `config.num_pairs` pairs; none where fewer than two pixels are known.

    Raises:
        ValueError: The shapes do not fit together.
    """
    check_shapes(values, known)
    if picture.dtype != np.uint8 or picture.shape[:2] != values.shape:
        raise ValueError(
            f"the picture is {picture.dtype} {picture.shape}, must be uint8 {values.shape} like the values"
        )
    places = Places(known, confidence)
    if len(places.flat) < 2:
        return DrawnPairs(np.zeros((0, 5), dtype=np.int16), {})
    if value_range is None and (tolerance.kind == "range" or config.sampler == "stratified"):
        value_range = robust_range(values, known)
    parts = []
    if config.sampler == "edge_guided":
        parts.append(draw_edge_pairs(picture, places, round(config.num_pairs * config.edge_share), rng))
    elif config.sampler == "stratified":
        parts.append(draw_stratified_pairs(values, places, value_range or 0.0, config.num_pairs, rng))
    drawn: dict[str, int] = {config.sampler: len(parts[0][0])} if parts else {}
    if left := config.num_pairs - sum(drawn.values()):
        parts.append(places.two(left, rng))
        drawn["random"] = left
    a, b = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    return DrawnPairs(label_pairs(values, a, b, tolerance, value_range=value_range), drawn)
