"""Random worlds: rooms, streets and open places with things that stand, lean, hang and float, and a camera in them.

What is drawn for light, colours and textures knows nothing of where a thing stands, so that neither brightness nor
texture tells the depth. Ceilings, bridges, lamps and tree crowns are near at the top of the picture, and the camera
looks up, looks down and tilts its head: the depth has to be read from the shape of things.

    world = draw_world(CounterRng("scene", seed, index))

Lengths are metres; the world's y axis points up and the ground is y = 0.
"""

from dataclasses import dataclass

import numpy as np

from shards.randomness import CounterRng
from shards.sources.primitives import Ball, Box, Cylinder, Floats, Plane, Solid, upright_axes
from shards.sources.textures import Texture, draw_texture

__all__ = ["Camera", "Thing", "World", "draw_world"]

KINDS = ("room", "street", "open")
MAX_ROLL_RAD = np.radians(26)
PITCH_UP_DEG = {"room": (-24, 12), "street": (-22, 12), "open": (-24, 8)}
CLEARANCE_M = 0.7
SKY_M = 120.0
SKY_TEXTURES = ("clouds", "plain")


@dataclass(frozen=True)
class Thing:
    """A solid and its paint."""

    solid: Solid
    texture: Texture


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
class World:
    """A world to take a picture in.

    Args:
        kind: `room`, `street` or `open`.
        things: All that can be seen, but for the sky.
        sky: Paint of the backdrop, a plane across the line of sight at `SKY_M`.
        camera: The left eye.
        light: (3,) direction towards the light, unit length.
        shadow: Brightness of a surface that is turned away from the light; 1 is one that faces it.
    """

    kind: str
    things: list[Thing]
    sky: Texture
    camera: Camera
    light: Floats
    shadow: float


def draw_world(rng: CounterRng) -> World:
    """A random world; the same for the same stream of draws."""
    draw = _Draw(rng)
    kind = KINDS[int(draw.between(0, len(KINDS)))]
    solids, eye, yaw, reach_m, ceiling_m = {"room": _room, "street": _street, "open": _open}[kind](draw)
    for _ in range(int(draw.between(3, 7))):
        bearing = yaw + draw.between(-0.65, 0.65)
        distance = draw.log_between(1.5, reach_m)
        spot = eye + distance * np.array([np.sin(bearing), 0.0, np.cos(bearing)])
        solids += _group(draw, spot[[0, 2]], ceiling_m)
    pitch_up = draw.between(*PITCH_UP_DEG[kind])
    camera = Camera(eye, _camera_axes(yaw, np.radians(pitch_up), draw.between(-MAX_ROLL_RAD, MAX_ROLL_RAD)), 0.0)
    camera = Camera(eye, camera.axes, np.radians(draw.between(52, 82)))
    seen = [solid for solid in solids if not _touches(solid, eye)]
    height, turn = draw.between(0.1, 1), draw.between(0, 2 * np.pi)
    flat = np.sqrt(1 - height**2)
    return World(
        kind=kind,
        things=[Thing(solid, draw_texture(rng)) for solid in seen],
        sky=draw_texture(rng, kinds=SKY_TEXTURES, magnify=SKY_M / 3),
        camera=camera,
        light=np.array([flat * np.cos(turn), height, flat * np.sin(turn)]),
        shadow=draw.between(0.35, 0.6),
    )


class _Draw:
    """Draws of numbers and of choices."""

    def __init__(self, rng: CounterRng) -> None:
        self._rng = rng

    def between(self, low: float, high: float) -> float:
        return float(low + (high - low) * self._rng.uniform(1)[0])

    def log_between(self, low: float, high: float) -> float:
        return float(low * (high / low) ** self._rng.uniform(1)[0])

    def chance(self, probability: float) -> bool:
        return bool(self._rng.uniform(1)[0] < probability)


Setting = tuple[list[Solid], Floats, float, float, float]
"""Solids, eye (3,), yaw of the view, how far things may stand, and the height of the ceiling."""


def _room(draw: _Draw) -> Setting:
    half_x, half_z, height = draw.between(1.8, 4.5), draw.between(2.5, 7), draw.between(2.5, 4.5)
    solids: list[Solid] = [_horizontal(0.0), _horizontal(height)]
    for turn in range(4):
        distance = (half_z, half_x)[turn % 2]
        solids.append(_wall(turn * np.pi / 2, distance))
    eye = np.array(
        [
            draw.between(-0.8, 0.8) * half_x,
            draw.between(0.35, 0.9) * min(height, 2.6),
            draw.between(-0.85, 0.85) * half_z,
        ]
    )
    aim = -0.7 * eye[[0, 2]] + [draw.between(-0.6, 0.6) * half_x, draw.between(-0.6, 0.6) * half_z]
    yaw = float(np.arctan2(aim[0] - eye[0], aim[1] - eye[2]))
    for _ in range(int(draw.between(0, 4))):  # cupboards on the walls and beams below the ceiling
        if draw.chance(0.6):
            side = -1 if draw.chance(0.5) else 1
            size = np.array([draw.between(0.15, 0.4), draw.between(0.2, 0.6), draw.between(0.3, 1.2)])
            solids.append(_box([side * half_x, draw.between(0.8, height), draw.between(-half_z, half_z)], size, 0.0))
        else:
            size = np.array([half_x, draw.between(0.08, 0.25), draw.between(0.08, 0.25)])
            solids.append(_box([0, height, draw.between(-half_z, half_z)], size, 0.0))
    return solids, eye, yaw, float(np.hypot(half_x, half_z)), height


def _street(draw: _Draw) -> Setting:
    half_width = draw.log_between(1.8, 6)
    solids: list[Solid] = [_horizontal(0.0)]
    covered = draw.chance(0.3)
    ceiling = draw.between(2.4, 4.5) if covered else 30.0
    if covered:
        solids.append(_horizontal(ceiling))
    for side in (-1, 1):
        z = -6.0
        while z < 28:
            length = draw.between(4, 11)
            depth = draw.between(0, 0.35) * half_width
            tall = 3.0 if covered else draw.log_between(0.8, 3.5)
            solids.append(_box([side * (half_width + 3 + depth), tall, z + length / 2], [3, tall, length / 2], 0.0))
            z += length + (draw.between(1, 4) if draw.chance(0.25) else 0)
    if draw.chance(0.6):
        solids.append(_box([0, 4, draw.log_between(9, 28)], [40, 4, 1], 0.0))
    for _ in range(int(draw.between(0, 3))):  # bridges
        low = draw.between(2.3, 3.5)
        thick = draw.between(0.15, 0.7)
        solids.append(
            _box([0, low + thick, draw.log_between(3, 16)], [half_width * 1.5, thick, draw.between(0.3, 2)], 0.0)
        )
    eye = np.array([draw.between(-0.6, 0.6) * half_width, draw.between(0.4, 2.1), 0.0])
    return solids, eye, draw.between(-0.5, 0.5), 14.0, ceiling


def _open(draw: _Draw) -> Setting:
    eye = np.array([0.0, draw.log_between(0.5, 4), 0.0])
    yaw = draw.between(-np.pi, np.pi)
    solids: list[Solid] = [_horizontal(0.0)]
    for _ in range(int(draw.between(4, 9))):  # houses and hills along the horizon
        bearing, distance = yaw + draw.between(-0.9, 0.9), draw.log_between(10, 35)
        x, z = distance * np.sin(bearing), distance * np.cos(bearing)
        if draw.chance(0.7):
            size = [draw.between(1.5, 5), draw.log_between(1.2, 5), draw.between(1.5, 5)]
            solids.append(_box([x, size[1], z], size, draw.between(0, np.pi)))
        else:
            size = [draw.between(4, 14), draw.between(1, 6), draw.between(4, 14)]
            solids.append(Ball(np.array([x, 0.0, z]), np.array(size), np.eye(3)))
    return solids, eye, yaw, 12.0, 30.0


def _group(draw: _Draw, spot_xz: Floats, ceiling_m: float) -> list[Solid]:
    """One thing, or some that belong together, at a spot on the ground."""
    x, z = (float(c) for c in spot_xz)
    yaw = draw.between(0, np.pi)
    size = draw.log_between(0.2, 0.8)
    kind = int(draw.between(0, 10))
    if kind in (0, 1):  # a crate, perhaps with another on it
        half = [size, size * draw.between(0.5, 1.6), size * draw.between(0.5, 1.5)]
        crates: list[Solid] = [_box([x, half[1], z], half, yaw)]
        if draw.chance(0.4):
            upper = 0.7 * size * draw.between(0.5, 1)
            crates.append(_box([x, 2 * half[1] + upper, z], [upper] * 3, draw.between(0, np.pi)))
        return crates
    if kind == 2:  # a ball on the ground
        return [Ball(np.array([x, size, z]), np.full(3, size), upright_axes(yaw))]
    if kind == 3:  # a drum
        tall = size * draw.between(0.5, 2)
        return [Cylinder(np.array([x, tall, z]), np.array([size, tall, size]), upright_axes(yaw))]
    if kind == 4:  # a pillar up to the ceiling, or a mast
        tall = min(ceiling_m, draw.between(2.5, 6)) / 2
        half = 0.12 + 0.3 * size
        if draw.chance(0.5):
            return [_box([x, tall, z], [half, tall, half], yaw)]
        return [Cylinder(np.array([x, tall, z]), np.array([half, tall, half]), upright_axes(yaw))]
    if kind == 5:  # something that hangs: from the ceiling on a rod, or free in the air
        size = 0.5 * size + 0.08
        y = min(ceiling_m, 4.5) - size - draw.between(0.1, 1.6)
        y = max(y, size + 0.3)
        hung: list[Solid] = [
            Ball(np.array([x, y, z]), size * np.array([1, draw.between(0.5, 1.4), 1]), upright_axes(yaw))
            if draw.chance(0.6)
            else _box([x, y, z], [size, size * draw.between(0.3, 1), size], yaw)
        ]
        if ceiling_m < 10:
            rod = (ceiling_m - y) / 2
            hung.append(Cylinder(np.array([x, y + rod, z]), np.array([0.03, rod, 0.03]), np.eye(3)))
        return hung
    if kind == 6:  # a box that tumbles through the air
        half = [size * draw.between(0.3, 1) for _ in range(3)]
        tilt = _camera_axes(yaw, draw.between(-1, 1), draw.between(-1, 1))
        return [Box(np.array([x, draw.between(0.5, min(ceiling_m - 0.3, 3.5)), z]), np.array(half), tilt)]
    if kind == 7:  # a table, or a roof on pillars
        half_top = [size + 0.3, 0.04 + 0.08 * size, draw.between(0.4, 1) * (size + 0.3)]
        tall = draw.log_between(0.5, min(ceiling_m - 0.3, 2.8))
        axes = upright_axes(yaw)
        table: list[Solid] = [_box([x, tall, z], half_top, yaw)]
        for i, k in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            foot = np.array([x, tall / 2, z]) + axes.T @ np.array([0.85 * i * half_top[0], 0, 0.85 * k * half_top[2]])
            table.append(_box(foot, [0.06, tall / 2, 0.06], yaw))
        return table
    if kind == 8:  # a gate
        span, tall, thick = draw.between(0.6, 1.6), draw.between(1.2, min(ceiling_m - 0.2, 3)), draw.between(0.1, 0.3)
        axes = upright_axes(yaw)
        posts = [np.array([x, tall / 2, z]) + side * span * axes[0] for side in (-1, 1)]
        gate: list[Solid] = [_box(post, [thick, tall / 2, thick], yaw) for post in posts]
        return [*gate, _box([x, tall, z], [span + thick, thick, thick], yaw)]
    trunk = draw.between(0.8, 2.2)  # a tree, or a lamp on a stand where it is low
    crown = 0.35 + size
    crown = min(crown, (ceiling_m - trunk) / 2) if ceiling_m < 10 else crown
    return [
        Cylinder(np.array([x, trunk / 2, z]), np.array([0.09, trunk / 2, 0.09]), np.eye(3)),
        Ball(
            np.array([x, trunk + 0.7 * crown, z]),
            np.array([crown, crown * draw.between(0.7, 1.2), crown]),
            upright_axes(yaw),
        ),
    ]


def _touches(solid: Solid, eye: Floats) -> bool:
    """Whether a solid with an end comes closer to the eye than the clearance."""
    if isinstance(solid, Plane):
        return False
    outside = np.maximum(np.abs((eye - solid.centre_m) @ solid.axes.T) - solid.half_m, 0)
    return bool(np.linalg.norm(outside) < CLEARANCE_M)


def _horizontal(height_m: float) -> Plane:
    return Plane(np.array([0.0, height_m, 0.0]), np.ones(3), np.eye(3))


def _wall(yaw_rad: float, distance_m: float) -> Plane:
    """An endless upright plane; its texture's v axis points up."""
    out = np.array([np.sin(yaw_rad), 0.0, np.cos(yaw_rad)])
    along = np.array([out[2], 0.0, -out[0]])
    return Plane(out * distance_m, np.ones(3), np.stack([along, out, [0.0, 1.0, 0.0]]))


def _box(centre_m: object, half_m: object, yaw_rad: float) -> Box:
    return Box(np.asarray(centre_m, dtype=float), np.asarray(half_m, dtype=float), upright_axes(yaw_rad))


def _camera_axes(yaw_rad: float, pitch_up_rad: float, roll_rad: float) -> Floats:
    """Right, down and forward (3, 3) of a camera."""
    sin_y, cos_y, sin_p, cos_p = np.sin(yaw_rad), np.cos(yaw_rad), np.sin(pitch_up_rad), np.cos(pitch_up_rad)
    forward = np.array([sin_y * cos_p, sin_p, cos_y * cos_p])
    right = np.array([cos_y, 0.0, -sin_y])
    down = np.array([sin_y * sin_p, -cos_p, cos_y * sin_p])
    cos_r, sin_r = np.cos(roll_rad), np.sin(roll_rad)
    return np.stack([cos_r * right + sin_r * down, cos_r * down - sin_r * right, forward])
