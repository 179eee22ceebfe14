"""Predictions that look at no picture: what a network must beat to have learned anything.

In photographs the ground is near at the bottom and far above; on the usual sets this alone orders two thirds to four
fifths of all pairs rightly. Each baseline has the form of a predictor: picture (H, W, 3) in, inverse depth (H, W) out,
of unit standard deviation, so that a threshold in the unit of a network's output means something for it as well.

Which way round each is was decided before any figure: a road, a room and a street run away from the camera, so the
ground is near and the middle is far. Where a baseline is above 50 %, the set is the other way round.

    predict = BASELINES["lower is nearer"]
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BASELINES", "centre_is_farther", "lower_is_nearer"]


def lower_is_nearer(image: NDArray[Any]) -> NDArray[np.float32]:
    """Inverse depth grows with the row: (H, W, 3) to (H, W). Two points of one row tie."""
    height, width = image.shape[:2]
    column = np.arange(height, dtype=np.float32) * np.float32(np.sqrt(12) / height)
    return np.repeat(column[:, None], width, axis=1)


def centre_is_farther(image: NDArray[Any]) -> NDArray[np.float32]:
    """Inverse depth grows with the distance from the centre, in units of the sides: (H, W, 3) to (H, W)."""
    y, x = (np.linspace(-0.5, 0.5, side, dtype=np.float32) for side in image.shape[:2])
    return (y[:, None] ** 2 + x[None, :] ** 2) * np.float32(np.sqrt(90))


BASELINES = {"lower is nearer": lower_is_nearer, "centre is farther": centre_is_farther}
"""Name in a table -> predictor."""
