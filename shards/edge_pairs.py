"""Pairs across the edges of the picture, where depth changes most often (Xian et al., CVPR 2020, Sec. 3).

An anchor is a pixel on an edge. Four points lie on the line through it along the gradient, two on each side at random
distances: a, b | c, d, outermost first and last. The pairs are a-b, b-c and c-d: the one across the edge shall be
ordered, the two beside it are often equal. Two defects of the published code are not repeated here: its anchors all
fell into column 0, and its gradient was mirrored, so that the points ran *along* a slanted edge. It also pushed points
that leave the picture back to the border, which bends the line; here such a pair is dropped.

    a, b = draw_edge_pairs(picture, Places(known), 2250, CounterRng("pairs", seed, name))
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.places import Places
from shards.randomness import CounterRng

__all__ = ["DISTANCE_PX", "draw_edge_pairs", "edge_gradient"]

DISTANCE_PX = (2, 30)
"""Least and largest distance of a point from its anchor, as published."""
_EDGE_SHARE_OF_MAX = 10  # an edge has at least 1/10 of the strongest gradient, as published
_ROUNDS = 16


def edge_gradient(picture: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.bool_]]:
    """Sobel gradient of the brightness, and where it is an edge.

    Args:
        picture: uint8 (H, W, 3) RGB or (H, W) grey.

    Returns:
        Gradient down and to the right, int16 (H, W) each, and bool (H, W): at least a tenth of the strongest. The
        outermost pixels are no edges: without neighbours outside, the direction of their gradient is wrong.
    """
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    down: NDArray[np.int16] = np.asarray(cv2.Sobel(grey, cv2.CV_16S, 0, 1), dtype=np.int16)
    right: NDArray[np.int16] = np.asarray(cv2.Sobel(grey, cv2.CV_16S, 1, 0), dtype=np.int16)
    squared = np.multiply(down, down, dtype=np.int32)
    squared += np.multiply(right, right, dtype=np.int32)
    squared[[0, -1]] = 0
    squared[:, [0, -1]] = 0
    strongest = int(squared.max(initial=0))
    return down, right, squared >= max(1, -(-strongest // _EDGE_SHARE_OF_MAX**2))


def draw_edge_pairs(
    picture: NDArray[np.uint8], places: Places, num_pairs: int, rng: CounterRng
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw pairs across and beside the edges of a picture.

    Args:
        picture: uint8 (H, W, 3) RGB or (H, W) grey.
        places: Known pixels of it; a pair is kept with a chance in proportion to the confidence of both its points.
        num_pairs: How many at most.
        rng: Source of the draws.

    Returns:
        Flat indices of A and of B, int64 (N,) each. N is smaller than `num_pairs` where there is no edge, or where
        hardly any pair at the edges is known and certain.
    """
    down, right, edge = edge_gradient(picture)
    anchors = np.flatnonzero(edge)
    found: list[NDArray[np.int64]] = []
    missing = num_pairs if len(anchors) else 0
    for _ in range(_ROUNDS):
        if missing <= 0:
            break
        anchor = anchors[rng.integers(num_pairs, len(anchors))]
        y, x = _points_on_line(anchor, down.reshape(-1)[anchor], right.reshape(-1)[anchor], edge.shape[1], rng)
        pairs = _kept_pairs(y, x, places, rng)[:missing]
        found.append(pairs)
        missing -= len(pairs)
    pairs = np.concatenate([*found, np.zeros((0, 2), np.int64)])
    return pairs[:, 0], pairs[:, 1]


def _points_on_line(
    anchor: NDArray[np.int64], down: NDArray[np.int16], right: NDArray[np.int16], width: int, rng: CounterRng
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of a, b, c, d of each of (N,) anchors, int64 (N, 4) each; they may lie outside the picture."""
    num, (least, largest) = len(anchor), DISTANCE_PX
    sides = []
    for _ in range(2):
        one = rng.integers(num, largest - least + 1)
        other = rng.integers(num, largest - least)
        other += other >= one  # two different distances
        sides.append((least + np.minimum(one, other), least + np.maximum(one, other)))
    (b, a), (c, d) = sides
    distance = np.stack([-a, -b, c, d], axis=1)
    length = np.sqrt(down.astype(np.float64) ** 2 + right.astype(np.float64) ** 2)
    # The offset is rounded, not the place, so that both sides are mirror images; 2 px or more stay on their side.
    y = (anchor // width)[:, None] + np.rint(distance * (down / length)[:, None]).astype(np.int64)
    x = (anchor % width)[:, None] + np.rint(distance * (right / length)[:, None]).astype(np.int64)
    return y, x


def _kept_pairs(y: NDArray[np.int64], x: NDArray[np.int64], places: Places, rng: CounterRng) -> NDArray[np.int64]:
    """The pairs a-b, b-c, c-d that lie inside, are known, are two pixels, and survive the draw by confidence."""
    height, width = places.known.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    flat = np.where(inside, y * width + x, 0)
    usable = inside & places.known.reshape(-1)[flat]
    good = usable[:, :-1] & usable[:, 1:] & (flat[:, :-1] != flat[:, 1:])
    pairs = np.stack([flat[:, :-1][good], flat[:, 1:][good]], axis=1)
    return pairs[places.thin(pairs[:, 0], pairs[:, 1], rng=rng)]
