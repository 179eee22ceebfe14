"""Stereo pairs of random worlds with exact disparity: the data of the demo and the measure of the matcher.

A scene is a pure function of its seed, split and index. The right eye stands on the left eye's own x axis, so the pair
is rectified by construction, and `disparity_px = focal_px * baseline_m / Z` holds for every pixel of the left picture.

    scene = render_scene(seed=0, index=17, height_px=144, width_px=192)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.randomness import CounterRng
from shards.sources.photos import Photos
from shards.sources.primitives import NEAREST_M, Floats, Rays, Solid
from shards.sources.textures import paint
from shards.sources.worlds import SKY_M, SPACES, World, draw_world

__all__ = ["Scene", "render_scene"]

SUBPIXELS = 2
SURVEY_STEP_PX = 4
MAX_TRIES = 20
RANGE_SHARE = (0.065, 0.105)
MAX_DISPARITY_SHARE = 0.16
GRAZING = 0.05
SKY_SHADE = np.float32(0.88)  # the mean shade of floors, or brightness would tell the sky


@dataclass(frozen=True)
class Scene:
    """A rendered stereo pair.

    Args:
        left: uint8 (H, W, 3) RGB.
        right: uint8 (H, W, 3) RGB.
        disparity_px: float32 (H, W), exact at the pixel centres of `left`: the point at column x stands at column
            x - disparity in `right`. Positive, larger = nearer, proportional to inverse depth.
        focal_px: Focal length.
        baseline_m: Distance of the eyes.
        world: What was rendered.
    """

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    disparity_px: NDArray[np.float32]
    focal_px: float
    baseline_m: float
    world: World


def render_scene(
    seed: int,
    index: int,
    height_px: int,
    width_px: int,
    *,
    split: str = "train",
    worlds: Sequence[str] = SPACES,
    photos: Photos | None = None,
) -> Scene:
    """Render one scene.

    The baseline suits the scene, as a stereo photographer chooses it: the disparity's P2-P98 range is 6.5 to 10.5 %
    of the width, or less where the nearest point would otherwise move by more than 16 %.

    Args:
        seed: Another seed gives other scenes.
        index: Number of the scene in its split.
        height_px: Height H.
        width_px: Width W.
        split: Scenes of different splits have nothing in common.
        worlds: Kinds of worlds to draw from (`shards.sources.worlds.WORLDS`).
        photos: To paint some of the things with; other ones give another scene.

    Raises:
        DecodeError: One of the photographs cannot be decoded.
    """
    rng = CounterRng("scene", split, seed, index)
    for _ in range(MAX_TRIES):
        world = draw_world(rng, worlds, photos)
        focal_px = width_px / 2 / np.tan(world.camera.fov_rad / 2)
        rays = _rays(world, focal_px, height_px, width_px)
        survey_m, _ = _cast(
            world, rays.window(slice(None, None, SURVEY_STEP_PX), slice(None, None, SURVEY_STEP_PX)), 0.0
        )
        far, near = 1 / np.percentile(survey_m, (98, 2))
        if near / far > world.depth_ratio_min:
            break
    low, high = RANGE_SHARE
    wanted_m = (low + (high - low) * float(rng.uniform(1)[0])) * width_px / focal_px / (near - far)
    baseline_m = float(min(wanted_m, MAX_DISPARITY_SHARE * width_px / focal_px * survey_m.min()))
    depth_m, _ = _cast(world, rays, 0.0)
    fine = _rays(world, focal_px, height_px, width_px, subpixels=SUBPIXELS)
    left, right = (_picture(world, fine, shift_m) for shift_m in (0.0, baseline_m))
    return Scene(left, right, (focal_px * baseline_m / depth_m).astype(np.float32), float(focal_px), baseline_m, world)


def _rays(world: World, focal_px: float, height_px: int, width_px: int, *, subpixels: int = 1) -> Rays:
    """Rays through the pixel centres, or in float32 through `subpixels` squared points of each pixel."""
    x, y = (((np.arange(side * subpixels) + 0.5) / subpixels - side / 2) / focal_px for side in (width_px, height_px))
    dtype = np.float64 if subpixels == 1 else np.float32
    return Rays(world.camera.axes, x.astype(dtype), y.astype(dtype))


def _cast(world: World, rays: Rays, shift_m: float) -> tuple[Floats, NDArray[np.int16]]:
    """Depth Z (H, W) in metres, and which thing is seen (H, W), -1 for the sky, from an eye moved to the right."""
    eye_m = world.camera.position_m + shift_m * world.camera.axes[0]
    depth_m = np.full((rays.y.size, rays.x.size), SKY_M, dtype=rays.x.dtype)
    seen = np.full(depth_m.shape, -1, dtype=np.int16)
    for number, thing in enumerate(world.things):
        window = _window(thing.solid, rays, eye_m)
        if window is None:
            continue
        met_m = thing.solid.cast(rays.window(*window), eye_m)
        nearer = met_m < depth_m[window]
        np.copyto(depth_m[window], met_m, where=nearer)
        np.copyto(seen[window], np.int16(number), where=nearer)
    return depth_m, seen


def _window(solid: Solid, rays: Rays, eye_m: Floats) -> tuple[slice, slice] | None:
    """The part of the picture that a solid can cover; None where it is out of sight."""
    corners_m = solid.corners_m()
    if corners_m is None:
        return slice(None), slice(None)
    points = (corners_m - eye_m) @ rays.axes.T
    ahead = points[:, 2] >= NEAREST_M
    if not ahead.any():
        return None
    if not ahead.all():  # cut off what lies behind the eye: the cut's corners are on lines between the corners
        front, back = points[ahead][:, None], points[~ahead][None, :]
        share = (NEAREST_M - back[..., 2:]) / (front[..., 2:] - back[..., 2:])
        points = np.concatenate([points[ahead], (back + share * (front - back)).reshape(-1, 3)])
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    rows, columns = (
        slice(int(np.searchsorted(grid, c.min())), int(np.searchsorted(grid, c.max(), side="right")))
        for grid, c in ((rays.y, y), (rays.x, x))
    )
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _picture(world: World, rays: Rays, shift_m: float) -> NDArray[np.uint8]:
    """What an eye moved to the right by `shift_m` sees, averaged over the subpixels."""
    depth_m, seen = _cast(world, rays, shift_m)
    eye_m = world.camera.position_m + shift_m * world.camera.axes[0]
    rgb = np.empty((3, depth_m.size), dtype=np.float32)
    for number in range(-1, len(world.things)):
        places = np.flatnonzero(seen == number)
        if not places.size:
            continue
        row, column = np.divmod(places, rays.x.size)
        x, y, z = rays.x[column], rays.y[row], depth_m.ravel()[places]
        if number < 0:
            pixel_m = np.full_like(z, SKY_M * (rays.x[1] - rays.x[0]))
            rgb[:, places] = paint(world.sky, x * z + np.float32(shift_m), y * z, pixel_m) * SKY_SHADE
        else:
            rgb[:, places] = _shade(world, number, rays, eye_m, x, y, z)
    fine = np.clip(rgb, 0, 1, out=rgb).reshape(3, rays.y.size, rays.x.size)
    total = sum(fine[:, i::SUBPIXELS, k::SUBPIXELS] for i in range(SUBPIXELS) for k in range(SUBPIXELS))
    return np.ascontiguousarray(np.rint(total * np.float32(255 / SUBPIXELS**2)).astype(np.uint8).transpose(1, 2, 0))


def _shade(world: World, number: int, rays: Rays, eye_m: Floats, x: Floats, y: Floats, z: Floats) -> Floats:
    """Colours (3, N) of points of one thing, given by their picture coordinates and depth."""
    solid, texture = world.things[number].solid, world.things[number].texture
    origin = solid.to_own(eye_m).astype(np.float32)
    ways = []
    for axis in solid.axes:
        right, down, forward = (rays.axes @ axis).astype(np.float32)
        ways.append(right * x + down * y + forward)
    own = [o + z * (way / np.float32(half)) for o, way, half in zip(origin, ways, solid.half_m, strict=True)]
    u_m, v_m, normal = solid.surface(own)
    light = (solid.axes @ world.light).astype(np.float32)
    facing = normal[0] * ways[0] + normal[1] * ways[1] + normal[2] * ways[2]
    slant = np.abs(facing) / np.sqrt(x * x + y * y + 1)
    footprint_m = z * (rays.x[1] - rays.x[0]) / np.sqrt(np.maximum(slant, GRAZING))
    towards = (normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2]) * -np.sign(facing)
    shade = np.float32(world.shadow) + np.float32(1 - world.shadow) * (0.5 + 0.5 * towards)
    colours: Floats = paint(texture, u_m.astype(np.float32), v_m.astype(np.float32), footprint_m) * shade
    return colours
