"""Losses on ordinal pairs against Eq. 3 in plain Python."""

import itertools
import math

import pytest
import torch

from model.losses import improved_ranking_loss, ranking_loss

from .loss_batch import H, make_batch, make_prediction, pair_arguments

CLOSE = {"rel": 1e-8}


def slow_losses(prediction, batch, equal_weight=1.0):
    """Per picture the (loss, relation) of each valid pair, with the paper's z = -inverse depth."""
    pictures = []
    for b in range(len(prediction)):
        found = []
        for (y_a, x_a, y_b, x_b), r, keep in zip(
            batch["pairs_yx"][b].tolist(), batch["relation"][b].tolist(), batch["valid"][b].tolist(), strict=True
        ):
            z_a, z_b = -float(prediction[b, y_a, x_a]), -float(prediction[b, y_b, x_b])
            if keep and r == 0:
                found.append((equal_weight * (z_a - z_b) ** 2, 0))
            elif keep:
                found.append((math.log(1 + math.exp((-z_a + z_b) * r)), r))
        pictures.append(found)
    return pictures


def slow_improved(groups, share):
    """Total and count when each group of (loss, relation) is sorted on its own."""
    total, count = 0.0, 0
    for losses in groups:
        unequal = sorted((loss for loss, r in losses if r), reverse=True)
        kept = unequal[: math.ceil(len(unequal) * share - 1e-9)] + [loss for loss, r in losses if not r]
        total, count = total + sum(kept), count + len(kept)
    return total, count


@pytest.mark.parametrize("equal_weight", [1.0, 0.0, 2.5])
def test_ranking_loss_is_equation_3(equal_weight):
    prediction, batch = make_prediction(), make_batch()
    total, count = slow_improved(slow_losses(prediction, batch, equal_weight), 1.0)
    loss = ranking_loss(prediction, *pair_arguments(batch), equal_weight=equal_weight)
    assert loss.total.dtype == torch.float64 and float(loss.total) == pytest.approx(total, **CLOSE)
    assert float(loss.count) == count == int(batch["valid"].sum())


@pytest.mark.parametrize("num_pairs", [1, 2, 40])
@pytest.mark.parametrize("scope", ["image", "batch"])
@pytest.mark.parametrize("share", [0.75, 0.9, 0.3, 1.0])
def test_improved_ranking_keeps_the_hardest_unequal_and_all_equal_pairs(share, scope, num_pairs):
    prediction, batch = make_prediction(), make_batch(num_pairs=num_pairs)
    prediction[0] *= 5  # one picture with much larger losses
    groups = slow_losses(prediction, batch, 0.5)
    total, count = slow_improved(groups if scope == "image" else [list(itertools.chain(*groups))], share)
    loss = improved_ranking_loss(prediction, *pair_arguments(batch), hard_share=share, scope=scope, equal_weight=0.5)
    assert float(loss.total) == pytest.approx(total, **CLOSE)
    assert float(loss.count) == count


def test_the_hard_share_is_rounded_up_without_trusting_the_last_bit():
    """0.07 * 100 is 7.000000000000001 in floating point; 0.75 of 3 pairs are 2.25, so 3."""
    for num_pairs, share, kept in [(100, 0.07, 7), (100, 0.55, 55), (3, 0.75, 3), (4, 0.75, 3), (1, 0.01, 1)]:
        pairs_yx = torch.tensor([0, 0, 1, 1]).expand(1, num_pairs, 4)
        loss = improved_ranking_loss(
            make_prediction(1), pairs_yx, torch.ones(1, num_pairs, dtype=torch.int8), hard_share=share
        )
        assert loss.count == kept


def test_pairs_as_hard_as_the_last_one_share_what_is_left():
    """A constant prediction makes all pairs equally hard: none may win by its place in the list."""
    batch, prediction = make_batch(1, 40), torch.zeros(1, H, 7, dtype=torch.float64, requires_grad=True)
    batch["relation"][batch["relation"] == 0] = 1
    gradients = []
    for order in (torch.arange(40), torch.arange(39, -1, -1)):
        loss = improved_ranking_loss(prediction, *(t[:, order] for t in pair_arguments(batch)))
        gradients += torch.autograd.grad(loss.total, prediction)
        assert float(loss.total.detach()) == pytest.approx(math.log(2) * float(loss.count), **CLOSE)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0.1


def test_the_loss_of_the_cvpr_2020_code():
    """Mean of its pictures' `alpha * mean(equal) + mean(unequal)`, where both means run over all pairs."""
    prediction, batch = make_prediction(), make_batch()
    batch["valid"] = torch.ones_like(batch["valid"])
    per_picture = [
        3.0 * sum(loss for loss, r in losses if not r) / len(losses)
        + sum(loss for loss, r in losses if r) / len(losses)
        for losses in slow_losses(prediction, batch)
    ]
    loss = ranking_loss(prediction, *pair_arguments(batch), equal_weight=3.0)
    assert float(loss.total / loss.count) == pytest.approx(sum(per_picture) / len(per_picture), **CLOSE)


def test_a_farther_a_is_pushed_down():
    """Gradient descent must lower the inverse depth of the farther point and raise the nearer one's."""
    prediction = torch.zeros(1, H, 7, requires_grad=True)
    ranking_loss(prediction, torch.tensor([[[0, 0, 6, 4]]]), torch.tensor([[1]])).total.backward()
    assert prediction.grad[0, 0, 0] > 0 > prediction.grad[0, 6, 4]


@pytest.mark.parametrize("loss", [ranking_loss, improved_ranking_loss])
def test_swapping_a_pair_and_its_relation_changes_nothing(loss):
    prediction, (pairs_yx, relation, valid) = make_prediction(), pair_arguments(make_batch())
    torch.testing.assert_close(
        loss(prediction, pairs_yx, relation, valid).total,
        loss(prediction, pairs_yx[..., [2, 3, 0, 1]], -relation, valid).total,
    )


@pytest.mark.parametrize("loss", [ranking_loss, improved_ranking_loss])
def test_an_offset_of_each_picture_changes_nothing(loss):
    prediction, pairs = make_prediction(), pair_arguments(make_batch())
    shifted = prediction + torch.tensor([3.0, -70.0, 0.5], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(loss(prediction, *pairs).total, loss(shifted, *pairs).total)


def test_without_a_mask_every_pair_counts():
    prediction, (pairs_yx, relation, valid) = make_prediction(), pair_arguments(make_batch())
    for loss in (ranking_loss, improved_ranking_loss):
        everything = loss(prediction, pairs_yx, relation, torch.ones_like(valid))
        assert loss(prediction, pairs_yx, relation).total == everything.total
        assert loss(prediction, pairs_yx, relation).count == everything.count


@pytest.mark.parametrize("scope", ["image", "batch"])
def test_a_batch_without_a_single_pair_is_worth_nothing(scope):
    prediction = make_prediction().requires_grad_()
    loss = improved_ranking_loss(prediction, torch.zeros(3, 0, 4), torch.zeros(3, 0), scope=scope)
    loss.total.backward()
    assert loss.total == loss.count == 0 and (prediction.grad == 0).all()


def test_huge_differences_do_not_overflow():
    prediction = torch.tensor([[[3e4, -3e4]]], dtype=torch.float16, requires_grad=True)
    loss = ranking_loss(prediction, torch.tensor([[[0, 0, 0, 1]]]), torch.tensor([[1]]))
    loss.total.backward()
    assert loss.total.item() == pytest.approx(6e4, rel=1e-3) and torch.isfinite(prediction.grad).all()


def test_small_integers_of_the_stream_are_enough():
    """int16 coordinates must not be multiplied as such: 200 * 300 overflows them."""
    prediction = torch.randn(1, 201, 300)
    pairs_yx, relation = torch.tensor([[[200, 299, 0, 0]]]), torch.tensor([[1]])
    narrow = ranking_loss(prediction, pairs_yx.to(torch.int16), relation.to(torch.int8))
    assert narrow.total == ranking_loss(prediction, pairs_yx, relation).total
    assert float(narrow.total) == pytest.approx(math.log(1 + math.exp(prediction[0, 200, 299] - prediction[0, 0, 0])))


def test_wrong_pairs_are_refused():
    prediction, (pairs_yx, relation, valid) = make_prediction(), pair_arguments(make_batch())
    with pytest.raises(ValueError, match="must be"):
        ranking_loss(prediction, pairs_yx[..., :3], relation)
    with pytest.raises(ValueError, match="must be"):
        ranking_loss(prediction, pairs_yx, relation, valid[:, 1:])
    with pytest.raises(ValueError, match="scope"):
        improved_ranking_loss(prediction, pairs_yx, relation, valid, scope="world")
    with pytest.raises(ValueError, match="hard_share"):
        improved_ranking_loss(prediction, pairs_yx, relation, valid, hard_share=0)
