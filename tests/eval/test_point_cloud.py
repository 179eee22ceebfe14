import math
import struct

import cv2
import numpy as np
import pytest

from pipeline.eval.point_cloud import Camera, encode_ply, point_cloud
from shards.errors import ConfigError

SIZES = {"float": ("f", 4), "uchar": ("B", 1)}


def read_ply(data):
    """Comments, and a tuple for each vertex, by the definition of the format alone."""
    head, rest = data.split(b"end_header\n", 1)
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    comments = [line[8:] for line in lines if line.startswith("comment ")]
    (element,) = [line.split() for line in lines if line.startswith("element")]
    assert element[1] == "vertex"
    properties = [line.split()[1:] for line in lines if line.startswith("property")]
    layout = struct.Struct("<" + "".join(SIZES[kind][0] for kind, _ in properties))
    vertices = list(layout.iter_unpack(rest))
    assert len(vertices) == int(element[2])
    return comments, [name for _, name in properties], vertices


def scene(height=60, width=80):
    """A picture whose colours tell its row and column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


def test_each_vertex_lies_on_the_ray_of_its_pixel_at_the_stated_depth():
    image = scene()
    inverse_depth = 40 + 3 * np.linspace(0, 1, 60, dtype=np.float32)[:, None] ** 2 * np.ones((1, 80), np.float32)
    camera = Camera(fov_deg=50, depth_ratio=3)
    comments, names, vertices = read_ply(encode_ply(point_cloud(image, inverse_depth, camera)))
    assert names == ["x", "y", "z", "red", "green", "blue"]
    assert len(vertices) == 60 * 80
    text = " ".join(comments)
    assert "RELATIVE" in text and "50 deg" in text and "3 x" in text and "shift 0.5" in text
    low, high = np.percentile(inverse_depth, [2, 98])
    focal_px = 40 / math.tan(math.radians(25))
    for x, y, z, row, column, blue in vertices[::37]:
        scaled = max(0, (inverse_depth[row, column] - low) / (high - low))
        depth = 1.5 / (scaled + 0.5)
        assert -z == pytest.approx(depth, rel=1e-4)
        assert x == pytest.approx((column + 0.5 - 40) / focal_px * depth, rel=1e-4)
        assert y == pytest.approx(-(row + 0.5 - 30) / focal_px * depth, rel=1e-4)
        assert blue == 7


def test_the_scale_and_shift_of_a_prediction_do_not_matter():
    inverse_depth = np.random.default_rng(0).normal(size=(12, 16))
    inverse_depth = cv2.resize(inverse_depth, (80, 60), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    one, other = (point_cloud(scene(), inverse_depth * a + b, Camera()) for a, b in ((1, 0), (250, -3)))
    np.testing.assert_allclose(one.xyz, other.xyz, rtol=1e-3)


def test_the_bulk_lies_between_one_and_the_depth_ratio():
    inverse_depth = np.tile(np.linspace(-4, 9, 80, dtype=np.float32), (60, 1))
    depth = -point_cloud(scene(), inverse_depth, Camera(depth_ratio=6)).xyz[:, 2]
    assert depth.max() == pytest.approx(6, rel=1e-3)
    assert np.percentile(depth, 2) == pytest.approx(1, abs=0.05)
    assert depth.min() > 0.9


@pytest.mark.parametrize("factor", [1, 4])
def test_the_step_between_two_things_is_cut_out_and_nothing_else_at_any_resolution(factor):
    inverse_depth = np.zeros((60 * factor, 80 * factor), np.float32)
    inverse_depth[20 * factor : 40 * factor, 30 * factor : 50 * factor] = 1
    # As a network's answer that was enlarged: the step is a ramp of several pixels.
    inverse_depth = cv2.blur(inverse_depth, (factor, factor))
    cloud = point_cloud(cv2.resize(scene(), inverse_depth.shape[::-1]), inverse_depth, Camera(depth_ratio=3))
    depth = -cloud.xyz[:, 2]
    assert cloud.num_dropped > 0
    assert len(depth) + cloud.num_dropped == inverse_depth.size
    assert not ((depth > 1.01) & (depth < 2.99)).any()
    assert cloud.num_dropped < 0.1 * inverse_depth.size


def test_a_floor_that_runs_to_the_horizon_is_kept_whole():
    rows = np.arange(60, dtype=np.float32)[:, None]
    assert point_cloud(scene(), rows * np.ones((1, 80), np.float32), Camera()).num_dropped == 0


@pytest.mark.parametrize("size_hw", [(60, 80), (1, 5000), (5000, 1), (7, 900), (1, 1), (333, 501)])
@pytest.mark.parametrize("max_points", [100, 1234])
def test_the_number_of_points_is_bounded_and_no_smaller_than_need_be(size_hw, max_points):
    cloud = point_cloud(np.zeros((*size_hw, 3), np.uint8), np.zeros(size_hw, np.float32), Camera(max_points=max_points))
    assert len(cloud.xyz) <= max_points
    assert len(cloud.xyz) >= min(0.75 * max_points, np.prod(size_hw))


def test_scaling_down_moves_nothing():
    image, ramp = scene(240, 200), np.tile(np.linspace(0, 1, 200, dtype=np.float32), (240, 1))
    whole, few = (point_cloud(image, ramp, Camera(max_points=n)) for n in (10**6, 2000))
    assert (len(whole.xyz), len(few.xyz)) == (48_000, 48 * 40)
    np.testing.assert_allclose(whole.xyz.mean(axis=0), few.xyz.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(whole.rgb.mean(axis=0), few.rgb.mean(axis=0), atol=1)


def test_a_constant_prediction_is_a_plane():
    depth = point_cloud(scene(), np.full((60, 80), -3.0, np.float32), Camera()).xyz[:, 2]
    assert np.unique(depth).size == 1


@pytest.mark.parametrize(
    "options", [{"fov_deg": 0}, {"fov_deg": 180}, {"fov_deg": math.nan}, {"depth_ratio": 1}, {"max_points": 0}]
)
def test_options_of_the_cloud_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=f"--{next(iter(options)).replace('_', '-')}"):
        Camera(**options)
