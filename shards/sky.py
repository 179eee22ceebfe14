"""Where a picture shows sky, conservatively: what is found is sky, what is missed stays unknown.

Matching finds nothing in a clear sky, or noise; but it is surely the farthest of all. Found is what hangs from the
upper border, is smooth, and is blue, or as bright as clouds; and where the few matches inside it, if there are any,
say that it is at least as far as almost everything else. A bright ceiling fails that last test, as the wall under it
is farther; so does a blue wall in the foreground.

    sky = find_sky(picture, disparity_px)       # bool (H, W)
"""

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["find_sky"]

_SIDE_PX = 320  # sky is large: a small version tells, and its texture is not JPEG noise
_SMOOTH = 14.0
_BLUE = 12.0
_BRIGHT_BLUE = 70
_CLOUD = 150
_CLOUD_TINT = 34
_MIN_SHARE = 0.02
_MIN_TOP_SHARE = 0.15
_FAR_PERCENTILE = 15
_FAR_SLACK = 0.05
_MIN_WITNESSES = 0.02

Mask = NDArray[np.bool_]


def find_sky(picture: NDArray[np.uint8], disparity_px: NDArray[np.float32]) -> Mask:
    """Find the sky.

    Args:
        picture: uint8 (H, W, 3).
        disparity_px: float32 (H, W), larger = nearer, NaN where unknown.

    Returns:
        bool (H, W).
    """
    height, width = disparity_px.shape
    scale = min(1.0, _SIDE_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    candidate = _smooth(small) & (_blue(small) | _cloudy(small))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(candidate.astype(np.uint8), connectivity=4)
    sky = np.zeros(candidate.shape, dtype=bool)
    depth = np.asarray(cv2.resize(disparity_px, size, interpolation=cv2.INTER_NEAREST), dtype=np.float32)
    for label in np.unique(labels[0][candidate[0]]):
        region = labels == label
        large = stats[label, cv2.CC_STAT_AREA] >= _MIN_SHARE * region.size
        hangs = np.count_nonzero(region[0]) >= _MIN_TOP_SHARE * region.shape[1]
        if large and hangs and _is_far(region, depth, bool(np.median(_blueness(small)[region]) > _BLUE)):
            sky |= region
    whole = cv2.resize(sky.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    # A pixel of the small version that is half sky is none: its edge would put sky on the roof.
    return np.asarray(cv2.erode(whole, np.ones((3, 3), np.uint8), iterations=max(1, round(1 / scale))) > 0)


def _is_far(region: Mask, depth: NDArray[np.float32], blue: bool) -> bool:
    """Whether the matches inside speak for the far end; clouds need such witnesses, a blue sky only none against."""
    inside, outside = depth[region & np.isfinite(depth)], depth[~region & np.isfinite(depth)]
    if inside.size < _MIN_WITNESSES * np.count_nonzero(region):
        return blue
    if outside.size < 50:
        return False
    low, far, high = np.percentile(outside, (2, _FAR_PERCENTILE, 98))
    return bool(np.median(inside) <= far + _FAR_SLACK * (high - low))


def _smooth(picture: NDArray[np.uint8]) -> Mask:
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.0)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.asarray(slope < _SMOOTH)


def _blueness(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    red, green, blue = (picture[..., channel].astype(np.float32) for channel in range(3))
    return np.asarray(np.minimum(blue - red, 2 * (blue - green) + 20), dtype=np.float32)


def _blue(picture: NDArray[np.uint8]) -> Mask:
    return np.asarray((_blueness(picture) > _BLUE) & (picture[..., 2] > _BRIGHT_BLUE))


def _cloudy(picture: NDArray[np.uint8]) -> Mask:
    tint = picture.max(axis=2).astype(np.int16) - picture.min(axis=2)
    cool = picture[..., 2].astype(np.int16) >= picture[..., 0].astype(np.int16) - 4
    return np.asarray((picture.min(axis=2) > _CLOUD) & (tint < _CLOUD_TINT) & cool)
