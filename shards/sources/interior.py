"""Furnished rooms, seen across from the height of a person's eyes.

stage = draw_interior(Draw(rng))
"""

from collections.abc import Sequence

import numpy as np

from shards.sources.primitives import Floats, Solid, upright_axes
from shards.sources.staging import (
    Camera,
    Draw,
    Stage,
    camera_axes,
    ground,
    upright_ball,
    upright_box,
    upright_cylinder,
    wall,
)

__all__ = ["draw_interior"]

CLEARANCE_M = 0.5
TEXTURE_SIZE = (0.24, 1.2)
PLAIN_SHARE = 0.5
DEPTH_RATIO_MIN = 1.12
ANY_SHAPE = (upright_box, upright_ball, upright_cylinder)


def draw_interior(draw: Draw) -> Stage:
    """Cabinets, counters, sofas, shelves, doors and pictures along the walls, tables and chairs between them."""
    half_x, half_z, height = draw.between(1.3, 3.0), draw.between(1.3, 3.5), draw.between(2.3, 3.2)
    solids: list[Solid] = [ground(0.0), ground(height)]
    for side in range(4):
        along, away = ((half_x, half_z), (half_z, half_x))[side % 2]
        solids.append(wall(side * np.pi / 2, away))
        for _ in range(draw.whole(0, 3)):
            solids += _at_wall(draw, side * np.pi / 2, draw.between(-1, 1) * along, away, height)
    for _ in range(draw.whole(0, 3)):
        solids += _standing_free(draw, draw.between(-0.8, 0.8) * half_x, draw.between(-0.3, 0.8) * half_z)
    eye = np.array([draw.between(-0.8, 0.8) * half_x, draw.between(0.9, 1.75), -draw.between(0.55, 0.92) * half_z])
    yaw = np.arctan2(draw.between(-0.9, 0.9) * half_x - eye[0], draw.between(0.3, 1.0) * half_z - eye[2])
    axes = camera_axes(float(yaw), np.radians(draw.between(-24, 6)), np.radians(draw.between(-5, 5)))
    return Stage(
        solids,
        Camera(eye, axes, np.radians(draw.between(48, 75))),
        CLEARANCE_M,
        texture_size=TEXTURE_SIZE,
        plain_share=PLAIN_SHARE,
        depth_ratio_min=DEPTH_RATIO_MIN,
    )


def _at_wall(draw: Draw, yaw_rad: float, place_m: float, away_m: float, height_m: float) -> list[Solid]:
    """Furniture whose back is at the wall that stands `away_m` off in direction `yaw_rad`, at a place along it."""
    out = np.array([np.sin(yaw_rad), 0.0, np.cos(yaw_rad)])
    right = np.array([out[2], 0.0, -out[0]])
    half_width, depth = draw.between(0.25, 1.1), draw.between(0.3, 0.7)

    def box(low_m: float, high_m: float, half_width_m: float, depth_m: float) -> Solid:
        centre = out * (away_m - depth_m / 2) + right * place_m + np.array([0.0, (low_m + high_m) / 2, 0.0])
        return upright_box(centre, [half_width_m, (high_m - low_m) / 2, depth_m / 2], yaw_rad)

    kind = draw.whole(0, 6)
    if kind == 0:  # a cupboard
        return [box(0, draw.between(1.2, min(2.3, height_m)), half_width, depth)]
    if kind <= 2:  # a counter with things on it, perhaps below cabinets
        top = draw.between(0.7, 1.0)
        cabinets = (
            [box(draw.between(1.3, 1.6), min(2.2, height_m), half_width, 0.6 * depth)] if draw.chance(0.5) else []
        )
        middle = out * (away_m - depth / 2) + right * place_m + np.array([0.0, top, 0.0])
        axes = np.stack([right, [0.0, 1.0, 0.0], out])
        return [box(0, top, half_width, depth), *cabinets, *_things_on(draw, middle, axes, half_width, depth / 2)]
    if kind == 3:  # a sofa or an armchair
        seat = draw.between(0.35, 0.5)
        return [box(0, seat, half_width, 0.8), box(seat, seat + draw.between(0.3, 0.5), half_width, 0.2)]
    if kind == 4:  # a picture, a board, a window
        low = draw.between(0.8, 1.5)
        return [box(low, low + draw.between(0.3, 1.0), 0.6 * half_width, 0.04)]
    if kind == 5:  # a door
        return [box(0, 2.0, 0.42, 0.05)]
    boards = [box(y, y + 0.04, half_width, 0.3) for y in np.arange(0.3, draw.between(1.2, 2.2), 0.38)]
    return [*boards, box(0, 2.0, half_width, 0.02)]  # shelves before their back


def _standing_free(draw: Draw, x: float, z: float) -> list[Solid]:
    """A table with things on it, a chair or a box."""
    yaw, kind = draw.between(0, np.pi), draw.whole(0, 3)
    axes = upright_axes(yaw)
    if kind <= 1:
        top, half_x, half_z = draw.between(0.42, 0.78), draw.between(0.3, 0.8), draw.between(0.3, 0.6)
        leg = [0.03, top / 2, 0.03]
        legs = [
            upright_cylinder(np.array([x, top / 2, z]) + 0.9 * np.array([i * half_x, 0, k * half_z]) @ axes, leg, 0.0)
            for i in (-1, 1)
            for k in (-1, 1)
        ]
        middle = np.array([x, top + 0.025, z])
        board = upright_box([x, top, z], [half_x, 0.025, half_z], yaw)
        return [board, *legs, *_things_on(draw, middle, axes, half_x, half_z)]
    if kind == 2:
        back = np.array([x, 0.68, z]) + np.array([0, 0, 0.22]) @ axes
        return [upright_box([x, 0.23, z], [0.22, 0.23, 0.22], yaw), upright_box(back, [0.22, 0.24, 0.03], yaw)]
    half = draw.half_sizes(1.0, (0.15, 0.5), (0.15, 0.5), (0.15, 0.5))
    return [upright_box([x, half[1], z], half, yaw)]


def _things_on(draw: Draw, middle_m: Floats, axes: Floats, half_x: float, half_z: float) -> Sequence[Solid]:
    """Small things on a board whose top has its middle at `middle_m` and its sides along the first and third axis."""
    things = []
    for _ in range(draw.whole(0, 4)):
        size = draw.log_between(0.04, 0.15)
        half = draw.half_sizes(size, (1, 1), (0.7, 2), (1, 1))
        spot = np.array([draw.between(-0.85, 0.85) * half_x, half[1], draw.between(-0.7, 0.7) * half_z]) @ axes
        things.append(draw.one_of(ANY_SHAPE)(middle_m + spot, half, draw.between(0, np.pi)))
    return things
