import math

import pytest
import torch

from model import LossConfig
from model.losses import build_loss, improved_ranking_loss, mae_loss, ranking_loss

H, W = 7, 5


def make(batch=3, num_pairs=41, *, seed=0):
    g = torch.Generator().manual_seed(seed)
    prediction = torch.randn(batch, H, W, generator=g)
    y = torch.randint(0, H, (batch, num_pairs, 2), generator=g)
    x = torch.randint(0, W, (batch, num_pairs, 2), generator=g)
    pairs_yx = torch.stack([y[..., 0], x[..., 0], y[..., 1], x[..., 1]], dim=-1)
    relation = torch.randint(-1, 2, (batch, num_pairs), generator=g)
    valid = torch.rand(batch, num_pairs, generator=g) < 0.8
    return prediction, pairs_yx, relation, valid


def slow_pair_loss(prediction, pair, relation):
    """Eq. 3 in plain float64 Python, with z = -inverse depth."""
    y_a, x_a, y_b, x_b = (int(v) for v in pair)
    z_a, z_b = -float(prediction[y_a, x_a]), -float(prediction[y_b, x_b])
    return (z_a - z_b) ** 2 if relation == 0 else math.log(1 + math.exp((-z_a + z_b) * int(relation)))


def slow_improved(prediction, pairs_yx, relation, valid, share):
    total, count = 0.0, 0
    for p, pairs, relations, keep in zip(prediction, pairs_yx, relation, valid, strict=True):
        losses = [(slow_pair_loss(p, pair, r), int(r)) for pair, r, k in zip(pairs, relations, keep, strict=True) if k]
        unequal = sorted((loss for loss, r in losses if r), reverse=True)
        kept = unequal[: math.ceil(len(unequal) * share - 1e-9)] + [loss for loss, r in losses if not r]
        total, count = total + sum(kept), count + len(kept)
    return total, count


def test_ranking_loss_is_equation_3():
    prediction, pairs_yx, relation, valid = make()
    total, count = slow_improved(prediction.double(), pairs_yx, relation, valid, 1.0)
    loss = ranking_loss(prediction, pairs_yx, relation, valid)
    assert float(loss.total) == pytest.approx(total, rel=1e-5)
    assert float(loss.count) == count == int(valid.sum())


@pytest.mark.parametrize("share", [0.75, 0.9, 0.3, 1.0])
def test_improved_ranking_keeps_the_hardest_unequal_and_all_equal_pairs(share):
    batch = make(num_pairs=40)
    total, count = slow_improved(batch[0].double(), *batch[1:], share)
    loss = improved_ranking_loss(*batch, hard_share=share)
    assert float(loss.total) == pytest.approx(total, rel=1e-5)
    assert float(loss.count) == count


def test_batch_scope_sorts_over_all_pictures():
    prediction, pairs_yx, relation, valid = make(num_pairs=40)
    prediction[0] *= 5  # one picture with much larger losses
    losses = [
        (slow_pair_loss(p, pair, r), int(r))
        for p, pairs, relations, keep in zip(prediction.double(), pairs_yx, relation, valid, strict=True)
        for pair, r, k in zip(pairs, relations, keep, strict=True)
        if k
    ]
    unequal = sorted((loss for loss, r in losses if r), reverse=True)
    kept = unequal[: math.ceil(len(unequal) / 2)] + [loss for loss, r in losses if not r]
    loss = improved_ranking_loss(prediction, pairs_yx, relation, valid, hard_share=0.5, scope="batch")
    assert float(loss.total) == pytest.approx(sum(kept), rel=1e-5)
    assert loss.count == len(kept)


def test_a_farther_a_is_pushed_down():
    """Gradient descent must lower the inverse depth of the farther point and raise the nearer one's."""
    prediction = torch.zeros(1, H, W, requires_grad=True)
    ranking_loss(prediction, torch.tensor([[[0, 0, 6, 4]]]), torch.tensor([[1]])).total.backward()
    assert prediction.grad[0, 0, 0] > 0 > prediction.grad[0, 6, 4]


def test_swapping_a_pair_and_its_relation_changes_nothing():
    prediction, pairs_yx, relation, valid = make()
    swapped = pairs_yx[..., [2, 3, 0, 1]]
    torch.testing.assert_close(
        ranking_loss(prediction, pairs_yx, relation, valid).total,
        ranking_loss(prediction, swapped, -relation, valid).total,
    )


def test_sums_over_micro_batches_add_up():
    batch = make(batch=4)
    whole = improved_ranking_loss(*batch)
    parts = [improved_ranking_loss(*(t[i : i + 1] for t in batch)) for i in range(4)]
    torch.testing.assert_close(whole.total, torch.stack([p.total for p in parts]).sum())
    assert whole.count == sum(p.count for p in parts)


@pytest.mark.parametrize("loss", [ranking_loss, improved_ranking_loss])
def test_no_valid_pair_gives_zero_and_a_finite_gradient(loss):
    prediction, pairs_yx, relation, valid = make()
    prediction = prediction.fill_(torch.inf).requires_grad_()
    result = loss(prediction, pairs_yx, relation, torch.zeros_like(valid))
    result.total.backward()
    assert result.count == 0 and result.total == 0
    assert torch.equal(prediction.grad, torch.zeros_like(prediction))


def test_huge_differences_do_not_overflow():
    prediction = torch.tensor([[[3e4, -3e4]]], dtype=torch.float16, requires_grad=True)
    loss = ranking_loss(prediction, torch.tensor([[[0, 0, 0, 1]]]), torch.tensor([[1]]))
    loss.total.backward()
    assert loss.total.item() == pytest.approx(6e4, rel=1e-3) and torch.isfinite(prediction.grad).all()


def test_small_integers_of_the_stream_are_enough():
    prediction, pairs_yx, relation, valid = make()
    narrow = ranking_loss(prediction, pairs_yx.to(torch.int16), relation.to(torch.int8), valid)
    assert torch.equal(narrow.total, ranking_loss(prediction, pairs_yx, relation, valid).total)


def test_wrong_shapes_are_refused():
    prediction, pairs_yx, relation, valid = make()
    with pytest.raises(ValueError, match="must be"):
        ranking_loss(prediction, pairs_yx[..., :3], relation)
    with pytest.raises(ValueError, match="must be"):
        ranking_loss(prediction, pairs_yx, relation, valid[:, 1:])
    with pytest.raises(ValueError, match="scope"):
        improved_ranking_loss(prediction, pairs_yx, relation, valid, scope="world")
    with pytest.raises(ValueError, match="one shape"):
        mae_loss(prediction, prediction, torch.ones(3, H, W + 1, dtype=torch.bool))


def test_mae_against_a_slow_reference():
    g = torch.Generator().manual_seed(1)
    prediction, target = torch.randn(3, H, W, generator=g), torch.rand(3, H, W, generator=g) * 40 - 20
    known = torch.rand(3, H, W, generator=g) < 0.7
    total = 0.0
    for p, t, k in zip(prediction.double(), target.double(), known, strict=True):
        values = sorted(t[k].tolist())
        low, high = values[round(0.02 * (len(values) - 1))], values[round(0.98 * (len(values) - 1))]
        total += sum(abs(float(a) - (float(b) - low) / (high - low)) for a, b in zip(p[k], t[k], strict=True))
    loss = mae_loss(prediction, target, known)
    assert float(loss.total) == pytest.approx(total, rel=1e-4) and loss.count == known.sum()


def test_mae_does_not_see_offset_and_scale_of_the_target():
    prediction, target = torch.randn(2, H, W), torch.rand(2, H, W)
    known = torch.ones(2, H, W, dtype=torch.bool)
    torch.testing.assert_close(
        mae_loss(prediction, target, known).total, mae_loss(prediction, target * 7 - 3, known).total
    )


@pytest.mark.parametrize("known", [True, False])
def test_mae_on_a_constant_or_unknown_picture_is_finite(known):
    prediction = torch.randn(1, H, W, requires_grad=True)
    loss = mae_loss(prediction, torch.full((1, H, W), 3.0), torch.full((1, H, W), known))
    loss.total.backward()
    assert torch.isfinite(loss.total) and torch.isfinite(prediction.grad).all()


@pytest.mark.parametrize("name", ["mae", "ranking", "improved_ranking"])
def test_the_configured_loss_takes_a_batch_of_the_stream(name):
    prediction, pairs_yx, relation, valid = make()
    batch = {
        "pairs_yx": pairs_yx,
        "relation": relation,
        "valid": valid,
        "inverse_depth": torch.rand(3, H, W),
        "known": torch.ones(3, H, W, dtype=torch.bool),
    }
    expected = {
        "mae": lambda: mae_loss(prediction, batch["inverse_depth"], batch["known"]),
        "ranking": lambda: ranking_loss(prediction, pairs_yx, relation, valid),
        "improved_ranking": lambda: improved_ranking_loss(
            prediction, pairs_yx, relation, valid, hard_share=0.6, scope="batch"
        ),
    }[name]()
    loss = build_loss(LossConfig(name=name, hard_share=0.6, scope="batch"))(prediction, batch)
    assert torch.equal(loss.total, expected.total) and torch.equal(loss.count, expected.count)
