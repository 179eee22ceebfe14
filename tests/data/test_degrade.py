import io

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data.config import AugmentConfig
from pipeline.data.degrade import degrade
from shards.randomness import CounterRng


def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def test_nothing_happens_unless_asked_for() -> None:
    image = picture()
    assert degrade(image, AugmentConfig(), CounterRng(0)) is image


@pytest.mark.parametrize("name", ["blur", "jpeg"])
@pytest.mark.parametrize("chance", [0.3, 1.0])
def test_each_happens_as_often_as_configured(name: str, chance: float) -> None:
    image = picture()
    config = AugmentConfig(**{f"{name}_probability": chance}, blur_sigma_max_px=20)
    changed = [not np.array_equal(degrade(image, config, CounterRng(number)), image) for number in range(200)]
    # A blur of less than 0.3 px, one of seventy, changes nothing.
    assert np.mean(changed) == pytest.approx(chance, abs=0.08)


def test_a_compressed_picture_is_what_pillow_reads_from_such_a_jpeg() -> None:
    image = picture()
    config = AugmentConfig(jpeg_probability=1, jpeg_quality_min=95)
    found = degrade(image, config, CounterRng(1))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    wanted = np.asarray(Image.open(file)).astype(int)
    assert found.dtype == np.uint8
    assert np.abs(found - wanted).max() <= 3  # channels in place, colours not swapped


def test_a_blur_takes_away_detail_and_keeps_the_mean() -> None:
    image = picture()
    config = AugmentConfig(blur_probability=1, blur_sigma_max_px=4)
    spreads = []
    for number in range(20):
        blurred = degrade(image, config, CounterRng(number)).astype(float)
        assert np.abs(blurred.mean((0, 1)) - image.mean((0, 1))).max() < 1.5
        spreads.append(float(blurred.std()))
    assert min(spreads) < 0.6 * image.std()
    assert max(spreads) <= image.std() + 0.1


def test_the_key_alone_decides() -> None:
    config = AugmentConfig(blur_probability=0.5, jpeg_probability=0.5, jpeg_quality_min=10)
    twice = [[degrade(picture(), config, CounterRng(number)) for number in range(12)] for _ in range(2)]
    assert all(np.array_equal(*pair) for pair in zip(*twice, strict=True))
