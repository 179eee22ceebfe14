"""What holds for every configured loss: counts, invariances, gradients, precision, degenerate input."""

import itertools

import pytest
import torch

from model import LossConfig
from model.losses import (
    build_loss,
    gradient_loss,
    improved_ranking_loss,
    mae_loss,
    mse_loss,
    range_residual,
    ranking_loss,
    ssi_mae_loss,
    ssi_residual,
)

from .loss_batch import CONFIGS, H, W, make_batch, make_prediction, pair_arguments, rows

every_loss = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def mean(loss, prediction, batch):
    """Value of a step made of this batch alone; a term without anything to learn from adds nothing."""
    sums = loss(prediction, batch)
    return (loss.weights * sums.total.double() / sums.count.clamp(min=1e-3)).sum()


def value_and_gradient(config, prediction, batch):
    prediction = prediction.detach().clone().requires_grad_()
    value = mean(build_loss(config), prediction, batch)
    value.backward()
    assert prediction.grad.dtype == prediction.dtype
    return value.detach(), prediction.grad


@every_loss
def test_the_terms_are_the_public_functions(config):
    prediction, batch = make_prediction(), make_batch()
    pairs, target, weight = pair_arguments(batch), batch["inverse_depth"], batch["confidence"].double() / 255
    improved = {"hard_share": config.hard_share, "scope": config.scope}
    first = {
        "ranking": lambda: ranking_loss(prediction, *pairs, equal_weight=config.equal_weight),
        "improved_ranking": lambda: improved_ranking_loss(
            prediction, *pairs, equal_weight=config.equal_weight, **improved
        ),
        "mae": lambda: mae_loss(prediction, target, weight),
        "mse": lambda: mse_loss(prediction, target, weight),
        "ssi_mae": lambda: ssi_mae_loss(prediction, target, weight, trim_share=config.trim_share),
    }[config.name]()
    totals, counts = [first.total], [first.count]
    if config.gradient_weight:
        residual = (ssi_residual if config.name == "ssi_mae" else range_residual)(prediction, target, weight)
        gradient = gradient_loss(residual, weight, scales=config.gradient_scales)
        totals += gradient.total
        counts += gradient.count
    sums = build_loss(config)(prediction, batch)
    torch.testing.assert_close(sums.total, torch.stack(totals), rtol=1e-12, atol=0)
    torch.testing.assert_close(sums.count, torch.stack(counts), rtol=1e-12, atol=0)


@every_loss
def test_terms_and_weights_belong_together(config):
    loss = build_loss(config)
    scales = config.gradient_scales if config.gradient_weight else 0
    assert loss.terms == (config.name, *["gradient"] * scales)
    assert loss.weights.tolist() == [0.5 if config.name == "ssi_mae" else 1.0] + [config.gradient_weight] * scales
    assert loss.weights.dtype == torch.float64


@every_loss
def test_counts_need_no_prediction(config):
    loss = build_loss(config)
    for seed, dtype in enumerate([torch.float32, torch.float64, torch.bfloat16, torch.float16]):
        batch = make_batch(seed=seed, num_pairs=1 + 13 * seed)
        sums = loss(make_prediction(seed=seed).to(dtype), batch)
        assert torch.equal(loss.counts(batch), sums.count) and sums.count.dtype == torch.float64
        assert sums.total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert sums.total.shape == sums.count.shape == loss.weights.shape


def test_counts_of_a_confidence_are_exact():
    batch = make_batch(2)
    batch["confidence"] = torch.full((2, H, W), 255, dtype=torch.uint8)
    counts = build_loss(LossConfig(name="mae", gradient_weight=1.0, gradient_scales=3)).counts(batch)
    assert counts.tolist() == [2 * H * W, 2 * H * W, 2 * 5 * 4, 2 * 3 * 2]
    batch["confidence"][:] = 51
    assert build_loss(LossConfig(name="mae")).counts(batch).tolist() == [2 * H * W / 5]


@every_loss
def test_counts_are_of_integers_only(config):
    """They run on the host before the forward: labels that a term does not need may be missing."""
    batch = make_batch()
    del batch["inverse_depth"], batch["pairs_yx"]
    if not config.name.endswith("ranking"):
        del batch["relation"], batch["valid"]
    assert build_loss(config).counts(batch).min() > 0


@every_loss
def test_gradients_are_those_of_finite_differences(config):
    loss, batch = build_loss(config), make_batch(2, 12)
    prediction = make_prediction(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, batch).total, prediction)


@every_loss
def test_the_order_of_the_pictures_changes_nothing(config):
    prediction, batch = make_prediction(4), make_batch(4)
    order = [2, 0, 3, 1]
    value, gradient = value_and_gradient(config, prediction, batch)
    shuffled, shuffled_gradient = value_and_gradient(config, prediction[order], rows(batch, order))
    torch.testing.assert_close(shuffled, value)
    torch.testing.assert_close(shuffled_gradient, gradient[order])


@every_loss
def test_micro_batches_add_up_unless_the_scope_is_the_batch(config):
    loss, prediction, batch = build_loss(config), make_prediction(4), make_batch(4)
    prediction[0] *= 4
    whole = loss(prediction, batch)
    for cuts in ([0, 1, 2, 3, 4], [0, 3, 4]):
        parts = [loss(prediction[a:b], rows(batch, slice(a, b))) for a, b in itertools.pairwise(cuts)]
        total, count = sum(p.total for p in parts), sum(p.count for p in parts)
        if config.scope == "batch":
            assert not torch.allclose(total, whole.total, rtol=1e-6)
        else:
            torch.testing.assert_close(total, whole.total)
            torch.testing.assert_close(count, whole.count, rtol=1e-14, atol=0)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_predictions_are_computed_in_float32(config, dtype):
    prediction, batch = make_prediction().to(dtype), make_batch()
    exact, exact_gradient = value_and_gradient(config, prediction.double(), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(config, prediction, batch)
    torch.testing.assert_close(value, exact, rtol=1e-5, atol=0)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(
        gradient.double(), exact_gradient, rtol=4 * eps, atol=4e-5 * exact_gradient.abs().max().item()
    )


def no_label(batch):
    batch["valid"][:] = False
    batch["confidence"][:] = 0


def one_picture_without_labels(batch):
    batch["valid"][1] = False
    batch["confidence"][1] = 0


def one_label(batch):
    no_label(batch)
    batch["valid"][1, 3] = True
    batch["confidence"][1, 4, 2] = 200


def constant_target(batch):
    batch["inverse_depth"][:] = 0.3


def all_labels(batch):
    pass


@every_loss
@pytest.mark.parametrize("change", [no_label, one_picture_without_labels, one_label, constant_target, all_labels])
def test_degenerate_input_has_a_finite_loss_and_gradient(config, change):
    batch = make_batch()
    change(batch)
    for dtype, spread in itertools.product([torch.float16, torch.bfloat16, torch.float32], [0.0, 1e-30, 1.0, 1e4]):
        prediction = (make_prediction().clamp(-1, 1) * spread + (0.25 if spread == 0 else 0)).to(dtype)
        value, gradient = value_and_gradient(config, prediction, batch)
        assert torch.isfinite(value) and torch.isfinite(gradient).all(), (dtype, spread)
        if change is no_label:
            assert value == 0 and (gradient == 0).all()
        if change is constant_target and config.name == "ssi_mae":
            assert (gradient == 0).all()


@every_loss
@pytest.mark.parametrize("garbage", [torch.inf, -torch.inf, torch.nan])
def test_what_is_masked_out_may_be_anything(config, garbage):
    batch, prediction = make_batch(), make_prediction()
    hidden = batch["confidence"] == 0
    picture = torch.arange(len(prediction))[:, None]
    y_a, x_a, y_b, x_b = batch["pairs_yx"].long().unbind(-1)
    batch["valid"] &= ~hidden[picture, y_a, x_a] & ~hidden[picture, y_b, x_b]
    spoilt = prediction.masked_fill(hidden, garbage)
    labels = batch | {"inverse_depth": batch["inverse_depth"].masked_fill(hidden, garbage)}
    value, gradient = value_and_gradient(config, prediction, batch)
    spoilt_value, spoilt_gradient = value_and_gradient(config, spoilt, labels)
    assert spoilt_value == value and torch.equal(spoilt_gradient, gradient)
    assert (gradient[hidden] == 0).all()


@every_loss
@pytest.mark.parametrize("garbage", [torch.inf, torch.nan])
def test_a_diverged_prediction_is_not_hidden(config, garbage):
    """The trainer's finite check looks at the sums."""
    batch, prediction = make_batch(), make_prediction().float()
    batch["valid"][0, 0], batch["confidence"][0] = True, 255
    y, x = batch["pairs_yx"][0, 0, :2].tolist()
    batch["relation"][0, 0] = 1 if garbage == torch.inf else 0
    batch["pairs_yx"][0, 0, 2:] = torch.tensor([(y + 1) % H, x])
    prediction[0, y, x] = garbage
    assert not torch.isfinite(build_loss(config)(prediction, batch).total).all()


@every_loss
def test_nothing_waits_for_the_device(config):
    """On the meta device there are no values: reading one, or selecting by a mask, raises."""
    batch = {name: value.to("meta") for name, value in make_batch().items()}
    prediction = make_prediction().to("meta").requires_grad_()
    sums = build_loss(config)(prediction, batch)
    sums.total.sum().backward()
    assert prediction.grad.shape == prediction.shape
    with pytest.raises((RuntimeError, NotImplementedError)):
        sums.total[0].item()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # that it is a prototype
@every_loss
def test_on_a_gpu_the_losses_are_the_same_and_wait_for_nothing(config):
    batch, prediction = make_batch(), make_prediction()
    value, gradient = value_and_gradient(config, prediction, batch)
    on_device = {name: tensor.cuda() for name, tensor in batch.items()}
    moved, loss = prediction.cuda().requires_grad_(), build_loss(config)
    weights = loss.weights.cuda()
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        sums = loss(moved, on_device)
        found = (weights * sums.total / sums.count).sum()
        found.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.cpu(), value)
    torch.testing.assert_close(moved.grad.cpu(), gradient)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "ranking", "hard_share": 0.5},
        {"name": "mae", "scope": "batch"},
        {"name": "ssi_mae", "equal_weight": 2.0},
        {"name": "improved_ranking", "trim_share": 0.2},
        {"name": "ranking", "gradient_scales": 2},
    ],
)
def test_an_option_of_another_loss_is_refused_by_name(settings):
    with pytest.raises(ValueError, match=f"{list(settings)[1]}: has no meaning for the loss {settings['name']}"):
        LossConfig(**settings)
