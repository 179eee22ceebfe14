import math
from itertools import pairwise

import numpy as np
import pytest

from shards.edge_pairs import DISTANCE_PX, draw_edge_pairs, edge_gradient
from shards.places import Places
from shards.randomness import CounterRng

ANGLES = [0, 45, 90, 135, 180, 225, 270, 315, 20, 110]


def step_edge(angle_degrees, shape=(120, 160)):
    """A picture that is bright on one side of a line; the gradient points at this angle (0 right, 90 down)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    angle = math.radians(angle_degrees)
    side = (x - shape[1] / 2 + 0.3) * math.cos(angle) + (y - shape[0] / 2 + 0.17) * math.sin(angle)
    return np.clip(125 + 75 * side, 50, 200).astype(np.uint8), side  # one step of grey: no staircase


def everywhere(shape):
    return Places(np.ones(shape, dtype=bool))


def as_yx(flat, width):
    return np.stack([flat // width, flat % width], axis=1)


def slow_gradient(picture):
    """The Sobel filter written out, inside; 0 at the border."""
    height, width = picture.shape
    down, right = np.zeros((height, width)), np.zeros((height, width))
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            patch = picture[y - 1 : y + 2, x - 1 : x + 2].astype(int)
            down[y, x] = (patch[2] - patch[0]) @ (1, 2, 1)
            right[y, x] = (patch[:, 2] - patch[:, 0]) @ (1, 2, 1)
    return down, right


def slow_edge_pairs(picture, known, num_pairs, rng):
    """The sampler as one would tell it, a loop over anchors, drawing the same numbers."""
    down, right = slow_gradient(picture)
    strength = np.hypot(down, right)
    edges = [(y, x) for y in range(picture.shape[0]) for x in range(picture.shape[1]) if strength[y, x] > 0]
    edges = [(y, x) for y, x in edges if strength[y, x] >= 0.1 * strength.max() - 1e-9]
    least, largest = DISTANCE_PX
    pairs = []
    while len(pairs) < num_pairs:
        picks = rng.integers(num_pairs, len(edges))
        draws = [rng.integers(num_pairs, largest - least + 1 - second) for second in (0, 1, 0, 1)]
        for number, pick in enumerate(picks):
            y, x = edges[pick]
            sides = []
            for first, second in ((0, 1), (2, 3)):
                one, other = int(draws[first][number]), int(draws[second][number])
                choices = [d for d in range(least, largest + 1) if d != one + least]
                sides.append(sorted([one + least, choices[other]]))
            along = [-sides[0][1], -sides[0][0], sides[1][0], sides[1][1]]
            points = []
            for distance in along:
                offset_y = round(distance * down[y, x] / strength[y, x])
                offset_x = round(distance * right[y, x] / strength[y, x])
                points.append((y + offset_y, x + offset_x))
            for a, b in pairwise(points):
                inside = all(0 <= p[0] < picture.shape[0] and 0 <= p[1] < picture.shape[1] for p in (a, b))
                if inside and known[a] and known[b] and a != b:
                    pairs.append((*a, *b))
    return pairs[:num_pairs]


@pytest.mark.parametrize("seed", [0, 1])
def test_pairs_agree_with_a_slow_loop(seed):
    draw = np.random.default_rng(seed)
    picture = np.repeat(np.repeat(draw.integers(0, 256, (8, 10), dtype=np.uint8), 5, axis=0), 5, axis=1)
    known = draw.uniform(size=picture.shape) < 0.7
    down, right, edge = edge_gradient(picture)
    slow_down, slow_right = slow_gradient(picture)
    np.testing.assert_array_equal(down[1:-1, 1:-1], slow_down[1:-1, 1:-1])
    np.testing.assert_array_equal(right[1:-1, 1:-1], slow_right[1:-1, 1:-1])
    assert 0 < edge.mean() < 1
    a, b = draw_edge_pairs(picture, Places(known), 400, CounterRng("edges", seed))
    got = np.concatenate([as_yx(a, 50), as_yx(b, 50)], axis=1)
    assert got.tolist() == [list(pair) for pair in slow_edge_pairs(picture, known, 400, CounterRng("edges", seed))]


@pytest.mark.parametrize("angle", ANGLES)
def test_pairs_lie_across_a_step_edge_and_not_along_it(angle):
    picture, side = step_edge(angle)
    a, b = draw_edge_pairs(picture, everywhere(picture.shape), 3000, CounterRng("step", angle))
    assert len(a) == 3000
    step_yx = as_yx(b, 160) - as_yx(a, 160)
    direction = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    forward = step_yx @ direction
    sideways = np.abs(step_yx @ (direction[1], -direction[0]))
    assert (forward > 0).all()
    assert (sideways <= 2 + 0.35 * forward).all()  # rounded points, and the faint foot of an edge is bent
    crosses = np.sign(side.reshape(-1)[a]) != np.sign(side.reshape(-1)[b])
    assert 0.28 < crosses.mean() < 0.45  # one of three pairs, more where the border cuts the outer ones off
    assert (side.reshape(-1)[a][crosses] < 0).all()


def test_axis_aligned_edges_give_exact_lines():
    picture, _ = step_edge(0)
    a, b = as_yx(np.stack(draw_edge_pairs(picture, everywhere(picture.shape), 500, CounterRng(0))), 160).swapaxes(0, 1)
    assert picture.shape == (120, 160) and a.shape == (2, 500)
    (y_a, y_b), (x_a, x_b) = a, b
    np.testing.assert_array_equal(y_a, y_b)
    assert (x_a < x_b).all()


def test_anchors_keep_their_columns():
    picture, _ = step_edge(90)  # the edge runs from left to right, so anchors have every column
    a, b = draw_edge_pairs(picture, everywhere(picture.shape), 6000, CounterRng(1))
    np.testing.assert_array_equal(a % 160, b % 160)
    per_tenth = np.bincount(a % 160 // 16, minlength=10) / len(a)
    np.testing.assert_allclose(per_tenth, 0.1, atol=0.02)
    both = np.concatenate([a, b]) // 160
    assert both.min() >= 60 - 32 and both.max() <= 60 + 32


def test_distances_fill_their_range_on_both_sides():
    picture, _ = step_edge(0, (40, 161))
    a, b = draw_edge_pairs(picture, everywhere(picture.shape), 9000, CounterRng(2))
    crossing = (picture.reshape(-1)[a] < 125) & (picture.reshape(-1)[b] > 125)
    lengths = (b - a)[crossing]
    beside = (b - a)[~crossing]
    assert lengths.min() == 2 * DISTANCE_PX[0]
    assert beside.min() == 1 and beside.max() == DISTANCE_PX[1] - DISTANCE_PX[0]
    # The nearer of two distances out of 2..30 has the mean 2 + (29 - 2) / 3 = 11.
    assert lengths.mean() == pytest.approx(22, abs=0.6)


def test_points_outside_or_unknown_are_dropped_and_never_moved():
    picture, _ = step_edge(0, (30, 24))  # narrower than the distances
    known = np.ones(picture.shape, dtype=bool)
    known[:, 16:20] = False
    a, b = draw_edge_pairs(picture, Places(known), 2000, CounterRng(3))
    assert len(a) == 2000
    assert known.reshape(-1)[a].all() and known.reshape(-1)[b].all()
    assert (a != b).all()
    border = np.isin(a % 24, (0, 23)).mean() + np.isin(b % 24, (0, 23)).mean()
    assert border < 0.35  # clamping would put most points there


@pytest.mark.parametrize("picture", [np.full((20, 30), 7, np.uint8), np.full((20, 30, 3), 200, np.uint8)])
def test_no_edges_give_no_pairs(picture):
    assert not edge_gradient(picture)[2].any()
    a, b = draw_edge_pairs(picture, everywhere((20, 30)), 100, CounterRng(4))
    assert len(a) == len(b) == 0


def test_edges_where_nothing_is_known_end_without_pairs():
    picture, _ = step_edge(45)
    known = np.zeros(picture.shape, dtype=bool)
    known[0, 0] = known[0, 159] = True
    a, _ = draw_edge_pairs(picture, Places(known), 100, CounterRng(5))
    assert len(a) == 0


def test_colour_and_grey_pictures_give_the_same_pairs():
    grey, _ = step_edge(135)
    for first, second in zip(
        draw_edge_pairs(grey, everywhere(grey.shape), 300, CounterRng(6)),
        draw_edge_pairs(np.repeat(grey[..., None], 3, axis=2), everywhere(grey.shape), 300, CounterRng(6)),
        strict=True,
    ):
        np.testing.assert_array_equal(first, second)
