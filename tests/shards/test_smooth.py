import numpy as np
import pytest

from shards.smooth import _WINDOWS, _fit, _places, fit_planes


def plane(height=60, width=80, *, across=0.05, down=-0.08, offset=3.0):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return offset + across * x + down * y


def noise(shape, px, seed=0):
    return np.random.default_rng(seed).normal(0, px, shape).astype(np.float32)


def error(found, truth):
    return float(np.sqrt(np.nanmean((found - truth) ** 2)))


@pytest.mark.parametrize("noise_px", [0.02, 0.1, 0.15])
@pytest.mark.parametrize("slopes", [(0, 0), (0.05, -0.08), (-0.3, 0.2)])
def test_a_noisy_plane_comes_closer_to_the_truth(noise_px, slopes):
    truth = plane(across=slopes[0], down=slopes[1])
    noisy = truth + noise(truth.shape, noise_px)
    assert error(fit_planes(noisy), truth) < 0.3 * error(noisy, truth)


def test_holes_neither_spread_nor_shrink_and_hold_no_part():
    truth = plane()
    holes = np.random.default_rng(1).random(truth.shape) < 0.3
    holes[:, :20] = True
    noisy = truth + noise(truth.shape, 0.1)
    found = fit_planes(np.where(holes, np.nan, noisy).astype(np.float32))
    np.testing.assert_array_equal(np.isnan(found), holes)
    assert found.dtype == np.float32
    assert error(found, truth) < 0.4 * error(noisy, truth)


@pytest.mark.parametrize("step_px", [2.0, 5.0, 40.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_step_stays_where_it_is(step_px, axis):
    truth = plane(across=0.02, down=0.01)
    second = np.arange(truth.shape[axis]) >= 30
    truth = truth + np.float32(step_px) * np.expand_dims(second, 1 - axis)
    found = fit_planes(truth)
    assert np.abs(found - truth).max() < 0.3
    noisy = fit_planes(truth + noise(truth.shape, 0.05))
    jump = np.diff(noisy, axis=axis)
    assert (np.argmax(np.abs(jump), axis=axis) == 29).all()
    assert np.abs(noisy - truth).max() < 0.4


def test_a_thin_post_is_not_swallowed():
    truth = plane(across=0.0, down=0.0)
    truth[:, 40:42] += 6
    found = fit_planes(truth + noise(truth.shape, 0.05))
    assert np.abs(found - truth).max() < 0.5


def test_constant_lonely_and_empty_maps_stay():
    for shape in ((1, 1), (1, 40), (40, 1), (3, 5), (50, 60)):
        constant = np.full(shape, -7.25, np.float32)
        np.testing.assert_allclose(fit_planes(constant), constant, atol=1e-5)
        assert np.isnan(fit_planes(np.full(shape, np.nan, np.float32))).all()
    lonely = np.full((20, 30), np.nan, np.float32)
    lonely[4, 5] = 12.5
    np.testing.assert_allclose(fit_planes(lonely), lonely, rtol=1e-6)


def test_adding_a_plane_before_is_adding_it_after():
    rng = np.random.default_rng(5)
    shape = (50, 60)
    bumps = np.where(np.arange(60) < 25, 0, 3) + noise(shape, 0.2)
    values = np.where(rng.random(shape) < 0.1, np.nan, bumps).astype(np.float32)
    added = plane(*shape, across=0.4, down=-0.3, offset=-50)
    difference = fit_planes(values + added) - added - fit_planes(values)
    assert np.nanmax(np.abs(difference)) < 0.02


def test_turning_the_map_turns_the_result():
    values = (plane(40, 40) + noise((40, 40), 0.2)).astype(np.float32)
    np.testing.assert_allclose(fit_planes(values[:, ::-1]), fit_planes(values)[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(fit_planes(values.T), fit_planes(values).T, atol=1e-3)


def fitted_slowly(values, known, side_px, believed_px):
    """The same by least squares at each pixel."""
    found, radius = np.zeros_like(values), side_px // 2
    for y, x in np.argwhere(known):
        rows, columns = np.nonzero(known[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1])
        rows, columns = rows + max(y - radius, 0), columns + max(x - radius, 0)
        fields = np.stack([np.ones(len(rows)), columns - x, rows - y], axis=1)
        coefficients = np.linalg.lstsq(fields, values[rows, columns], rcond=None)[0]
        residual_px = np.sqrt(np.mean((fields @ coefficients - values[rows, columns]) ** 2))
        belief = np.clip(1.5 - residual_px / believed_px, 0, 1)
        found[y, x] = belief * coefficients[0] + (1 - belief) * values[y, x]
    return found


@pytest.mark.parametrize("window", _WINDOWS[:2])
def test_the_planes_are_those_of_least_squares(window):
    rng = np.random.default_rng(3)
    shape = (24, 30)
    values = plane(*shape).astype(np.float64) + rng.normal(0, 0.3, shape) + 2.0 * (np.arange(30) > 14)
    known = rng.random(shape) < 0.85
    values = np.where(known, values, 0)
    np.testing.assert_allclose(
        _fit(values, known, _places(known), *window), fitted_slowly(values, known, *window), atol=0.01
    )
