"""Random worlds to take stereo pictures in: a stage, paint on everything, light, and a sky behind it.

What is drawn for light, colours and textures knows nothing of where a thing stands, so that neither brightness nor
texture tells the depth.

    world = draw_world(CounterRng("scene", seed, index))

Lengths are metres; the world's y axis points up and the ground is y = 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shards.randomness import CounterRng
from shards.sources.interior import draw_interior
from shards.sources.photos import Photos
from shards.sources.primitives import Floats, Plane, Solid
from shards.sources.road import draw_road
from shards.sources.spaces import draw_open, draw_room, draw_street
from shards.sources.staging import Camera, Draw, Stage
from shards.sources.still_life import draw_pile, draw_still_life
from shards.sources.textures import PATTERNS, PLAIN, Texture, draw_photo, draw_texture

__all__ = ["SPACES", "WORLDS", "Thing", "World", "draw_world"]

WORLDS: dict[str, Callable[[Draw], Stage]] = {
    "room": draw_room,
    "street": draw_street,
    "open": draw_open,
    "road": draw_road,
    "interior": draw_interior,
    "still_life": draw_still_life,
    "pile": draw_pile,
}
"""The kinds of worlds by name."""
SPACES = ("room", "street", "open")
"""Those that can be matched everywhere: all surfaces have patterns."""
SKY_M = 120.0
PHOTO_SHARES = (0.0, 0.0, 0.5, 0.9)
"""Shares of the things that are painted with photographs, of which each world has one, where there are any."""


@dataclass(frozen=True)
class Thing:
    """A solid and its paint."""

    solid: Solid
    texture: Texture


@dataclass(frozen=True)
class World:
    """A world to take a picture in.

    Args:
        kind: One of `WORLDS`.
        things: All that can be seen, but for the sky.
        sky: Paint of the backdrop, a plane across the line of sight at `SKY_M`.
        camera: The left eye.
        light: (3,) direction towards the light, unit length.
        shadow: Brightness of a surface that is turned away from the light; 1 is one that faces it.
        depth_ratio_min: How many times as far as the nearest the farthest point has to be.
    """

    kind: str
    things: list[Thing]
    sky: Texture
    camera: Camera
    light: Floats
    shadow: float
    depth_ratio_min: float


def draw_world(rng: CounterRng, kinds: Sequence[str] = SPACES, photos: Photos | None = None) -> World:
    """A random world of one of the kinds, each with the same chance; the same for the same stream of draws.

    Args:
        rng: The stream.
        kinds: Of `WORLDS`.
        photos: To paint some of the things with.

    Raises:
        DecodeError: One of the photographs cannot be decoded.
    """
    draw = Draw(rng)
    kind = draw.one_of(kinds)
    stage = WORLDS[kind](draw)
    photo_share = 0.0 if photos is None else draw.one_of(PHOTO_SHARES)
    height, turn = draw.between(0.1, 1), draw.between(0, 2 * np.pi)
    flat = np.sqrt(1 - height**2)
    eye_m = stage.camera.position_m
    return World(
        kind=kind,
        things=[
            _painted(rng, solid, stage, photos, photo_share)
            for solid in stage.solids
            if not _touches(solid, eye_m, stage.clearance_m)
        ],
        sky=draw_texture(rng, kinds=PLAIN, magnify=SKY_M / 3),
        camera=stage.camera,
        light=np.array([flat * np.cos(turn), height, flat * np.sin(turn)]),
        shadow=draw.between(0.35, 0.6),
        depth_ratio_min=stage.depth_ratio_min,
    )


def _painted(rng: CounterRng, solid: Solid, stage: Stage, photos: Photos | None, photo_share: float) -> Thing:
    draw = Draw(rng)
    smallest, largest = stage.texture_size
    magnify = draw.log_between(smallest, largest) if smallest < largest else smallest
    if photos is not None and draw.chance(photo_share):
        return Thing(solid, draw_photo(rng, photos, magnify=magnify))
    plain = stage.plain_share > 0 and draw.chance(stage.plain_share)
    return Thing(solid, draw_texture(rng, kinds=PLAIN if plain else PATTERNS, magnify=magnify))


def _touches(solid: Solid, eye_m: Floats, clearance_m: float) -> bool:
    """Whether a solid with an end comes closer to the eye than the clearance."""
    if isinstance(solid, Plane):
        return False
    outside = np.maximum(np.abs((eye_m - solid.centre_m) @ solid.axes.T) - solid.half_m, 0)
    return bool(np.linalg.norm(outside) < clearance_m)
