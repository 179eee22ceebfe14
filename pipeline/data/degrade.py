"""Loss of quality as in pictures from the web: Gaussian blur, then another JPEG compression.

image = degrade(image, config, CounterRng(*key, "degrade"))
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.data.config import AugmentConfig
from shards.randomness import CounterRng

__all__ = ["degrade"]

_SIGMA_MIN_PX = 0.1
_QUALITY_MAX = 95


def degrade(image: NDArray[np.uint8], config: AugmentConfig, rng: CounterRng) -> NDArray[np.uint8]:
    """Blur and compress a picture by chance.

    Args:
        image: uint8 (h, w, 3) RGB.
        config: Chances and strengths.
        rng: Source of the draws.

    Returns:
        uint8 (h, w, 3); the same array where nothing happens.
    """
    if config.blur_probability == 0 and config.jpeg_probability == 0:
        return image
    blur, sigma_draw, jpeg, quality_draw = rng.uniform(4).tolist()
    if blur >= config.blur_probability and jpeg >= config.jpeg_probability:
        return image
    picture = image
    if blur < config.blur_probability:
        sigma_px = _SIGMA_MIN_PX + sigma_draw * (config.blur_sigma_max_px - _SIGMA_MIN_PX)
        picture = cv2.GaussianBlur(picture, (0, 0), sigma_px).astype(np.uint8, copy=False)
    if jpeg < config.jpeg_probability:
        quality = config.jpeg_quality_min + int(quality_draw * (_QUALITY_MAX + 1 - config.jpeg_quality_min))
        written, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert written
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        assert decoded is not None
        picture = decoded.astype(np.uint8, copy=False)
    return picture
