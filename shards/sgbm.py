"""Semi-global matching (Hirschmueller, PAMI 2008) of pictures whose rows are aligned, as OpenCV computes it.

It finds its way through repetition and bare walls, where a local search goes astray, but measures in coarse steps and
knows no vertical motion: `shards.match` lets flow start from it.

    left_disparity, right_disparity = match_rows(grey(left), grey(right), low_px=-20, high_px=75)
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shards.flow import pixel_grid, sample_at

__all__ = ["match_rows"]

Floats = NDArray[np.float32]

_BLOCK_PX = 3
_STEP_PX = 16  # OpenCV counts disparities in multiples of this
_AGREE_PX = 1.0


def match_rows(
    left: NDArray[np.uint8], right: NDArray[np.uint8], low_px: float, high_px: float
) -> tuple[Floats, Floats]:
    """Disparity of both pictures where left and right agree within a pixel.

    Args:
        left: uint8 (H, W).
        right: uint8 (H, W).
        low_px: Least disparity that is searched for; any sign.
        high_px: Greatest disparity.

    Returns:
        float32 (H, W) of the left and of the right picture's pixels: x in left minus x in right, NaN where unknown.
    """
    low = int(np.floor(low_px))
    count = -(-max(int(np.ceil(high_px)) - low, 1) // _STEP_PX) * _STEP_PX
    of_left = _one_way(left, right, low, count)
    of_right = _one_way(right[:, ::-1], left[:, ::-1], low, count)[:, ::-1]
    return _agreeing(of_left, of_right, -1.0), _agreeing(of_right, of_left, 1.0)


def _one_way(left: NDArray[np.uint8], right: NDArray[np.uint8], low: int, count: int) -> Floats:
    # OpenCV leaves out the columns whose whole search range is not in the picture; a margin gives them back.
    margin = max(low + count, -low, 0) + 2
    left, right = (cv2.copyMakeBorder(side, 0, 0, margin, margin, cv2.BORDER_REPLICATE) for side in (left, right))  # type: ignore[assignment]
    matcher: Any = cv2.StereoSGBM.create(
        minDisparity=low,
        numDisparities=count,
        blockSize=_BLOCK_PX,
        P1=8 * _BLOCK_PX**2,
        P2=32 * _BLOCK_PX**2,
        disp12MaxDiff=-1,
        preFilterCap=31,
        mode=cv2.StereoSGBM_MODE_SGBM_3WAY,
    )
    sixteenths = matcher.compute(left, right)[:, margin:-margin]
    return np.where(sixteenths >= low * 16, sixteenths / np.float32(16), np.float32(np.nan)).astype(np.float32)


def _agreeing(disparity: Floats, other: Floats, sign: float) -> Floats:
    x, y = pixel_grid(*disparity.shape)
    filled = np.nan_to_num(other, nan=1e5)
    there = sample_at(filled, x + sign * np.nan_to_num(disparity), y, outside=1e6)
    return np.where(np.abs(there - disparity) <= _AGREE_PX, disparity, np.float32(np.nan))
