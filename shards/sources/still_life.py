"""Things at arm's length: still lifes on a table before a wall, and piles that fill the picture.

Here the background is near as well, things hide one another, and the surface that carries them comes towards the
camera. Half of the surfaces have no pattern, so that shape and occlusion have to tell the depth.

    stage = draw_still_life(Draw(rng))

The table is y = 0, and the wall stands across z.
"""

import numpy as np

from shards.sources.primitives import Ball, Box, Cylinder, Floats, Solid, upright_axes
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

__all__ = ["draw_pile", "draw_still_life"]

WALL_M = (0.8, 3.0)
FOV_DEG = (30, 62)
MAX_ROLL_DEG = 5
CLEARANCE_M = 0.25
TEXTURE_SIZE = (0.1, 0.5)
PLAIN_SHARE = 0.5
DEPTH_RATIO_MIN = 1.12


def draw_still_life(draw: Draw) -> Stage:
    """Things on a table, mostly close before a wall, seen level or from above."""
    wall_m, fov_rad = draw.log_between(*WALL_M), np.radians(draw.between(*FOV_DEG))
    turn = np.radians(draw.between(-20, 20))
    away_m = wall_m * np.cos(turn) if draw.chance(0.85) else wall_m * draw.between(2, 4)
    solids: list[Solid] = [ground(0.0), wall(turn, away_m)]
    if draw.chance(0.25):
        solids.append(wall(turn + draw.one_of((-1, 1)) * np.pi / 2, wall_m * draw.between(0.3, 0.7)))
    height_m = wall_m * draw.between(0.12, 0.75)
    if draw.chance(0.5):
        height_m, pitch_up = 0.5 * height_m, np.radians(draw.between(-8, 2))
    else:
        aim_m, target_m = wall_m * draw.between(0.55, 0.95), wall_m * draw.between(0, 0.35)
        pitch_up = -float(np.arctan2(height_m - target_m, aim_m))
    for _ in range(draw.whole(3, 14)):
        z = wall_m * draw.between(0.4, 0.97)
        x = z * np.tan(fov_rad / 2) * draw.between(-1.05, 1.05)
        solids += _thing(draw, x, z, wall_m * draw.log_between(0.035, 0.16))
    return _stage(draw, solids, np.array([0.0, height_m, 0.0]), pitch_up, fov_rad)


def draw_pile(draw: Draw) -> Stage:
    """Boards or stones one before the other; the lower ones mostly nearer, as they carry the others."""
    wall_m, fov_rad = draw.log_between(*WALL_M), np.radians(draw.between(*FOV_DEG))
    half_width = np.tan(fov_rad / 2)
    back = Box(np.array([0.0, 0.0, wall_m + 0.5]), np.array([9.0, 9.0, 0.5]), _leaning(draw, 15))
    solids: list[Solid] = [back]
    boards = draw.chance(0.6)
    slope = draw.between(-0.05, 0.275)
    for _ in range(draw.whole(3, 9) if boards else draw.whole(8, 26)):
        across, up = draw.between(-1, 1), draw.between(-0.8, 0.8)
        z = wall_m * np.clip(0.84 + slope * up + draw.between(-0.1, 0.08), 0.4, 0.99)
        centre = z * np.array([across * half_width, 0.8 * up * half_width, 1.0])
        size = wall_m * half_width * draw.log_between(0.1, 0.5)
        if boards:
            half = np.array([size, size * draw.between(0.6, 1.6), 0.01 * wall_m])
            solids.append(Box(centre, half, _leaning(draw, 28)))
        else:
            half = draw.half_sizes(0.8 * size, (0.5, 1), (0.4, 0.8), (0.4, 0.8))
            solids.append(draw.one_of((Ball, Ball, Box, Cylinder))(centre, half, _tumbled(draw)))
    return _stage(draw, solids, np.zeros(3), np.radians(draw.between(-10, 6)), fov_rad)


def _stage(draw: Draw, solids: list[Solid], eye_m: Floats, pitch_up_rad: float, fov_rad: float) -> Stage:
    roll = np.radians(draw.between(-MAX_ROLL_DEG, MAX_ROLL_DEG))
    axes = camera_axes(np.radians(draw.between(-8, 8)), pitch_up_rad, roll)
    return Stage(
        solids,
        Camera(eye_m, axes, fov_rad),
        CLEARANCE_M,
        texture_size=TEXTURE_SIZE,
        plain_share=PLAIN_SHARE,
        depth_ratio_min=DEPTH_RATIO_MIN,
    )


def _thing(draw: Draw, x: float, z: float, size_m: float) -> list[Solid]:
    """One thing that stands, lies or leans on the table, perhaps with another on top."""
    yaw, kind = draw.between(0, np.pi), draw.whole(0, 9)
    if kind <= 2:  # a crate or a book
        half = draw.half_sizes(size_m, (0.5, 1.6), (0.3, 1.8), (0.4, 1.2))
        carried = [_on_top(draw, x, 2 * half[1], z, 0.8 * size_m)] if draw.chance(0.5) else []
        return [upright_box([x, half[1], z], half, yaw), *carried]
    if kind <= 4:  # a ball or a stone
        half = draw.half_sizes(size_m, (0.5, 1.2), (0.5, 1.2), (0.5, 1.2))
        return [upright_ball([x, half[1], z], half, yaw)]
    if kind <= 6:  # a tin or a bottle
        tall, radius = size_m * draw.between(0.4, 2.2), size_m * draw.between(0.3, 1)
        carried = [_on_top(draw, x, 2 * tall, z, radius)] if draw.chance(0.4) else []
        return [upright_cylinder([x, tall, z], [radius, tall, radius], yaw), *carried]
    if kind == 7:  # a board that leans
        tall = size_m * draw.between(1.2, 3.5)
        half = np.array([size_m * draw.between(0.8, 3), tall, 0.04 * size_m])
        return [Box(np.array([x, 0.95 * tall, z]), half, _leaning(draw, 25))]
    if kind == 8:  # a roll that lies
        length, radius = size_m * draw.between(1, 3), 0.4 * size_m
        across, _, along = upright_axes(yaw)
        half = np.array([radius, length, radius])
        return [Cylinder(np.array([x, radius, z]), half, np.stack([[0.0, 1.0, 0.0], across, along]))]
    return _plant(draw, x, z, size_m)


def _plant(draw: Draw, x: float, z: float, size_m: float) -> list[Solid]:
    """Long leaves out of a pot."""
    parts: list[Solid] = [upright_cylinder([x, 0.5 * size_m, z], [0.6 * size_m, 0.5 * size_m, 0.6 * size_m], 0.0)]
    for _ in range(draw.whole(4, 9)):
        long = size_m * draw.between(1, 2.2)
        way = np.array([draw.between(-1, 1), draw.between(0.4, 1.2), draw.between(-1, 1)])
        way /= np.linalg.norm(way)
        side = np.cross(way, [0.3, 0.2, 1.0])
        side /= np.linalg.norm(side)
        half = np.array([0.15 * size_m, long, 0.06 * size_m])
        parts.append(Ball(np.array([x, size_m, z]) + long * way, half, np.stack([side, way, np.cross(side, way)])))
    return parts


def _on_top(draw: Draw, x: float, y: float, z: float, size_m: float) -> Solid:
    half = draw.half_sizes(size_m, (0.4, 1), (0.4, 1.2), (0.4, 1))
    build = draw.one_of((upright_box, upright_ball, upright_cylinder))
    return build([x, y + half[1], z], half, draw.between(0, np.pi))


def _leaning(draw: Draw, most_deg: float) -> Floats:
    """Axes of a board that faces the camera but for a turn and a lean, mostly back, and is perhaps rolled."""
    turn, lean = np.radians(draw.between(-most_deg, most_deg)), np.radians(draw.between(-most_deg, 0.4 * most_deg))
    return _upwards(camera_axes(turn, lean, draw.between(-np.pi, np.pi) if draw.chance(0.4) else 0.0))


def _tumbled(draw: Draw) -> Floats:
    """Axes of a thing that came to rest anyhow."""
    return _upwards(camera_axes(draw.between(0, np.pi), draw.between(-1.5, 1.5), draw.between(0, np.pi)))


def _upwards(axes: Floats) -> Floats:
    """A camera's right, down and forward as a solid's own axes, the second of which points up."""
    right, down, forward = axes
    return np.stack([right, -down, forward])
