"""The solids a scene is made of, and how a grid of viewing rays meets them.

A solid lives in its own frame, scaled so that it has unit size there: a box is the cube -1..1, a ball the unit sphere
(an ellipsoid in the world), a cylinder has radius 1 and reaches from y = -1 to 1, a plane is y = 0. A viewing ray is
`origin + t * (x, y, 1)` in camera axes, so that its parameter t *is* the depth Z, and the dot product of all rays
with a vector is one broadcast sum of a row and a column.

    depth_m = box.cast(rays, origin_m)  # (H, W), inf where a ray misses
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEAREST_M", "Ball", "Box", "Cylinder", "Floats", "Plane", "Rays", "Solid", "upright_axes"]

Floats = NDArray[np.floating]

NEAREST_M = 0.05
ALONG = 1e-20
FACE_SHIFT_M = 3.7


@dataclass(frozen=True)
class Rays:
    """Viewing rays through a grid of picture points.

    Args:
        axes: (3, 3) camera axes in the world, a row each: right, down, forward.
        x: (W,) horizontal picture coordinates over the focal length.
        y: (H,) vertical ones, positive downwards.
    """

    axes: Floats
    x: Floats
    y: Floats

    def dot(self, vector: Floats) -> Floats:
        """Dot products (H, W) of all ray directions with a world vector (3,)."""
        right, down, forward = (self.axes @ vector).astype(self.x.dtype)
        product: Floats = (right * self.x)[None, :] + (down * self.y + forward)[:, None]
        return product

    def window(self, rows: slice, columns: slice) -> "Rays":
        """The rays of a part of the picture."""
        return Rays(self.axes, self.x[columns], self.y[rows])


def upright_axes(yaw_rad: float) -> Floats:
    """Axes (3, 3) of a solid turned about the vertical; the world's y axis points up."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


@dataclass(frozen=True)
class Solid:
    """A solid placed in the world.

    Args:
        centre_m: (3,) where it is.
        half_m: (3,) half of its extent along its own axes.
        axes: (3, 3) its own axes in the world, a row each.
    """

    centre_m: Floats
    half_m: Floats
    axes: Floats

    def corners_m(self) -> Floats | None:
        """Corners (8, 3) of a box around it; None where it has no end."""
        signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
        corners: Floats = self.centre_m + (signs * self.half_m) @ self.axes
        return corners

    def to_own(self, points_m: Floats) -> Floats:
        """World points (..., 3) in the unit frame."""
        own: Floats = ((points_m - self.centre_m) @ self.axes.T) / self.half_m
        return own

    def cast(self, rays: Rays, origin_m: Floats) -> Floats:
        """Depth Z (H, W) at which the rays from `origin_m` (3,) first meet it from outside; inf where they miss."""
        origin = self.to_own(origin_m).astype(rays.x.dtype)
        direction = [rays.dot(axis / half) for axis, half in zip(self.axes, self.half_m, strict=True)]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            near, far = self._span(origin, direction)
            near[~((near <= far) & (near > NEAREST_M))] = np.inf
            return near

    def surface(self, own: list[Floats]) -> tuple[Floats, Floats, list[Floats]]:
        """Texture coordinates u, v in metres and the normal (in own axes, unit length) of surface points.

        Args:
            own: The three coordinates (N,) of the points in the unit frame.
        """
        raise NotImplementedError

    def _span(self, origin: Floats, direction: list[Floats]) -> tuple[Floats, Floats]:
        """Where the rays enter and leave it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Plane(Solid):
    """An endless plane; its own y axis is the normal."""

    def corners_m(self) -> None:
        """A plane has no end."""
        return

    def _span(self, origin: Floats, direction: list[Floats]) -> tuple[Floats, Floats]:
        meeting = -origin[1] / direction[1]
        return meeting, meeting

    def surface(self, own: list[Floats]) -> tuple[Floats, Floats, list[Floats]]:
        """See `Solid.surface`."""
        zero = np.zeros_like(own[0])
        return own[0] * self.half_m[0], own[2] * self.half_m[2], [zero, zero + 1, zero]


@dataclass(frozen=True)
class Box(Solid):
    """A box."""

    def _span(self, origin: Floats, direction: list[Floats]) -> tuple[Floats, Floats]:
        near, far = _slab(origin[0], direction[0])
        for axis in (1, 2):
            enter, leave = _slab(origin[axis], direction[axis])
            near, far = np.maximum(near, enter), np.minimum(far, leave)
        return near, far

    def surface(self, own: list[Floats]) -> tuple[Floats, Floats, list[Floats]]:
        """See `Solid.surface`."""
        x, y, z = own
        size_x, size_y, size_z = (np.abs(c) for c in own)
        on_x = (size_x >= size_y) & (size_x >= size_z)
        on_y = ~on_x & (size_y >= size_z)
        u = np.where(on_x, z * self.half_m[2] + FACE_SHIFT_M, x * self.half_m[0])
        v = np.where(on_y, z * self.half_m[2] + FACE_SHIFT_M, y * self.half_m[1])
        return u, v, [np.sign(x) * on_x, np.sign(y) * on_y, np.sign(z) * ~(on_x | on_y)]


@dataclass(frozen=True)
class Ball(Solid):
    """An ellipsoid."""

    def _span(self, origin: Floats, direction: list[Floats]) -> tuple[Floats, Floats]:
        return _quadric(
            direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2,
            direction[0] * origin[0] + direction[1] * origin[1] + direction[2] * origin[2],
            origin @ origin - 1,
        )

    def surface(self, own: list[Floats]) -> tuple[Floats, Floats, list[Floats]]:
        """See `Solid.surface`."""
        x, y, z = own
        u = np.arctan2(z, x) * self.half_m[0]
        v = np.arcsin(np.clip(y, -1, 1)) * self.half_m[1]
        normal = [c / half for c, half in zip(own, self.half_m, strict=True)]
        length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
        return u, v, [n / length for n in normal]


@dataclass(frozen=True)
class Cylinder(Solid):
    """A cylinder along its own y axis, with both lids."""

    def _span(self, origin: Floats, direction: list[Floats]) -> tuple[Floats, Floats]:
        enter, leave = _quadric(
            direction[0] ** 2 + direction[2] ** 2,
            direction[0] * origin[0] + direction[2] * origin[2],
            origin[0] ** 2 + origin[2] ** 2 - 1,
        )
        near, far = _slab(origin[1], direction[1])
        return np.maximum(near, enter), np.minimum(far, leave)

    def surface(self, own: list[Floats]) -> tuple[Floats, Floats, list[Floats]]:
        """See `Solid.surface`."""
        x, y, z = own
        on_lid = np.abs(y) > np.hypot(x, z)
        u = np.where(on_lid, x, np.arctan2(z, x)) * self.half_m[0]
        v = np.where(on_lid, z * self.half_m[2], y * self.half_m[1])
        return u, v, [x * ~on_lid, np.sign(y) * on_lid, z * ~on_lid]


def _slab(origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """Where rays enter and leave -1 <= coordinate <= 1; a ray along the slab counts as all but along it."""
    inverse = 1 / (direction + ALONG)
    middle, half = -origin * inverse, np.abs(inverse)
    return middle - half, middle + half


def _quadric(square: Floats, linear: Floats, constant: Floats) -> tuple[Floats, Floats]:
    """Roots of square t^2 + 2 linear t + constant = 0; NaN where there are none."""
    root = np.sqrt(linear * linear - square * constant)
    return (-linear - root) / square, (-linear + root) / square
