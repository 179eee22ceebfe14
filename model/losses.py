"""Losses on relative inverse depth: ranking, improved ranking (Xian et al., CVPR 2018) and MAE.

Every loss returns a sum and a count. The trainer divides by the count of the whole optimizer step over all processes,
which is the only normalisation there is. Letters: B pictures, P pairs a picture, H and W pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from model.config import LossConfig

__all__ = ["Loss", "LossSum", "build_loss", "improved_ranking_loss", "mae_loss", "ranking_loss"]


@dataclass(frozen=True)
class LossSum:
    """A loss before normalisation."""

    total: Tensor
    """Scalar float32: sum over what was kept."""
    count: Tensor
    """Scalar float32: how many pairs or pixels were kept."""


Loss = Callable[[Tensor, Mapping[str, Tensor]], LossSum]
"""Prediction (B, H, W) and a batch of the training stream to a sum."""


def ranking_loss(inverse_depth: Tensor, pairs_yx: Tensor, relation: Tensor, valid: Tensor | None = None) -> LossSum:
    """Ranking loss, Eq. 2 and 3 of the paper, with all pairs kept.

    For a pair (A, B) of relation r it is `softplus((p_a - p_b) * r)` where r is +1 (A farther) or -1 (A nearer), and
    `(p_a - p_b) ** 2` where r is 0. The paper's z grows with distance, the prediction p with nearness, hence the sign.

    Args:
        inverse_depth: (B, H, W) prediction, larger = nearer.
        pairs_yx: (B, P, 4) integer pixel coordinates y_a, x_a, y_b, x_b inside the picture.
        relation: (B, P) integers +1, -1 or 0.
        valid: (B, P) bool, False for padding; None keeps all.

    Raises:
        ValueError: The shapes do not belong together.
    """
    loss, keep = _pair_losses(inverse_depth, pairs_yx, relation, valid)
    return _masked_sum(loss, keep)


def improved_ranking_loss(
    inverse_depth: Tensor,
    pairs_yx: Tensor,
    relation: Tensor,
    valid: Tensor | None = None,
    *,
    hard_share: float = 0.75,
    scope: str = "image",
) -> LossSum:
    """Ranking loss that ignores the easiest unequal pairs (paper, Sec. 3.4).

    The unequal pairs are sorted by their present loss and only the share `hard_share` with the largest is kept;
    equal pairs are always kept. Whether the paper sorts within a picture or a mini-batch is not said.

    Args:
        inverse_depth: (B, H, W) prediction, larger = nearer.
        pairs_yx: (B, P, 4) integer pixel coordinates y_a, x_a, y_b, x_b inside the picture.
        relation: (B, P) integers +1, -1 or 0.
        valid: (B, P) bool, False for padding; None keeps all.
        hard_share: Share that is kept, 0 < hard_share <= 1, rounded up to whole pairs.
        scope: `image` sorts within each picture; `batch` over all pictures given, so the result depends on how a
            batch is split over processes and micro-batches.

    Raises:
        ValueError: The shapes do not belong together, or `scope` or `hard_share` is out of range.
    """
    if scope not in {"image", "batch"} or not 0 < hard_share <= 1:
        raise ValueError(f"scope {scope!r} must be image or batch and hard_share {hard_share} in (0, 1]")
    loss, keep = _pair_losses(inverse_depth, pairs_yx, relation, valid)
    unequal = keep & (relation != 0)
    rows = (1, -1) if scope == "batch" else loss.shape
    hard = _hardest(loss.detach().reshape(rows), unequal.reshape(rows), hard_share).reshape(loss.shape)
    return _masked_sum(loss, keep & (hard | ~unequal))


def mae_loss(inverse_depth: Tensor, target: Tensor, known: Tensor) -> LossSum:
    """Mean absolute error against each picture's own disparity, scaled so that its P2-P98 range becomes 0..1.

    Args:
        inverse_depth: (B, H, W) prediction, larger = nearer.
        target: (B, H, W) float disparity of any offset and scale, larger = nearer.
        known: (B, H, W) bool, where the target may be used.

    Raises:
        ValueError: The shapes differ.
    """
    if not inverse_depth.shape == target.shape == known.shape or known.ndim != 3:
        raise ValueError(
            f"prediction {tuple(inverse_depth.shape)}, target {tuple(target.shape)} and known "
            f"{tuple(known.shape)} must be one shape (B, H, W)"
        )
    difference = _zero_unless(known, inverse_depth.float() - _normalise(target.float(), known))
    return _masked_sum(difference.abs(), known)


def build_loss(config: LossConfig) -> Loss:
    """The configured loss as a function of a prediction and a batch of the training stream."""
    if config.name == "mae":
        return lambda prediction, batch: mae_loss(prediction, batch["inverse_depth"], batch["known"])
    if config.name == "ranking":
        return lambda prediction, batch: ranking_loss(prediction, batch["pairs_yx"], batch["relation"], batch["valid"])
    return lambda prediction, batch: improved_ranking_loss(
        prediction,
        batch["pairs_yx"],
        batch["relation"],
        batch["valid"],
        hard_share=config.hard_share,
        scope=config.scope,
    )


def _pair_losses(
    inverse_depth: Tensor, pairs_yx: Tensor, relation: Tensor, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Loss of each pair (B, P) in float32, whatever autocast says, and which pairs count."""
    if (
        inverse_depth.ndim != 3
        or pairs_yx.shape != (*relation.shape, 4)
        or relation.ndim != 2
        or len(inverse_depth) != len(relation)
        or (valid is not None and valid.shape != relation.shape)
    ):
        raise ValueError(
            f"prediction {tuple(inverse_depth.shape)}, pairs_yx {tuple(pairs_yx.shape)} and relation "
            f"{tuple(relation.shape)} must be (B, H, W), (B, P, 4) and (B, P)"
        )
    flat = inverse_depth.float().flatten(1)
    y_a, x_a, y_b, x_b = pairs_yx.long().unbind(-1)
    width = inverse_depth.shape[-1]
    difference = flat.gather(1, y_a * width + x_a) - flat.gather(1, y_b * width + x_b)
    keep = torch.ones_like(relation, dtype=torch.bool) if valid is None else valid
    difference = _zero_unless(keep, difference)
    loss = torch.where(relation == 0, difference.square(), functional.softplus(difference * relation))
    return loss, keep


def _hardest(loss: Tensor, candidate: Tensor, share: float) -> Tensor:
    """(R, N) bool: in each row, the `share` of the candidates with the largest loss."""
    order = loss.masked_fill(~candidate, -torch.inf).argsort(dim=1, descending=True, stable=True)
    # The small term keeps 0.9 * 10 = 9.000000000000002 from becoming 10.
    num_kept = (candidate.sum(1, keepdim=True, dtype=torch.float64) * share - 1e-9).ceil()
    within = torch.arange(loss.shape[1], device=loss.device) < num_kept
    return torch.zeros_like(candidate).scatter(1, order, within)


def _normalise(target: Tensor, known: Tensor) -> Tensor:
    """Each picture's known P2 -> 0 and P98 -> 1; a constant picture becomes 0."""
    values, _ = target.masked_fill(~known, torch.inf).flatten(1).sort(dim=1)
    count = known.flatten(1).sum(1, keepdim=True)
    last = (count - 1).clamp(min=0)
    low = values.gather(1, (0.02 * last).round().long())
    high = values.gather(1, (0.98 * last).round().long())
    span = torch.where((count > 0) & (high > low), high - low, torch.ones_like(high))
    low = torch.where(count > 0, low, torch.zeros_like(low))
    return (target - low.unsqueeze(-1)) / span.unsqueeze(-1)


def _zero_unless(keep: Tensor, difference: Tensor) -> Tensor:
    """Cut dropped entries off *before* the non-linearity: its gradient at infinity times zero would be NaN."""
    return torch.where(keep, difference, torch.zeros_like(difference))


def _masked_sum(loss: Tensor, keep: Tensor) -> LossSum:
    return LossSum((loss * keep).sum(), keep.sum(dtype=torch.float32))
