import math

import numpy as np
import pytest

from pipeline.eval.aligned import align, aligned_errors, ordinal_error
from pipeline.eval.metrics import draw_dense_pairs

RNG = np.random.default_rng(0)


def scene():
    truth = RNG.uniform(0.5, 4, (20, 30)).astype(np.float32)
    truth[3:6, 4:9] = np.nan
    truth[0, :3] = 0  # at infinity
    return truth


def slow_errors(prediction, truth):
    """MiDaS' evaluation by loops and a general solver: fit in inverse depth, cap, compare depths."""
    known = [(p, t) for p, t in zip(prediction.reshape(-1), truth.reshape(-1), strict=True) if t > 0]
    matrix = np.array([[p, 1.0] for p, _ in known])
    (scale, shift), *_ = np.linalg.lstsq(matrix, np.array([t for _, t in known]), rcond=None)
    cap = min(t for _, t in known)
    absolute, inside = 0.0, 0
    for p, t in known:
        depth, true_depth = 1 / max(scale * p + shift, cap), 1 / t
        absolute += abs(depth - true_depth) / true_depth
        inside += max(depth / true_depth, true_depth / depth) < 1.25
    return absolute / len(known), inside / len(known)


@pytest.mark.parametrize("noise", [0.0, 0.3, 3.0])
def test_errors_agree_with_a_general_solver(noise):
    truth = scene()
    prediction = np.nan_to_num(truth) * 0.2 - 7 + RNG.normal(size=truth.shape) * noise
    errors = aligned_errors(align(prediction, truth), truth)
    assert errors == pytest.approx(slow_errors(prediction, truth), rel=1e-6, abs=1e-8)
    if not noise:
        assert errors.abs_rel == pytest.approx(0, abs=1e-6) and errors.delta == 1


def test_scale_shift_and_sign_do_not_count():
    truth = scene()
    prediction = RNG.normal(size=truth.shape)
    expected = aligned_errors(align(prediction, truth), truth)
    for changed in (prediction * 100 + 5, -prediction):
        assert aligned_errors(align(changed, truth), truth) == pytest.approx(expected)


def test_a_fit_beyond_the_farthest_known_pixel_is_capped_there():
    truth = scene()
    fitted = align(RNG.normal(size=truth.shape) * 50 + np.nan_to_num(truth), truth)
    assert fitted.min() >= truth[truth > 0].min()
    truth[10:] = np.nan
    outlier = np.nan_to_num(truth).astype(np.float64)
    outlier[15] = -1e6  # outside of what is known: it does not touch the fit
    assert align(outlier, truth)[15, 0] == truth[truth > 0].min()


def test_constant_and_broken_predictions_have_errors():
    truth = scene()
    flat = align(np.ones(truth.shape), truth)
    assert flat == pytest.approx(truth[truth > 0].mean())
    prediction = np.nan_to_num(truth).astype(np.float64)
    prediction[12, 12] = np.nan
    errors = aligned_errors(align(prediction, truth), truth)
    assert 0 < errors.abs_rel < 0.05
    assert math.isfinite(aligned_errors(align(np.full(truth.shape, np.nan), truth), truth).abs_rel)
    assert np.isnan(aligned_errors(align(prediction, np.full(truth.shape, np.nan)), np.full(truth.shape, np.nan))).all()


def test_the_ordinal_error_counts_three_classes():
    truth = scene()
    pairs = draw_dense_pairs(truth, "a", num_pairs=500, seed=0, tolerance=0.03)
    assert ordinal_error(align(np.nan_to_num(truth), truth), pairs, 0.03) == pytest.approx(0, abs=0.01)
    fitted = align(RNG.normal(size=truth.shape) + np.nan_to_num(truth), truth)
    wrong = 0
    for y_a, x_a, y_b, x_b, relation in pairs.tolist():
        ratio = fitted[y_a, x_a] / fitted[y_b, x_b]
        found = -1 if ratio > 1.03 else 1 if ratio < 1 / 1.03 else 0
        wrong += found != relation
    assert ordinal_error(fitted, pairs, 0.03) == pytest.approx(wrong / 500)
    assert ordinal_error(fitted, pairs[pairs[:, 4] == 0], 0.03) > 0
    assert math.isnan(ordinal_error(fitted, pairs[:0], 0.03))
