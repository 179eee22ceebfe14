"""Small stereo pairs with exact truth: textured rectangles in front of a textured wall, no renderer involved."""

import json

import cv2
import numpy as np


def texture(height, width, seed):
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3))
    fine, coarse = cv2.GaussianBlur(noise, (0, 0), 1.0), cv2.GaussianBlur(noise, (0, 0), 5.0)
    both = (fine - fine.mean()) / fine.std() + (coarse - coarse.mean()) / coarse.std()
    tint = np.random.default_rng(seed + 1000).uniform(60, 190, 3)
    return np.clip(tint + 28 * both, 0, 255)


def stereo_pair(
    height=180,
    width=240,
    *,
    wall_px=3.0,
    boxes=((40, 110, 50, 100, 14.0), (90, 160, 140, 200, 9.0)),
    lean_px=0.0,
    seed=0,
):
    """Left, right (uint8) and the disparity of the left picture in pixels.

    A box is y0, y1, x0, x1 in the left picture and the disparity at its middle; later ones are nearer. Every surface
    leans: its disparity grows to the right by `lean_px` over the width of the picture. Without it all are cut-outs.
    """
    left, right = np.zeros((2, height, width, 3), dtype=np.float32)
    disparity = np.zeros((height, width), dtype=np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for index, (y0, y1, x0, x1, shift) in enumerate(((0, height, -100, width + 100, wall_px), *boxes)):
        skin = texture(height, width + 200, seed * 100 + index).astype(np.float32)
        inside_rows = (y >= y0) & (y < y1)
        slope, middle = lean_px / width, (x0 + x1) / 2
        seen_at = ((x + shift - slope * middle) / (1 - slope)).astype(np.float32)  # where the left eye sees it
        in_left, in_right = inside_rows & (x >= x0) & (x < x1), inside_rows & (seen_at >= x0) & (seen_at < x1)
        left[in_left] = cv2.remap(skin, x + 100, y, cv2.INTER_CUBIC)[in_left]
        right[in_right] = cv2.remap(skin, seen_at + 100, y, cv2.INTER_CUBIC)[in_right]
        disparity[in_left] = (shift + slope * (x - middle))[in_left]
    return np.clip(left, 0, 255).astype(np.uint8), np.clip(right, 0, 255).astype(np.uint8), disparity


def moved(picture, *, degrees=0.0, scale=1.0, down_px=0.0, right_px=0.0):
    """A picture as a camera that was held differently would have taken it."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    matrix[:, 2] += (right_px, down_px)
    return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def mirrored(picture):
    return np.ascontiguousarray(picture[:, ::-1])


def truth_scenes(root):
    for entry in json.loads((root / "gt" / "index.json").read_text()):
        if entry["kind"] == "stereo":
            folder = root / "gt" / entry["scene"]
            pictures = [
                cv2.cvtColor(cv2.imread(str(folder / f"{n}.png")), cv2.COLOR_BGR2RGB) for n in ("left", "right")
            ]
            truth = cv2.imread(str(folder / "disparity.png"), cv2.IMREAD_UNCHANGED).astype(np.float32)
            yield entry["scene"], *pictures, truth / entry["divisor"]
