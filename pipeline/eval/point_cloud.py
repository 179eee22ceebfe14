"""A point cloud of *relative* depth: what a picture and its inverse depth look like from elsewhere, under assumptions.

A network trained on the order of depths knows neither the zero nor the unit of inverse depth, nor the camera. So:

- Inverse depth is scaled so that its 2nd percentile is 0 (farther is taken for that far) and its 98th is 1.
- Depth is (1 + shift) / (inverse depth + shift) with the shift that puts the former `depth_ratio` times as far away as
  the latter, which lies at distance 1.
- The camera is a pinhole in the middle of the picture whose long side spans `fov_deg`.

Flat things stay flat and right angles right only where these happen to hold. Axes are those of the usual viewers:
x to the right, y up, z towards the viewer, the camera at the origin.

    Path("photo.ply").write_bytes(encode_ply(point_cloud(image, inverse_depth, Camera(fov_deg=70))))
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.errors import ConfigError

__all__ = ["Camera", "PointCloud", "encode_ply", "point_cloud"]

MAX_SLANT_DEG = 86.0
"""A surface seen at a more grazing angle is taken for the jump between two things."""
_VERTEX = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")])


@dataclass(frozen=True)
class Camera:
    """What a point cloud assumes, and its size.

    Raises:
        ConfigError: an option is out of range.
    """

    fov_deg: float = 60.0
    """Field of view along the long side of the picture."""
    depth_ratio: float = 5.0
    """How many times as far as the nearest things the farthest are."""
    max_points: int = 500_000
    """The picture is scaled down to at most so many pixels first."""

    def __post_init__(self) -> None:
        for option, value, low, high in (
            ("--fov-deg", self.fov_deg, 5, 150),
            ("--depth-ratio", self.depth_ratio, 1.1, 1000),
            ("--max-points", self.max_points, 100, 20_000_000),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{option} must be {low} to {high}, not {value}")


class PointCloud(NamedTuple):
    """Coloured points, the camera at the origin."""

    xyz: NDArray[np.float32]
    """(N, 3): right, up, towards the viewer; the unit is the distance of the nearest things."""
    rgb: NDArray[np.uint8]
    """(N, 3)."""
    num_dropped: int
    """Points left out at jumps of depth."""
    camera: Camera


def point_cloud(image: NDArray[np.uint8], inverse_depth: NDArray[Any], camera: Camera) -> PointCloud:
    """The points of a picture.

    Args:
        image: (H, W, 3) RGB.
        inverse_depth: (H, W), larger = nearer, finite, of any scale and shift.
        camera: the assumptions.
    """
    size_hw = _bounded((image.shape[0], image.shape[1]), camera.max_points)
    small: NDArray[Any] = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
    inverse: NDArray[Any] = cv2.resize(inverse_depth.astype(np.float32), size_hw[::-1], interpolation=cv2.INTER_AREA)
    depth = _relative_depth(inverse, camera.depth_ratio)
    x, y = _rays(size_hw, (image.shape[0], image.shape[1]), camera.fov_deg)
    kept = ~_is_jump(depth, x, y)
    xyz = np.stack([x * depth, -y * depth, -depth], axis=-1)[kept].astype(np.float32)
    return PointCloud(xyz, small[kept].astype(np.uint8), int(np.count_nonzero(~kept)), camera)


def encode_ply(cloud: PointCloud) -> bytes:
    """A point cloud as binary little-endian PLY: x, y, z float32; red, green, blue uint8."""
    camera = cloud.camera
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment RELATIVE depth of one picture by DepthRank: no metres, and not even true up to one factor",
        "comment depth = (1 + shift) / (inverse + shift), inverse 0..1 from the 2nd to the 98th percentile, "
        f"shift {_shift(camera.depth_ratio):.6g}",
        f"comment assumed: field of view {camera.fov_deg:g} deg along the long side, farthest {camera.depth_ratio:g} x "
        "as far as nearest",
        "comment x right, y up, z towards the viewer, camera at the origin; "
        f"{cloud.num_dropped} points at jumps of depth left out",
        f"element vertex {len(cloud.xyz)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
        "end_header",
    ]
    vertices = np.empty(len(cloud.xyz), dtype=_VERTEX)
    for column, axis in enumerate("xyz"):
        vertices[axis] = cloud.xyz[:, column]
    for column, channel in enumerate(("red", "green", "blue")):
        vertices[channel] = cloud.rgb[:, column]
    return "\n".join(header).encode("ascii") + b"\n" + vertices.tobytes()


def _bounded(size_hw: tuple[int, int], max_points: int) -> tuple[int, int]:
    scale = min(1.0, math.sqrt(max_points / (size_hw[0] * size_hw[1])))
    height = max(1, int(size_hw[0] * scale))
    width = max(1, int(size_hw[1] * scale))
    height = max(1, min(height, max_points // width))
    return height, min(width, max_points // height)


def _shift(depth_ratio: float) -> float:
    return 1 / (depth_ratio - 1)


def _relative_depth(inverse_depth: NDArray[Any], depth_ratio: float) -> NDArray[np.float64]:
    low, high = np.percentile(inverse_depth, [2, 98])
    scaled = (inverse_depth - low) / (high - low) if high > low else np.ones_like(inverse_depth)
    shift = _shift(depth_ratio)
    depth: NDArray[np.float64] = (1 + shift) / (np.maximum(scaled, 0).astype(np.float64) + shift)
    return depth


def _rays(
    grid_hw: tuple[int, int], picture_hw: tuple[int, int], fov_deg: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the ray of each grid point meets the plane at depth 1: x to the right and y down, both (h, w)."""
    focal_px = max(picture_hw) / 2 / math.tan(math.radians(fov_deg) / 2)
    (height, width), (full_height, full_width) = grid_hw, picture_hw
    rows = ((np.arange(height) + 0.5) / height - 0.5) * full_height / focal_px
    columns = ((np.arange(width) + 0.5) / width - 0.5) * full_width / focal_px
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return x, y


def _is_jump(depth: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Points beside a step of depth so steep, in terms of the angle between their rays, that it is no surface."""
    steepest = math.tan(math.radians(MAX_SLANT_DEG))
    logarithm = np.log(depth)
    jump = np.zeros(depth.shape, dtype=bool)
    for axis, place in ((0, y), (1, x)):
        steep = np.abs(np.diff(logarithm, axis=axis)) > steepest * np.diff(place, axis=axis)
        before, after = [(slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None))]
        jump[before] |= steep
        jump[after] |= steep
    return jump
