"""Roads as a driver sees them: cars before and beside the camera, houses, hedges, trees and poles along both sides.

The view is wide and level, the camera stands low over the road, and depth goes to the horizon. Half of the surfaces
have no pattern, so the shape of things and where they touch the ground have to tell the depth.

    stage = draw_road(Draw(rng))

The road runs along z and is y = 0; the camera stands near x = 0.
"""

import numpy as np

from shards.sources.primitives import Solid
from shards.sources.staging import (
    Camera,
    Draw,
    Stage,
    camera_axes,
    ground,
    upright_ball,
    upright_box,
    upright_cylinder,
)

__all__ = ["draw_road"]

CLEARANCE_M = 1.2
TEXTURE_SIZE = (0.6, 4.0)
PLAIN_SHARE = 0.5
LANE_M = 3.2
END_M = 80.0


def draw_road(draw: Draw) -> Stage:
    """A street in a town, a country road or a car park."""
    half_road = LANE_M * draw.one_of((0.8, 1.0, 1.5, 2.0))
    solids: list[Solid] = [ground(0.0)]
    for side in (-1, 1):
        kerb = side * half_road
        if draw.chance(0.6):  # a pavement
            solids.append(upright_box([kerb + side * 30, 0.06, END_M / 2], [30, 0.06, END_M], 0.0))
        solids += _roadside(draw, side, half_road)
    for _ in range(draw.whole(0, 4)):  # traffic
        lane = draw.between(-1, 1) * max(half_road - 1.2, 0.5)
        solids += _car(draw, lane, draw.log_between(5, 50), draw.between(-0.08, 0.08))
    if draw.chance(0.4):  # the road ends at a house, or bends behind it
        half = [draw.between(5, 30), draw.between(2, 6), 3.0]
        solids.append(upright_box([draw.between(-10, 10), half[1], draw.log_between(22, END_M)], half, 0.0))
    eye = np.array([draw.between(-0.7, 0.7) * half_road, draw.between(1.1, 2.3), 0.0])
    yaw = draw.between(-0.5, 0.5) if draw.chance(0.3) else draw.between(-0.1, 0.1)
    axes = camera_axes(yaw, np.radians(draw.between(-9, 5)), np.radians(draw.between(-3, 3)))
    return Stage(
        solids,
        Camera(eye, axes, np.radians(draw.between(55, 95))),
        CLEARANCE_M,
        texture_size=TEXTURE_SIZE,
        plain_share=PLAIN_SHARE,
    )


def _roadside(draw: Draw, side: int, half_road: float) -> list[Solid]:
    """What stands along one side, from near to far."""
    parts: list[Solid] = []
    house_line = half_road + draw.between(1.5, 8)
    built, parked, green = draw.chance(0.7), draw.chance(0.6), draw.chance(0.6)
    if built:
        z = draw.between(-8, 4)
        while z < END_M:
            half_z, tall, deep = draw.between(3, 12), draw.between(1.6, 7), draw.between(3, 6)
            set_back = draw.between(0, 2.5)
            parts.append(
                upright_box([side * (house_line + set_back + deep), tall, z + half_z], [deep, tall, half_z], 0)
            )
            z += 2 * half_z + (draw.between(0.5, 8) if draw.chance(0.5) else 0.0)
    if draw.chance(0.4):  # a hedge, a fence or a wall
        tall, z = draw.between(0.3, 1.1), draw.between(-5, 20)
        long = draw.between(5, 30)
        parts.append(upright_box([side * (house_line - 0.4), tall, z + long], [0.2, tall, long], 0.0))
    if parked:
        z = draw.between(3, 9)
        while z < 45:
            if draw.chance(0.7):
                parts += _car(draw, side * (half_road - draw.between(0, 1.2)), z, draw.between(-0.05, 0.05))
            z += draw.between(5.0, 8.5)
    for _ in range(draw.whole(1, 7) if green else draw.whole(0, 2)):
        x, z = side * (half_road + draw.between(0.4, 6)), draw.log_between(4, 60)
        parts += _tree(draw, x, z) if draw.chance(0.6) else _bush(draw, x, z)
    for _ in range(draw.whole(0, 4)):
        parts += _pole(draw, side * (half_road + draw.between(0.2, 1.5)), draw.log_between(4, 50))
    return parts


def _car(draw: Draw, x: float, z: float, yaw_rad: float) -> list[Solid]:
    """A car or a van: a body on wheels, and a cabin on it."""
    half_long, half_wide = draw.between(1.7, 2.4), draw.between(0.8, 0.95)
    van = draw.chance(0.2)
    floor, belt = draw.between(0.18, 0.3), draw.between(0.75, 1.0)
    top = draw.between(1.9, 2.6) if van else draw.between(1.35, 1.7)
    along = np.array([np.sin(yaw_rad), 0.0, np.cos(yaw_rad)])
    across = np.array([along[2], 0.0, -along[0]])
    middle = np.array([x, 0.0, z])

    def box(low_m: float, high_m: float, shift_m: float, half_along_m: float, half_across_m: float) -> Solid:
        centre = middle + shift_m * along + np.array([0.0, (low_m + high_m) / 2, 0.0])
        return upright_box(centre, [half_across_m, (high_m - low_m) / 2, half_along_m], -yaw_rad)

    cabin = 0.9 * half_long if van else half_long * draw.between(0.45, 0.65)
    shift = 0.0 if van else draw.between(-0.35, 0.35) * half_long
    wheel = 0.31
    wheels = [
        upright_ball(
            middle + i * 0.62 * half_long * along + k * (half_wide - 0.05) * across + np.array([0.0, wheel, 0.0]),
            [0.12, wheel, wheel],
            -yaw_rad,
        )
        for i in (-1, 1)
        for k in (-1, 1)
    ]
    return [
        box(floor, belt, 0.0, half_long, half_wide),
        box(belt, top, shift, cabin, 0.9 * half_wide),
        *wheels,
    ]


def _tree(draw: Draw, x: float, z: float) -> list[Solid]:
    trunk, radius = draw.between(1.2, 3.5), draw.between(0.08, 0.25)
    parts: list[Solid] = [upright_cylinder([x, trunk / 2, z], [radius, trunk / 2, radius], 0.0)]
    for _ in range(draw.whole(1, 3)):
        half = draw.half_sizes(1.0, (0.8, 2.2), (0.8, 2.5), (0.8, 2.2))
        spot = [x + draw.between(-0.8, 0.8), trunk + 0.6 * half[1], z + draw.between(-0.8, 0.8)]
        parts.append(upright_ball(spot, half, 0.0))
    return parts


def _bush(draw: Draw, x: float, z: float) -> list[Solid]:
    half = draw.half_sizes(1.0, (0.4, 1.8), (0.3, 1.3), (0.4, 1.8))
    return [upright_ball([x, 0.7 * half[1], z], half, draw.between(0, np.pi))]


def _pole(draw: Draw, x: float, z: float) -> list[Solid]:
    """A lamp, a mast or a sign."""
    tall, radius = draw.between(2.0, 8.0), draw.log_between(0.03, 0.14)
    parts: list[Solid] = [upright_cylinder([x, tall / 2, z], [radius, tall / 2, radius], 0.0)]
    if draw.chance(0.5):
        half = [draw.between(0.2, 0.5), draw.between(0.15, 0.5), 0.03]
        parts.append(upright_box([x, min(tall, 2.6), z], half, draw.between(-0.5, 0.5)))
    return parts
