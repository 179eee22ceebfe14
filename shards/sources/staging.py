"""What worlds are staged with: draws, plain solids by their place and turn, and the camera before them.

draw = Draw(CounterRng("scene", seed, index))
box = upright_box([0, 0.5, 3], [0.3, 0.5, 0.2], draw.between(0, np.pi))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from shards.randomness import CounterRng
from shards.sources.primitives import Ball, Box, Cylinder, Floats, Plane, Solid, upright_axes

__all__ = [
    "Camera",
    "Draw",
    "Stage",
    "camera_axes",
    "ground",
    "upright_ball",
    "upright_box",
    "upright_cylinder",
    "wall",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Camera:
    """Where the left eye is and what it looks at.

    Args:
        position_m: (3,) its centre.
        axes: (3, 3) right, down and forward in the world, a row each.
        fov_rad: Horizontal field of view.
    """

    position_m: Floats
    axes: Floats
    fov_rad: float


@dataclass(frozen=True)
class Stage:
    """Solids without paint, and the camera before them.

    Args:
        solids: All that can be seen, but for the sky.
        camera: The left eye.
        clearance_m: What comes closer to the eye is left out.
        texture_size: Bounds of the factor on the size of patterns; 1 suits things of a metre.
        plain_share: Share of the things that are of one colour or clouded, without a pattern.
        depth_ratio_min: How many times as far as the nearest the farthest point has to be.
    """

    solids: list[Solid]
    camera: Camera
    clearance_m: float
    texture_size: tuple[float, float] = (1.0, 1.0)
    plain_share: float = 0.0
    depth_ratio_min: float = 1.8


class Draw:
    """Draws from one stream of random numbers."""

    def __init__(self, rng: CounterRng) -> None:
        self._rng = rng

    def between(self, low: float, high: float) -> float:
        """Uniform."""
        return float(low + (high - low) * self._rng.uniform(1)[0])

    def log_between(self, low: float, high: float) -> float:
        """Uniform in the logarithm; both bounds are positive."""
        return float(low * (high / low) ** self._rng.uniform(1)[0])

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return bool(self._rng.uniform(1)[0] < probability)

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._rng.uniform(1)[0] * (high - low + 1))

    def one_of(self, choices: Sequence[T]) -> T:
        """One of them, each with the same chance."""
        return choices[int(self._rng.uniform(1)[0] * len(choices))]

    def half_sizes(self, size_m: float, *bounds: tuple[float, float]) -> Floats:
        """Half extents (3,) along x, y and z, each a factor within its bounds times a size."""
        return size_m * np.array([self.between(low, high) for low, high in bounds])


def ground(height_m: float) -> Plane:
    """An endless horizontal plane."""
    return Plane(np.array([0.0, height_m, 0.0]), np.ones(3), np.eye(3))


def wall(yaw_rad: float, distance_m: float) -> Plane:
    """An endless upright plane at a distance from the origin; its texture's v axis points up."""
    out = np.array([np.sin(yaw_rad), 0.0, np.cos(yaw_rad)])
    along = np.array([out[2], 0.0, -out[0]])
    return Plane(out * distance_m, np.ones(3), np.stack([along, out, [0.0, 1.0, 0.0]]))


def upright_box(centre_m: object, half_m: object, yaw_rad: float) -> Box:
    """A box turned about the vertical."""
    return Box(np.asarray(centre_m, dtype=float), np.asarray(half_m, dtype=float), upright_axes(yaw_rad))


def upright_ball(centre_m: object, half_m: object, yaw_rad: float) -> Ball:
    """An ellipsoid turned about the vertical."""
    return Ball(np.asarray(centre_m, dtype=float), np.asarray(half_m, dtype=float), upright_axes(yaw_rad))


def upright_cylinder(centre_m: object, half_m: object, yaw_rad: float) -> Cylinder:
    """A standing cylinder."""
    return Cylinder(np.asarray(centre_m, dtype=float), np.asarray(half_m, dtype=float), upright_axes(yaw_rad))


def camera_axes(yaw_rad: float, pitch_up_rad: float, roll_rad: float) -> Floats:
    """Right, down and forward (3, 3) of a camera; at yaw 0 it looks along z."""
    sin_y, cos_y, sin_p, cos_p = np.sin(yaw_rad), np.cos(yaw_rad), np.sin(pitch_up_rad), np.cos(pitch_up_rad)
    forward = np.array([sin_y * cos_p, sin_p, cos_y * cos_p])
    right = np.array([cos_y, 0.0, -sin_y])
    down = np.array([sin_y * sin_p, -cos_p, cos_y * sin_p])
    cos_r, sin_r = np.cos(roll_rad), np.sin(roll_rad)
    return np.stack([cos_r * right + sin_r * down, cos_r * down - sin_r * right, forward])
