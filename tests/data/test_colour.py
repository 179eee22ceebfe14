import colorsys

import numpy as np
import pytest
import torch

from pipeline.data.colour import apply_colour, draw_colour
from pipeline.data.config import AugmentConfig
from shards.randomness import CounterRng


def pictures(seed: int = 0, batch: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (batch, 3, 11, 13), dtype=np.uint8))


def one_by_one(image: np.ndarray, brightness: float, contrast: float, saturation: float, hue_rad: float) -> np.ndarray:
    """The slow reference: a step after the other for each pixel of one picture, float64."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    rgb = image.astype(np.float64).transpose(1, 2, 0) / 255
    mean = (rgb @ to_yiq[0]).mean()
    out = np.empty_like(rgb)
    for place in np.ndindex(rgb.shape[:2]):
        y, i, q = to_yiq @ rgb[place]
        turned = complex(i, q) * saturation * np.exp(1j * hue_rad)
        changed = np.linalg.solve(to_yiq, [y, turned.real, turned.imag])
        out[place] = brightness * (contrast * (changed - mean) + mean)
    return out.clip(0, 1).transpose(2, 0, 1)


def test_a_batch_is_changed_as_each_picture_alone() -> None:
    parameters = torch.tensor([[1.3, 0.6, 1.0, 0.0], [0.7, 1.5, 0.2, 1.1], [1.0, 1.0, 1.7, -2.5]])
    image = pictures()
    changed = apply_colour(image, parameters)
    assert changed.dtype == torch.float32
    for found, one, row in zip(changed, image, parameters.tolist(), strict=True):
        # The rows of the YIQ matrix are published to four digits, so I and Q of a grey are only nearly 0.
        np.testing.assert_allclose(found.numpy(), one_by_one(one.numpy(), *row), atol=5e-4)


def test_what_is_left_alone_is_exactly_the_picture() -> None:
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    image[1, 1:] = image[1, 1:].flip(1)
    for colour in (torch.zeros(2, 0), torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(2, 1)):
        assert torch.equal(apply_colour(image, colour), image.float() / 255)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(apply_colour(image, torch.tensor([[1.0, 1.0, 1.0, 0.0]] * 2)), image.float() / 255)


def test_the_hue_turns_red_towards_green_and_keeps_the_grey() -> None:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    image = torch.tensor([150, 110, 110], dtype=torch.uint8).view(1, 3, 1, 1)
    hues = []
    for degrees in (0, 60, 120, 180):
        turned = apply_colour(image, torch.tensor([[1.0, 1.0, 1.0, np.radians(degrees)]]))
        torch.testing.assert_close((turned * weights).sum(), (image / 255 * weights).sum(), atol=1e-3, rtol=0)
        hues.append(360 * colorsys.rgb_to_hsv(*turned.flatten().tolist())[0])
    turns = np.diff(np.unwrap(hues, period=360))
    assert (np.abs(np.abs(turns) - 60) < 25).all(), hues
    assert len({float(sign) for sign in np.sign(turns)}) == 1


def test_draws_stay_in_their_bounds_and_reach_them() -> None:
    config = AugmentConfig(brightness=0.3, contrast=0.2, saturation=0.5, hue_deg=18, colour_probability=0.8)
    drawn = torch.stack([draw_colour(config, CounterRng(number)) for number in range(500)]).double()
    still = (drawn == torch.tensor([1.0, 1.0, 1.0, 0.0])).all(1)
    assert still.float().mean() == pytest.approx(0.2, abs=0.06)
    off = drawn[~still] - torch.tensor([1.0, 1.0, 1.0, 0.0])
    reach = torch.tensor([0.3, 0.2, 0.5, np.radians(18)])
    assert (off.abs() <= reach + 1e-6).all()
    assert (off.max(0).values > 0.95 * reach).all()
    assert (off.min(0).values < -0.95 * reach).all()


@pytest.mark.parametrize("config", [AugmentConfig(), AugmentConfig(brightness=0.4, colour_probability=0)])
def test_colour_that_is_off_has_no_parameters(config: AugmentConfig) -> None:
    assert draw_colour(config, CounterRng(0)).shape == (0,)
