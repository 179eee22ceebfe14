"""Random worlds: rooms, streets and open places with things that stand, lean, hang and float, and a camera in them.

What is drawn for light, colours and textures knows nothing of where a thing stands, so that neither brightness nor
texture tells the depth. Ceilings, tree crowns and what hangs in the air are near at the top of the picture, and the
camera looks up, looks down and tilts its head: the depth has to be read from the shape of things.

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
"""A world is one of these with equal chance."""
MAX_ROLL_RAD = np.radians(25)
PITCH_UP_DEG = {"room": (-18, 18), "street": (-18, 15), "open": (-24, 6)}
NUM_GROUPS = (0, 4)
NEAREST_GROUP_M = 2.2
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
    setting = {"room": _room, "street": _street, "open": _open}[kind](draw)
    solids = list(setting.solids)
    for _ in range(int(draw.between(*NUM_GROUPS))):
        bearing = setting.yaw_rad + draw.between(-0.55, 0.55)
        distance = draw.log_between(NEAREST_GROUP_M, setting.reach_m)
        spot = setting.eye_m + distance * np.array([np.sin(bearing), 0.0, np.cos(bearing)])
        solids += _group(draw, float(spot[0]), float(spot[2]), setting.ceiling_m)
    pitch_up_rad = np.radians(draw.between(*PITCH_UP_DEG[kind]))
    axes = _camera_axes(setting.yaw_rad, pitch_up_rad, draw.between(-MAX_ROLL_RAD, MAX_ROLL_RAD))
    camera = Camera(setting.eye_m, axes, np.radians(draw.between(60, 80)))
    height, turn = draw.between(0.1, 1), draw.between(0, 2 * np.pi)
    flat = np.sqrt(1 - height**2)
    return World(
        kind=kind,
        things=[Thing(solid, draw_texture(rng)) for solid in solids if not _touches(solid, setting.eye_m)],
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


@dataclass(frozen=True)
class _Setting:
    """What stands before anything is put into it."""

    solids: list[Solid]
    eye_m: Floats
    yaw_rad: float
    """Where the eye looks; 0 is along z."""
    reach_m: float
    """How far from the eye things may stand."""
    ceiling_m: float = 30.0
    """Its height; far up where there is none."""


def _room(draw: _Draw) -> _Setting:
    """A room or a corridor, seen along its length."""
    half_x, half_z, height = draw.between(1.2, 3.2), draw.between(5, 11), draw.between(2.2, 3.8)
    walls = [_wall(turn * np.pi / 2, (half_z, half_x)[turn % 2]) for turn in range(4)]
    eye = np.array(
        [draw.between(-0.7, 0.7) * half_x, draw.between(0.25, 0.75) * height, -draw.between(0.4, 0.9) * half_z]
    )
    yaw = draw.between(-0.22, 0.22) - 0.6 * eye[0] / half_z
    return _Setting([_horizontal(0.0), _horizontal(height), *walls], eye, yaw, 0.8 * half_z, height)


def _street(draw: _Draw) -> _Setting:
    """A street between houses or a covered passage, mostly with something at its end."""
    half_width = draw.log_between(1.5, 4)
    covered = draw.chance(0.4)
    ceiling = draw.between(2.4, 4) if covered else 30.0
    solids: list[Solid] = [_horizontal(0.0)]
    if covered:
        solids.append(_horizontal(ceiling))
    for side in (-1, 1):
        if covered or draw.chance(0.8):
            tall = 3.0 if covered else draw.log_between(1.2, 5)
            solids.append(_box([side * (half_width + 3), tall, 15], [3, tall, 25], 0.0))
    if draw.chance(0.7):
        solids.append(_box([0, 4, draw.log_between(12, 30)], [40, 4, 1], 0.0))
    eye = np.array([draw.between(-0.6, 0.6) * half_width, draw.between(0.5, 2), 0.0])
    return _Setting(solids, eye, draw.between(-0.22, 0.22), 12.0, ceiling)


def _open(draw: _Draw) -> _Setting:
    """A plain with some houses far off."""
    eye = np.array([0.0, draw.log_between(0.6, 3), 0.0])
    yaw = draw.between(-np.pi, np.pi)
    solids: list[Solid] = [_horizontal(0.0)]
    for _ in range(int(draw.between(0, 3))):
        bearing, distance = yaw + draw.between(-0.9, 0.9), draw.log_between(10, 30)
        size = [draw.between(1.5, 5), draw.log_between(1.2, 4), draw.between(1.5, 5)]
        centre = [distance * np.sin(bearing), size[1], distance * np.cos(bearing)]
        solids.append(_box(centre, size, draw.between(0, np.pi)))
    return _Setting(solids, eye, yaw, 9.0)


def _group(draw: _Draw, x: float, z: float, ceiling_m: float) -> list[Solid]:
    """One thing, or some that belong together, at a spot on the ground."""
    axes = upright_axes(draw.between(0, np.pi))
    size = draw.log_between(0.15, 0.45)
    kind = int(draw.between(0, 9))
    if kind <= 2:  # a crate, perhaps with another on it
        half = np.array([size, size * draw.between(0.5, 1.6), size * draw.between(0.5, 1.5)])
        crates: list[Solid] = [Box(np.array([x, half[1], z]), half, axes)]
        if draw.chance(0.3):
            upper = 0.7 * size * draw.between(0.5, 1)
            crates.append(_box([x, 2 * half[1] + upper, z], [upper] * 3, draw.between(0, np.pi)))
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
