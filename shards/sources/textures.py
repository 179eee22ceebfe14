"""Procedural textures: colours of surface points, fixed to the surface and so the same in both eyes.

A texture is a pattern of two colours (checks, bricks, windows, dots ...) over a noise that has structure at every
scale, so that a matcher finds something to hold on to near and far. The finest detail fades where a picture point
covers more than it, as the lens of a camera would have it, instead of flickering between the eyes.

    texture = draw_texture(rng)
    rgb = paint(texture, u_m, v_m, footprint_m)  # (3, N)
"""

import colorsys
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from shards.randomness import CounterRng
from shards.sources.photos import Photos, Pyramid, sample
from shards.sources.primitives import Floats

__all__ = ["PATTERNS", "PLAIN", "Texture", "draw_photo", "draw_texture", "noise", "paint"]

PATTERNS = ("checks", "stripes", "bricks", "tiles", "planks", "windows", "patches", "dots")
PLAIN = ("clouds", "plain")
"""Without a pattern."""
PERIOD_M = 0.6
PHOTO_HEIGHT_M = (0.8, 5.0)
ATLAS_LEVELS = 9
ATLAS_SIDE = 2**ATLAS_LEVELS
COARSEST = 1 / 48

# Cells of a grid: width over height, shift of each row in cells, share of the border, and how much cells differ.
CELLS = {
    "bricks": (1.8, 0.5, 0.18, 0.30),
    "tiles": (1.0, 0.0, 0.16, 0.25),
    "planks": (3.0, 0.37, 0.14, 0.40),
    "windows": (0.8, 0.0, 0.5, 0.40),
    "patches": (1.3, 0.0, 0.0, 0.90),
}


@dataclass(frozen=True)
class Texture:
    """How a surface is painted.

    Args:
        kind: One of the patterns, or `photo`.
        colours: (2, 3) RGB in 0..1.
        scale_m: Period of the pattern in metres.
        turn_rad: By how much the pattern is turned on the surface.
        shift: (2,) where it starts, in periods.
        grain: Strength of the noise.
        grain_m: Finest detail of the noise in metres.
        photo: What a `photo` shows, `scale_m` high; it has no other colours and no noise.
    """

    kind: str
    colours: Floats
    scale_m: float
    turn_rad: float
    shift: Floats
    grain: float
    grain_m: float
    photo: Pyramid | None = None


def draw_texture(rng: CounterRng, *, kinds: tuple[str, ...] = PATTERNS, magnify: float = 1.0) -> Texture:
    """A random texture.

    Args:
        rng: Source of the draws.
        kinds: Patterns to choose from.
        magnify: Factor on all sizes; 1 suits things of a metre.
    """
    draws = rng.uniform(14)
    first, second = (
        colorsys.hsv_to_rgb(hue, 0.75 * saturation**1.5, 0.25 + 0.75 * value)
        for hue, saturation, value in (draws[:3], draws[3:6])
    )
    if abs(draws[2] - draws[5]) < 0.35:
        second = colorsys.hsv_to_rgb(draws[3], 0.75 * draws[4] ** 1.5, 0.25 + 0.75 * ((draws[2] + 0.5) % 1.0))
    kind = kinds[int(draws[6] * len(kinds))]
    quarter_turns = np.floor(4 * draws[7])
    spread = 1.25 ** (2 * draws[8] - 1)
    return Texture(
        kind=kind,
        colours=np.array([first, second]),
        scale_m=float(magnify * PERIOD_M * spread),
        turn_rad=float(np.pi / 2 * (quarter_turns + (draws[9] if draws[10] < 0.2 else 0))),
        shift=draws[11:13] * 64,
        grain=float(0.05 + 0.09 * draws[13]),
        grain_m=float(magnify * 0.012 * spread),
    )


def draw_photo(rng: CounterRng, photos: Photos, *, magnify: float = 1.0) -> Texture:
    """A random photograph as a texture, mostly upright; `magnify` as of `draw_texture`.

    Raises:
        DecodeError: It cannot be decoded.
    """
    draws = rng.uniform(6)
    smallest, largest = PHOTO_HEIGHT_M
    return Texture(
        kind="photo",
        colours=np.zeros((2, 3)),
        scale_m=float(magnify * smallest * (largest / smallest) ** draws[0]),
        turn_rad=float(np.pi / 2 * np.floor(4 * draws[1]) if draws[2] < 0.3 else 0.0),
        shift=draws[3:5] * 2,
        grain=0.0,
        grain_m=1.0,
        photo=photos.pyramid(int(draws[5] * len(photos.names))),
    )


def paint(texture: Texture, u_m: Floats, v_m: Floats, footprint_m: Floats) -> Floats:
    """Colours of surface points.

    Args:
        texture: What to paint.
        u_m: (N,) first surface coordinate.
        v_m: (N,) second one.
        footprint_m: (N,) side of the patch of surface that the picture point covers.

    Returns:
        (3, N) RGB, 0..1 but for the noise.
    """
    dtype = u_m.dtype
    cos, sin = np.cos(texture.turn_rad) / texture.scale_m, np.sin(texture.turn_rad) / texture.scale_m
    u = u_m * dtype.type(cos) - v_m * dtype.type(sin) + dtype.type(texture.shift[0])
    v = u_m * dtype.type(sin) + v_m * dtype.type(cos) + dtype.type(texture.shift[1])
    if texture.photo is not None:
        return sample(texture.photo, u, -v, footprint_m / dtype.type(texture.scale_m))
    grain = noise(u_m / texture.grain_m, v_m / texture.grain_m, footprint_m / texture.grain_m)
    mix, tint = _pattern(texture.kind, u, v, footprint_m / dtype.type(texture.scale_m), grain)
    light = 1 + dtype.type(texture.grain) * grain + tint
    first, second = texture.colours.astype(dtype)
    return np.stack([(a + (b - a) * mix) * light for a, b in zip(first, second, strict=True)])


def noise(x: Floats, y: Floats, footprint: Floats) -> Floats:
    """Noise of zero mean and unit deviation with equal contrast in every octave, as float32 (N,).

    Args:
        x: (N,) coordinates in units of the finest detail; the noise repeats after 512.
        y: (N,) the same.
        footprint: (N,) side of the square over which it is averaged.
    """
    levels, starts = _atlas()
    level = np.clip(np.log2(np.maximum(footprint, 1)) + 0.5, 0, ATLAS_LEVELS).astype(np.int32)
    side = np.right_shift(ATLAS_SIDE, level)
    shrink = (side / ATLAS_SIDE).astype(np.float32)
    x, y = x * shrink - 0.5, y * shrink - 0.5
    x_floor, y_floor = np.floor(x), np.floor(y)
    x_part, y_part = x - x_floor, y - y_floor
    column, row = x_floor.astype(np.int32), y_floor.astype(np.int32)
    last = side - 1
    left, right = column & last, (column + 1) & last
    start = starts[level]
    top, bottom = start + (row & last) * side, start + ((row + 1) & last) * side
    above, below = levels[top + left], levels[bottom + left]
    above = above + (levels[top + right] - above) * x_part
    below = below + (levels[bottom + right] - below) * x_part
    blend: Floats = above + (below - above) * y_part
    return blend


@cache
def _atlas() -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A noise picture that repeats, at all halvings of its side, laid end to end; and where each begins."""
    white = CounterRng("texture atlas").uniform(ATLAS_SIDE**2).reshape(ATLAS_SIDE, ATLAS_SIDE) - 0.5
    frequency = np.hypot(np.fft.fftfreq(ATLAS_SIDE)[:, None], np.fft.rfftfreq(ATLAS_SIDE)[None, :])
    # Equal contrast in every octave, but for what is coarser than 1 / COARSEST.
    spectrum = frequency / (frequency**2 + COARSEST**2)
    level = np.fft.irfft2(np.fft.rfft2(white) * spectrum, s=white.shape)
    level = np.clip(level / level.std(), -2.5, 2.5)
    levels = []
    while True:
        levels.append(level.ravel())
        if level.size == 1:
            break
        level = (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2]) / 4
    starts = np.cumsum([0] + [flat.size for flat in levels[:-1]])
    return np.concatenate(levels).astype(np.float32), starts.astype(np.int32)


def _pattern(kind: str, u: Floats, v: Floats, footprint: Floats, grain: Floats) -> tuple[Floats, Floats | float]:
    """Share of the second colour (N,) and a brightening that differs from cell to cell."""
    if kind == "checks":
        return 0.5 + 0.5 * _wave(u, footprint) * _wave(v, footprint), 0.0
    if kind == "stripes":
        return 0.5 + 0.5 * _wave(u, footprint), 0.0
    if kind == "dots":
        radius = np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5)
        return _fade(footprint, np.clip((0.32 - radius) / np.maximum(footprint, 0.02) + 0.5, 0, 1), 0.32), 0.0
    if kind == "clouds":
        return np.clip(0.5 + 0.4 * grain, 0, 1), 0.0
    if kind == "plain":
        return np.zeros_like(u), 0.0
    aspect, row_shift, border, contrast = CELLS[kind]
    row = np.floor(v)
    along = u / aspect + row_shift * row
    column = np.floor(along)
    edge = np.minimum(0.5 - np.abs(v - row - 0.5), (0.5 - np.abs(along - column - 0.5)) * aspect) - border / 2
    inside = np.clip(edge / np.maximum(footprint, 0.02) + 0.5, 0, 1)
    cell = _fade(footprint, _cell_value(row, column) - 0.5, 0.0)
    if kind == "patches":
        return 0.5 + contrast * cell, 0.0
    return 1 - _fade(footprint, inside, (1 - border) ** 2), contrast * cell * inside


def _wave(x: Floats, footprint: Floats) -> Floats:
    """A square wave -1..1 of period 1 whose edges are as wide as the footprint, so that it fades where that is wide."""
    wave: Floats = np.clip((0.25 - np.abs(x - np.floor(x) - 0.5)) / np.maximum(footprint / 2, 0.01), -1, 1)
    return wave


def _fade(footprint: Floats, pattern: Floats, mean: float) -> Floats:
    """The pattern where its period is resolved, its mean where it is not."""
    return mean + (pattern - mean) / (1 + (2 * footprint) ** 4)


def _cell_value(row: Floats, column: Floats) -> Floats:
    """A number 0..1 for each cell of a grid, from integer hashing."""
    mixed = (row.astype(np.int32).astype(np.uint32) * np.uint32(0x9E3779B1)) ^ (
        column.astype(np.int32).astype(np.uint32) * np.uint32(0x85EBCA77)
    )
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    mixed = mixed ^ (mixed >> np.uint32(12))
    value: Floats = (mixed & np.uint32(0xFFFF)).astype(row.dtype) / 65535
    return value
