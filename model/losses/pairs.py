"""Losses on ordinal pairs: ranking (Xian et al., CVPR 2018, Eq. 3) and improved ranking (Sec. 3.4).

The paper's z grows with distance, our prediction p with nearness, hence the signs: a pair (A, B) of relation +1 (A is
farther) costs `softplus(p_a - p_b)`.

    loss = improved_ranking_loss(inverse_depth, pairs_yx, relation, valid, hard_share=0.75)
"""

import torch
from torch import Tensor
from torch.nn import functional

from model.losses.loss_sum import LossSum, weighted, working, zero_unless
from model.losses.selection import kept_count, share_of_largest

__all__ = ["improved_ranking_count", "improved_ranking_loss", "ranking_loss"]


def ranking_loss(
    inverse_depth: Tensor,
    pairs_yx: Tensor,
    relation: Tensor,
    valid: Tensor | None = None,
    *,
    equal_weight: float = 1.0,
) -> LossSum:
    """Ranking loss, Eq. 2 and 3 of the paper, with all pairs kept.

    For a pair (A, B) of relation r it is `softplus((p_a - p_b) * r)` where r is +1 (A farther) or -1 (A nearer), and
    `equal_weight * (p_a - p_b) ** 2` where r is 0.

    Args:
        inverse_depth: (B, H, W) prediction, larger = nearer.
        pairs_yx: (B, P, 4) integer pixel coordinates y_a, x_a, y_b, x_b inside the picture.
        relation: (B, P) integers +1, -1 or 0.
        valid: (B, P) bool, False for padding; None keeps all.
        equal_weight: Weight of the equal pairs (alpha of the code of Xian et al., CVPR 2020). In the count each is
            still 1, as there, where the means of both kinds run over all pairs.

    Raises:
        ValueError: The shapes do not belong together.
    """
    loss, keep = _pair_losses(inverse_depth, pairs_yx, relation, valid, equal_weight)
    return weighted(loss, keep)


def improved_ranking_loss(
    inverse_depth: Tensor,
    pairs_yx: Tensor,
    relation: Tensor,
    valid: Tensor | None = None,
    *,
    hard_share: float = 0.75,
    scope: str = "image",
    equal_weight: float = 1.0,
) -> LossSum:
    """Ranking loss that ignores the easiest unequal pairs (paper, Sec. 3.4).

    The unequal pairs are sorted by their present loss and only the share `hard_share` with the largest is kept;
    equal pairs are always kept. Whether the paper sorts within a picture or a mini-batch is not said.

    Args:
        inverse_depth: (B, H, W) prediction, larger = nearer.
        pairs_yx: (B, P, 4) integer pixel coordinates y_a, x_a, y_b, x_b inside the picture.
        relation: (B, P) integers +1, -1 or 0.
        valid: (B, P) bool, False for padding; None keeps all.
        hard_share: Share that is kept, 0 < hard_share <= 1, rounded up to whole pairs. Pairs with exactly the loss of
            the last one share what is left, so that their order does not matter.
        scope: `image` sorts within each picture; `batch` over all pictures given, so the result depends on how a
            batch is split over processes and micro-batches.
        equal_weight: Weight of the equal pairs, as in `ranking_loss`.

    Raises:
        ValueError: The shapes do not belong together, or `scope` or `hard_share` is out of range.
    """
    if scope not in {"image", "batch"} or not 0 < hard_share <= 1:
        raise ValueError(f"scope {scope!r} must be image or batch and hard_share {hard_share} in (0, 1]")
    loss, keep = _pair_losses(inverse_depth, pairs_yx, relation, valid, equal_weight)
    equal = relation == 0
    rows = (1, -1) if scope == "batch" else loss.shape
    hard = share_of_largest(loss.detach().reshape(rows), (keep & ~equal).reshape(rows), hard_share)
    total = (loss * (hard.reshape(loss.shape) + (keep & equal))).sum()
    return LossSum(total, improved_ranking_count(relation, keep, hard_share=hard_share, scope=scope))


def improved_ranking_count(
    relation: Tensor, valid: Tensor | None = None, *, hard_share: float = 0.75, scope: str = "image"
) -> Tensor:
    """How many pairs `improved_ranking_loss` keeps, float64 scalar; the prediction does not matter.

    Args:
        relation: (B, P) integers +1, -1 or 0.
        valid: (B, P) bool, False for padding; None keeps all.
        hard_share: Share of the unequal pairs that is kept.
        scope: `image` rounds within each picture, `batch` once.
    """
    keep = torch.ones_like(relation, dtype=torch.bool) if valid is None else valid
    num_unequal = (keep & (relation != 0)).sum(1)
    num_equal = keep.sum() - num_unequal.sum()
    kept = kept_count(num_unequal.sum() if scope == "batch" else num_unequal, hard_share)
    return (kept.sum() + num_equal).double()


def _pair_losses(
    inverse_depth: Tensor, pairs_yx: Tensor, relation: Tensor, valid: Tensor | None, equal_weight: float
) -> tuple[Tensor, Tensor]:
    """Loss of each pair (B, P), and which pairs count."""
    if (
        inverse_depth.ndim != 3
        or pairs_yx.shape != (*relation.shape, 4)
        or relation.ndim != 2
        or len(inverse_depth) != len(relation)
        or (valid is not None and valid.shape != relation.shape)
    ):
        raise ValueError(
            f"prediction {tuple(inverse_depth.shape)}, pairs_yx {tuple(pairs_yx.shape)}, relation "
            f"{tuple(relation.shape)} and valid must be (B, H, W), (B, P, 4), (B, P) and (B, P)"
        )
    # Reckoned in int32, as int16 overflows. One gather for both ends: its gradient is one map to fill, not two to add.
    coordinates = pairs_yx.int()
    places = coordinates[..., ::2] * inverse_depth.shape[-1] + coordinates[..., 1::2]
    values = working(inverse_depth).flatten(1).gather(1, places.flatten(1).long())
    value_a, value_b = values.view(places.shape).unbind(-1)
    keep = torch.ones_like(relation, dtype=torch.bool) if valid is None else valid
    difference = zero_unless(keep, value_a - value_b)
    # Products cost a third of `where` here: which pairs are equal is no pattern that a processor could foresee.
    sign = relation.to(difference.dtype)
    ordered = functional.softplus(difference * sign) * sign.abs()
    loss = torch.addcmul(ordered, difference * (relation == 0), difference, value=equal_weight)
    return loss, keep
