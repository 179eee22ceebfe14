"""Each loss falls to its known minimum when a map of free values is fitted to it."""

import math

import pytest
import torch

from model import LossConfig
from model.losses import build_loss

from .loss_batch import H, W, make_batch, make_prediction

A, B, C = (0, 0), (3, 4), (8, 6)


def fit(config, batch, *, steps=300, lr=0.5, betas=(0.8, 0.9)):
    """Least value of the loss and the map that has it: Adam in float64 with a falling learning rate."""
    loss = build_loss(config)
    free = make_prediction(len(batch["confidence"])).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=lr, betas=betas)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * 1e-6 ** (step / steps)
        optimizer.zero_grad()
        sums = loss(free, batch)
        value = (loss.weights * sums.total / sums.count).sum()
        value.backward()
        optimizer.step()
    return float(value.detach()), free.detach()


def labels(*pairs):
    """A batch of one picture with these (A, B, relation)."""
    return {
        "pairs_yx": torch.tensor([[[*a, *b] for a, b, _ in pairs]], dtype=torch.int16),
        "relation": torch.tensor([[r for *_, r in pairs]], dtype=torch.int8),
        "valid": torch.ones(1, len(pairs), dtype=torch.bool),
        "confidence": torch.ones(1, H, W, dtype=torch.uint8),
    }


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("name", ["ranking", "improved_ranking"])
def test_consistent_order_is_learned_without_a_rest(name):
    """A is farthest, C nearest; equal pairs beside them fit at once."""
    config = LossConfig(name=name)
    value, free = fit(config, labels((A, B, 1), (B, C, 1), (C, A, -1), ((1, 1), (2, 2), 0)), lr=3.0)
    assert value < 1e-4
    assert free[0][A] < free[0][B] < free[0][C]
    assert float(free[0, 1, 1]) == pytest.approx(float(free[0, 2, 2]), abs=1e-3)


def test_contradictory_pairs_end_at_the_entropy():
    """3 of 4 say that A is farther: p(A farther) becomes 3/4 and the loss its entropy."""
    value, free = fit(LossConfig(name="ranking"), labels(*[(A, B, 1)] * 3, (A, B, -1)))
    assert value == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), abs=1e-9)
    assert float(free[0][B] - free[0][A]) == pytest.approx(math.log(3), abs=1e-4)


def test_an_equal_pair_pulls_against_an_unequal_one():
    """softplus(d) + alpha d^2 is least at d = -1 when alpha = sigmoid(-1) / 2; its mean over both pairs counts."""
    alpha = sigmoid(-1) / 2
    value, free = fit(LossConfig(name="ranking", equal_weight=alpha), labels((A, B, 1), (A, B, 0)))
    assert value == pytest.approx((math.log(1 + math.exp(-1)) + alpha) / 2, abs=1e-9)
    assert float(free[0][A] - free[0][B]) == pytest.approx(-1, abs=1e-4)


def test_equal_pairs_alone_are_brought_together():
    value, free = fit(LossConfig(name="improved_ranking"), labels((A, B, 0), (B, C, 0)))
    assert value < 1e-12 and float(free[0][A]) == pytest.approx(float(free[0][C]), abs=1e-5)


def test_the_hardest_of_contradictory_pairs_level_out():
    """Of one pair each way, a share of 0.5 keeps the worse one: both are equally bad at a difference of 0."""
    config = LossConfig(name="improved_ranking", hard_share=0.5)
    loss, batch = build_loss(config), labels((A, B, 1), (A, B, -1))
    values = []
    for difference in (-1.0, -0.1, 0.0, 0.1, 1.0):
        prediction = torch.zeros(1, H, W, dtype=torch.float64)
        prediction[0][A] = difference
        sums = loss(prediction, batch)
        values.append(float(sums.total / sums.count))
    assert min(values) == values[2] == pytest.approx(math.log(2))
    assert values == pytest.approx([math.log(1 + math.exp(abs(d))) for d in (-1.0, -0.1, 0.0, 0.1, 1.0)])


@pytest.mark.parametrize("name", ["mae", "mse"])
@pytest.mark.parametrize("gradient_weight", [0.0, 0.5])
def test_dense_labels_are_fitted(name, gradient_weight):
    batch = make_batch(2)
    value, free = fit(LossConfig(name=name, gradient_weight=gradient_weight), batch)
    assert value < 1e-6
    known = free[0][batch["confidence"][0] > 0].sort().values
    assert known[1] < 0.1 and known[-2] > 0.9  # P2 is 0 and P98 is 1


SSI = [LossConfig(name="ssi_mae"), LossConfig(name="ssi_mae", trim_share=0.2, gradient_weight=0.5)]


@pytest.mark.parametrize("config", SSI)
def test_ssi_and_its_gradient_term_are_zero_for_every_map_that_differs_by_offset_and_scale(config):
    batch = make_batch(2)
    sums = build_loss(config)(batch["inverse_depth"].double() * 0.03 - 7, batch)
    assert (sums.total / sums.count).max() < 1e-12


@pytest.mark.parametrize("config", SSI)
def test_ssi_falls_towards_zero_from_noise(config):
    """Its landscape is all edges, so a free map creeps; a tenth of where it began is far below any wrong map."""
    batch = make_batch(1)
    batch["confidence"][:, 4:] = 0
    begin, _ = fit(config, batch, steps=1)
    value, _ = fit(config, batch, steps=400, lr=0.3, betas=(0.9, 0.999))
    assert value < 0.1 * begin


def test_the_gradient_term_alone_reaches_zero_up_to_an_offset():
    """A pair of a pixel with itself costs nothing and leaves the map to the gradient term."""
    batch = make_batch(1)
    batch["confidence"][:] = 255
    batch |= {name: value for name, value in labels((A, A, 0)).items() if name != "confidence"}
    value, free = fit(LossConfig(name="ranking", gradient_weight=1.0), batch)
    assert value < 1e-4
    together = torch.stack([free[0].flatten(), batch["inverse_depth"][0].double().flatten()])
    assert float(torch.corrcoef(together)[0, 1]) == pytest.approx(1, abs=1e-6)
