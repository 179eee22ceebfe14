"""Dense losses and the gradient term against plain Python, with unknown pixels and confidences."""

import math

import pytest
import torch

from model.losses import gradient_loss, mae_loss, mse_loss, range_residual, ssi_mae_loss, ssi_residual
from model.losses.ssi import trimmed_sum

from .loss_batch import H, W, make_batch, make_prediction

CLOSE = {"rel": 1e-8}
PIXELS = [(y, x) for y in range(H) for x in range(W)]


def make(kind="float"):
    """Prediction, target of a large offset, weight."""
    batch = make_batch()
    weight = batch["confidence"].double() / 255 if kind == "float" else batch["confidence"] > 0
    return make_prediction(), batch["inverse_depth"].double() * 40 - 20, weight


def slow_range(target, weight):
    values = sorted(float(target[p]) for p in PIXELS if weight[p])
    low, high = values[round(0.02 * (len(values) - 1))], values[round(0.98 * (len(values) - 1))]
    return {p: (float(target[p]) - low) / (high - low) for p in PIXELS if weight[p]}


def slow_aligned(values, weight):
    known = {p: float(values[p]) for p in PIXELS if weight[p]}
    median = sorted(known.values())[(len(known) - 1) // 2]
    deviation = sum(abs(v - median) for v in known.values()) / len(known)
    return {p: (v - median) / deviation for p, v in known.items()}


def slow_range_residual(prediction, target, weight):
    return {p: float(prediction[p]) - t for p, t in slow_range(target, weight).items()}


def slow_ssi_residual(prediction, target, weight):
    ours, theirs = slow_aligned(prediction, weight), slow_aligned(target, weight)
    return {p: ours[p] - theirs[p] for p in ours}


RESIDUALS = {range_residual: slow_range_residual, ssi_residual: slow_ssi_residual}


@pytest.mark.parametrize("kind", ["float", "bool"])
@pytest.mark.parametrize(("loss", "power"), [(mae_loss, 1), (mse_loss, 2)])
def test_mae_and_mse_against_a_slow_reference(loss, power, kind):
    prediction, target, weight = make(kind)
    total = sum(
        float(w[p]) * abs(r) ** power
        for one, t, w in zip(prediction, target, weight, strict=True)
        for p, r in slow_range_residual(one, t, w).items()
    )
    found = loss(prediction, target, weight)
    assert float(found.total) == pytest.approx(total, **CLOSE)
    assert found.count.dtype == torch.float64 and float(found.count) == pytest.approx(float(weight.double().sum()))


@pytest.mark.parametrize("kind", ["float", "bool"])
@pytest.mark.parametrize("trim_share", [0.0, 0.2, 0.9])
def test_ssi_against_a_slow_reference(trim_share, kind):
    prediction, target, weight = make(kind)
    total = 0.0
    for one, t, w in zip(prediction, target, weight, strict=True):
        errors = sorted((abs(r), float(w[p])) for p, r in slow_ssi_residual(one, t, w).items())
        total += sum(e * c for e, c in errors[: math.ceil(len(errors) * (1 - trim_share) - 1e-9)])
    found = ssi_mae_loss(prediction, target, weight, trim_share=trim_share)
    assert float(found.total) == pytest.approx(total, **CLOSE)
    assert float(found.count) == pytest.approx(float(weight.double().sum()))


@pytest.mark.parametrize("kind", ["float", "bool"])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_the_gradient_term_against_a_slow_reference(residual, kind):
    prediction, target, weight = make(kind)
    found = gradient_loss(residual(prediction, target, weight), weight, scales=4)
    for k in range(4):
        step, total, count = 2**k, 0.0, 0.0
        for one, t, w in zip(prediction, target, weight, strict=True):
            r = RESIDUALS[residual](one, t, w)
            for y in range(0, H, step):
                for x in range(0, W, step):
                    count += float(w[y, x])
                    for other in ((y, x + step), (y + step, x)):
                        if (y, x) in r and other in r:
                            total += abs(r[other] - r[y, x]) * min(float(w[y, x]), float(w[other]))
        assert float(found.total[k]) == pytest.approx(total, **CLOSE)
        assert float(found.count[k]) == pytest.approx(count, **CLOSE)


def test_percentiles_of_a_full_map_are_the_documented_ranks():
    """64 x 64 pixels: P2 is sorted value 82 of 0..4095 and P98 is number 4013."""
    target = torch.randperm(64 * 64).double().view(1, 64, 64)
    residual = range_residual(torch.zeros_like(target), target, torch.ones(1, 64, 64, dtype=torch.bool))
    torch.testing.assert_close(-residual, (target - 82) / (4013 - 82))


@pytest.mark.parametrize("residual", RESIDUALS)
def test_offset_and_scale_of_the_target_change_nothing(residual):
    prediction, target, weight = make()
    scale, offset = torch.tensor([0.02, 7.0, 300.0])[:, None, None], torch.tensor([5.0, -2000.0, 0.1])[:, None, None]
    torch.testing.assert_close(
        residual(prediction, target, weight),
        residual(prediction, target * scale + offset, weight),
        rtol=1e-6,
        atol=1e-9,
    )


def test_ssi_does_not_see_offset_and_scale_of_the_prediction():
    prediction, target, weight = make()
    scale, offset = torch.tensor([0.01, 7.0, 90.0])[:, None, None], torch.tensor([5.0, -200.0, 0.0])[:, None, None]
    torch.testing.assert_close(
        ssi_residual(prediction, target, weight), ssi_residual(prediction * scale + offset, target, weight)
    )
    upside_down = ssi_mae_loss(-prediction, prediction, weight)
    assert float(upside_down.total / upside_down.count) > 1  # only positive scales are invariances


def test_the_mean_absolute_error_sees_the_scale_of_the_prediction():
    prediction, target, weight = make()
    assert mae_loss(prediction * 3, target, weight).total > 1.5 * mae_loss(prediction, target, weight).total


@pytest.mark.parametrize("loss", [mae_loss, mse_loss, ssi_mae_loss])
def test_a_confidence_that_is_the_same_everywhere_leaves_the_mean_alone(loss):
    prediction, target, weight = make("bool")
    whole, half = loss(prediction, target, weight), loss(prediction, target, weight.double() / 2)
    torch.testing.assert_close(half.total / half.count, whole.total / whole.count)
    residual = range_residual(prediction, target, weight)
    whole, half = gradient_loss(residual, weight), gradient_loss(residual, weight.double() / 2)
    torch.testing.assert_close(half.total / half.count, whole.total / whole.count)


def test_trimmed_pixels_are_the_largest_errors_of_each_picture_and_get_no_gradient():
    prediction, target, weight = make("bool")
    prediction.requires_grad_()
    residual = ssi_residual(prediction, target, weight)
    residual.retain_grad()
    trimmed_sum(residual.abs(), weight, 0.5).total.backward()
    for r, g, w in zip(residual.detach(), residual.grad, weight, strict=True):
        moved = g != 0
        assert int(moved.sum()) == math.ceil(int(w.sum()) / 2)
        assert r[moved].abs().max() <= r[w & ~moved].abs().min()


def test_a_constant_target_becomes_zero():
    prediction, _, weight = make("bool")
    flat = torch.full_like(prediction, 3.7)
    residual = range_residual(prediction, flat, weight)
    torch.testing.assert_close(residual, torch.where(weight, prediction, 0.0))
    assert (ssi_residual(prediction, flat, weight) == 0).all()  # nothing to learn from


def test_a_target_without_a_range_becomes_zero_with_its_outliers():
    prediction = torch.zeros(1, 10, 10)
    target = torch.full((1, 10, 10), 2.0)
    target[0, 0, 0] = 1e6
    assert (range_residual(prediction, target, torch.ones(1, 10, 10, dtype=torch.bool)) == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_a_constant_prediction_has_an_error_but_no_gradient(value):
    _, target, weight = make()
    prediction = torch.full((3, H, W), value, requires_grad=True)
    loss = ssi_mae_loss(prediction, target.float(), weight > 0)
    loss.total.backward()
    assert float(loss.total.detach() / loss.count) == pytest.approx(1, rel=1e-4)  # the deviation of an aligned map is 1
    assert (prediction.grad == 0).all()


def test_wrong_maps_are_refused():
    prediction, target, weight = make()
    for loss in (mae_loss, mse_loss, ssi_mae_loss):
        with pytest.raises(ValueError, match="one shape"):
            loss(prediction, target, weight[:, :, 1:])
        with pytest.raises(ValueError, match="bool or float"):
            loss(prediction, target, (weight * 255).to(torch.uint8))
    with pytest.raises(ValueError, match="trim_share"):
        ssi_mae_loss(prediction, target, weight, trim_share=1.0)
    with pytest.raises(ValueError, match="scales"):
        gradient_loss(prediction, weight, scales=0)
