import subprocess
import sys

import cv2
import numpy as np
import pytest

from pipeline.eval.baselines import lower_is_nearer
from pipeline.eval.metrics import draw_dense_pairs, judge_pairs
from shards.sources.primitives import Ball, Box, Cylinder, Plane
from shards.sources.render import render_scene
from shards.sources.textures import PLAIN
from shards.sources.worlds import SKY_M

H, W = 48, 64
SCENES = [render_scene(3, index, H, W) for index in range(24)]
NEAR_WORLDS = ("interior", "still_life", "pile")
NEAR_SCENES = [render_scene(3, index, H, W, worlds=NEAR_WORLDS) for index in range(24)]
ROADS = [render_scene(3, index, H, W, worlds=("road",)) for index in range(24)]


def inside(solid, points_m, eye_m):
    """Which points (N, 3) lie in a solid; for a plane: on the other side than the eye."""
    own = ((points_m - solid.centre_m) @ solid.axes.T) / solid.half_m
    if isinstance(solid, Box):
        return np.abs(own).max(axis=1) < 1
    if isinstance(solid, Ball):
        return np.linalg.norm(own, axis=1) < 1
    if isinstance(solid, Cylinder):
        return (np.hypot(own[:, 0], own[:, 2]) < 1) & (np.abs(own[:, 1]) < 1)
    assert isinstance(solid, Plane)
    return own[:, 1] * ((eye_m - solid.centre_m) @ solid.axes[1]) < 0


@pytest.mark.parametrize("scenes", [SCENES, NEAR_SCENES, ROADS], ids=["spaces", "near", "roads"])
@pytest.mark.parametrize("index", range(0, 24, 3))
def test_the_disparity_is_that_of_a_ray_marched_step_by_step(scenes, index):
    scene = scenes[index]
    camera = scene.world.camera
    depth_m = 0.05 * 1.003 ** np.arange(2700)
    depth_m = depth_m[depth_m < SKY_M]
    rng = np.random.default_rng(index)
    for y, x in zip(rng.integers(0, H, 25), rng.integers(0, W, 25), strict=True):
        ray = np.array([(x + 0.5 - W / 2) / scene.focal_px, (y + 0.5 - H / 2) / scene.focal_px, 1.0]) @ camera.axes
        points = camera.position_m + depth_m[:, None] * ray
        hit = np.zeros(len(points), dtype=bool)
        for thing in scene.world.things:
            hit |= inside(thing.solid, points, camera.position_m)
        marched_m = depth_m[hit.argmax()] if hit.any() else SKY_M
        assert scene.focal_px * scene.baseline_m / scene.disparity_px[y, x] == pytest.approx(marched_m, rel=0.02)


@pytest.mark.parametrize("scenes", [SCENES, NEAR_SCENES, ROADS], ids=["spaces", "near", "roads"])
def test_the_right_picture_moved_by_the_disparity_is_the_left_one(scenes):
    x, y = np.meshgrid(np.arange(W, dtype=np.float32), np.arange(H, dtype=np.float32))
    errors = {1.0: [], 1.5: [], -1.0: []}
    for scene in scenes:
        for factor, error in errors.items():
            back = cv2.remap(scene.right, x - factor * scene.disparity_px, y, cv2.INTER_LINEAR)
            error.append(np.median(np.abs(back.astype(int) - scene.left)))
    assert np.mean(errors[1.0]) < 0.4 * min(np.mean(errors[1.5]), np.mean(errors[-1.0]))


def test_a_scene_is_a_pure_function_of_its_number():
    again = render_scene(3, 5, H, W)
    assert np.array_equal(again.left, SCENES[5].left)
    assert np.array_equal(again.disparity_px, SCENES[5].disparity_px)
    code = (
        "from shards.sources.render import render_scene; import hashlib;"
        f"print(hashlib.sha256(render_scene(3, 5, {H}, {W}).right.tobytes()).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    import hashlib

    assert printed == hashlib.sha256(SCENES[5].right.tobytes()).hexdigest()


@pytest.mark.parametrize("other", [(4, 5, "train"), (3, 6, "train"), (3, 5, "val"), (3, 5, "test")])
def test_another_seed_number_or_split_is_another_scene(other):
    seed, index, split = other
    scene = render_scene(seed, index, H, W, split=split)
    assert np.abs(scene.left.astype(int) - SCENES[5].left).mean() > 5


def test_disparities_are_positive_and_span_what_the_matcher_can_see():
    for scene in SCENES + NEAR_SCENES + ROADS:
        low, high = np.percentile(scene.disparity_px, (2, 98))
        assert scene.disparity_px.min() > 0
        assert 0.01 * W < high - low < 0.2 * W


def test_neither_brightness_nor_the_row_tells_the_depth():
    scenes = [render_scene(11, index, H, W) for index in range(150)]
    correlation = np.mean(
        [np.corrcoef(scene.left.mean(axis=2).ravel(), scene.disparity_px.ravel())[0, 1] for scene in scenes]
    )
    assert abs(correlation) < 0.1
    shares = []
    for number, scene in enumerate(scenes):
        pairs = draw_dense_pairs(scene.disparity_px, str(number), num_pairs=1000, seed=0, tolerance=0.02)
        shares.append(judge_pairs(lower_is_nearer(scene.left), pairs).sum() / np.count_nonzero(pairs[:, 4]))
    assert np.mean(shares) > 0.2


def test_all_kinds_of_worlds_and_solids_occur():
    kinds = {scene.world.kind for scene in SCENES}
    solids = {type(thing.solid) for scene in SCENES for thing in scene.world.things}
    assert kinds == {"room", "street", "open"}
    assert solids == {Plane, Box, Ball, Cylinder}


def test_kinds_are_drawn_from_those_that_are_asked_for():
    assert {scene.world.kind for scene in NEAR_SCENES} == set(NEAR_WORLDS)
    assert render_scene(3, 0, H, W, worlds=("pile",)).world.kind == "pile"


@pytest.mark.parametrize(("kind", "least", "most"), [*((kind, 0.2, 0.5) for kind in NEAR_WORLDS), ("road", 0.05, 0.3)])
def test_of_near_worlds_and_roads_the_lower_part_is_mostly_nearer_but_not_always(kind, least, most):
    scenes = [render_scene(11, index, H, W, worlds=(kind,)) for index in range(40)]
    shares = []
    for number, scene in enumerate(scenes):
        pairs = draw_dense_pairs(scene.disparity_px, str(number), num_pairs=1000, seed=0, tolerance=0.02)
        shares.append(judge_pairs(lower_is_nearer(scene.left), pairs).sum() / np.count_nonzero(pairs[:, 4]))
    assert least < np.mean(shares) < most


@pytest.mark.parametrize("kind", [*NEAR_WORLDS, "road"])
def test_near_worlds_and_roads_have_surfaces_without_a_pattern(kind):
    world = render_scene(3, 1, H, W, worlds=(kind,)).world
    plain = [thing.texture.kind in PLAIN for thing in world.things]
    assert any(plain) and not all(plain)
