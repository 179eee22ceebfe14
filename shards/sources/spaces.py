"""Rooms, streets and open places, seen along their length, with things that stand, lean, hang and float in them.

Ceilings, tree crowns and what hangs in the air are near at the top of the picture, and the camera looks up, looks down
and tilts its head: the depth has to be read from the shape of things.

    stage = draw_street(Draw(rng))
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shards.sources.primitives import Ball, Box, Cylinder, Floats, Solid, upright_axes
from shards.sources.staging import Camera, Draw, Stage, camera_axes, ground, upright_box, wall

__all__ = ["draw_open", "draw_room", "draw_street"]

MAX_ROLL_RAD = np.radians(25)
NUM_GROUPS = (0, 4)
NEAREST_GROUP_M = 2.2
CLEARANCE_M = 0.7


def draw_room(draw: Draw) -> Stage:
    """A room or a corridor, seen along its length."""
    return _stage(draw, _room, pitch_up_deg=(-18, 18))


def draw_street(draw: Draw) -> Stage:
    """A street between houses or a covered passage, mostly with something at its end."""
    return _stage(draw, _street, pitch_up_deg=(-18, 15))


def draw_open(draw: Draw) -> Stage:
    """A plain with some houses far off."""
    return _stage(draw, _open, pitch_up_deg=(-24, 6))


@dataclass(frozen=True)
class _Space:
    """What stands before anything is put into it."""

    solids: list[Solid]
    eye_m: Floats
    yaw_rad: float
    """Where the eye looks; 0 is along z."""
    reach_m: float
    """How far from the eye things may stand."""
    ceiling_m: float = 30.0
    """Its height; far up where there is none."""


def _stage(draw: Draw, draw_space: Callable[[Draw], _Space], *, pitch_up_deg: tuple[float, float]) -> Stage:
    """Put groups of things into a space, and a camera."""
    space = draw_space(draw)
    solids = list(space.solids)
    for _ in range(int(draw.between(*NUM_GROUPS))):
        bearing = space.yaw_rad + draw.between(-0.55, 0.55)
        distance = draw.log_between(NEAREST_GROUP_M, space.reach_m)
        spot = space.eye_m + distance * np.array([np.sin(bearing), 0.0, np.cos(bearing)])
        solids += _group(draw, float(spot[0]), float(spot[2]), space.ceiling_m)
    pitch_up_rad = np.radians(draw.between(*pitch_up_deg))
    axes = camera_axes(space.yaw_rad, pitch_up_rad, draw.between(-MAX_ROLL_RAD, MAX_ROLL_RAD))
    return Stage(solids, Camera(space.eye_m, axes, np.radians(draw.between(60, 80))), CLEARANCE_M)


def _room(draw: Draw) -> _Space:
    half_x, half_z, height = draw.between(1.2, 3.2), draw.between(5, 11), draw.between(2.2, 3.8)
    walls = [wall(turn * np.pi / 2, (half_z, half_x)[turn % 2]) for turn in range(4)]
    eye = np.array(
        [draw.between(-0.7, 0.7) * half_x, draw.between(0.25, 0.75) * height, -draw.between(0.4, 0.9) * half_z]
    )
    yaw = draw.between(-0.22, 0.22) - 0.6 * eye[0] / half_z
    return _Space([ground(0.0), ground(height), *walls], eye, yaw, 0.8 * half_z, height)


def _street(draw: Draw) -> _Space:
    half_width = draw.log_between(1.5, 4)
    covered = draw.chance(0.4)
    ceiling = draw.between(2.4, 4) if covered else 30.0
    solids: list[Solid] = [ground(0.0)]
    if covered:
        solids.append(ground(ceiling))
    for side in (-1, 1):
        if covered or draw.chance(0.8):
            tall = 3.0 if covered else draw.log_between(1.2, 5)
            solids.append(upright_box([side * (half_width + 3), tall, 15], [3, tall, 25], 0.0))
    if draw.chance(0.7):
        solids.append(upright_box([0, 4, draw.log_between(12, 30)], [40, 4, 1], 0.0))
    eye = np.array([draw.between(-0.6, 0.6) * half_width, draw.between(0.5, 2), 0.0])
    return _Space(solids, eye, draw.between(-0.22, 0.22), 12.0, ceiling)


def _open(draw: Draw) -> _Space:
    eye = np.array([0.0, draw.log_between(0.6, 3), 0.0])
    yaw = draw.between(-np.pi, np.pi)
    solids: list[Solid] = [ground(0.0)]
    for _ in range(int(draw.between(0, 3))):
        bearing, distance = yaw + draw.between(-0.9, 0.9), draw.log_between(10, 30)
        size = [draw.between(1.5, 5), draw.log_between(1.2, 4), draw.between(1.5, 5)]
        centre = [distance * np.sin(bearing), size[1], distance * np.cos(bearing)]
        solids.append(upright_box(centre, size, draw.between(0, np.pi)))
    return _Space(solids, eye, yaw, 9.0)


def _group(draw: Draw, x: float, z: float, ceiling_m: float) -> list[Solid]:
    """One thing, or some that belong together, at a spot on the ground."""
    axes = upright_axes(draw.between(0, np.pi))
    size = draw.log_between(0.15, 0.45)
    kind = int(draw.between(0, 9))
    if kind <= 2:  # a crate, perhaps with another on it
        half = np.array([size, size * draw.between(0.5, 1.6), size * draw.between(0.5, 1.5)])
        crates: list[Solid] = [Box(np.array([x, half[1], z]), half, axes)]
        if draw.chance(0.3):
            upper = 0.7 * size * draw.between(0.5, 1)
            crates.append(upright_box([x, 2 * half[1] + upper, z], [upper] * 3, draw.between(0, np.pi)))
        return crates
    if kind <= 4:  # a ball on the ground
        return [Ball(np.array([x, size, z]), np.full(3, size), axes)]
    if kind == 5:  # a drum
        tall = size * draw.between(0.5, 2)
        return [Cylinder(np.array([x, tall, z]), np.array([size, tall, size]), axes)]
    if kind == 6:  # a pillar up to the ceiling, or a mast
        tall, half_width = min(ceiling_m, draw.between(2.5, 6)) / 2, 0.1 + 0.2 * size
        return [Cylinder(np.array([x, tall, z]), np.array([half_width, tall, half_width]), axes)]
    radius = 0.5 * size + 0.08
    if kind == 7:  # a ball in the air
        y = max(min(ceiling_m, 4.0) - radius - draw.between(0.1, 1.2), radius + 0.3)
        return [Ball(np.array([x, y, z]), np.full(3, radius), axes)]
    trunk = draw.between(0.8, 1.6)  # a small tree, or a lamp on a stand
    return [
        Cylinder(np.array([x, trunk / 2, z]), np.array([0.06, trunk / 2, 0.06]), axes),
        Ball(np.array([x, trunk + 0.7 * radius, z]), np.full(3, radius), axes),
    ]
