"""Losses against each picture's own disparity, scaled to its robust range: mean absolute and mean squared error.

They are the L1 and L2 of the ablations of Xian et al. (CVPR 2018), which do not say how disparity is normalised.

    loss = mae_loss(inverse_depth, target, confidence / 255)
"""

import torch
from torch import Tensor

from model.losses.loss_sum import LossSum, check_maps, known_pixels, weighted, working, zero_unless
from model.losses.selection import nth_extreme

__all__ = ["mae_loss", "mse_loss", "range_residual"]

_LOW, _HIGH = 0.02, 0.98


def mae_loss(inverse_depth: Tensor, target: Tensor, weight: Tensor) -> LossSum:
    """Absolute error against the disparity whose P2 of each picture became 0 and whose P98 became 1.

    Args:
        inverse_depth: (B, H, W) prediction, larger = nearer.
        target: (B, H, W) float disparity of any offset and scale, larger = nearer.
        weight: (B, H, W) bool or float 0..1: where the target may be used, and how much it counts.

    Raises:
        ValueError: The shapes differ, or the weight is an integer.
    """
    return weighted(range_residual(inverse_depth, target, weight).abs(), weight)


def mse_loss(inverse_depth: Tensor, target: Tensor, weight: Tensor) -> LossSum:
    """Squared error against the disparity normalised as in `mae_loss`; arguments and errors as there."""
    return weighted(range_residual(inverse_depth, target, weight).square(), weight)


def range_residual(inverse_depth: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Prediction minus normalised target, (B, H, W), 0 where the target is unknown.

    The percentiles are those of the known pixels, whatever their weight: of n sorted values, number
    `round(0.02 * (n - 1))` and `round(0.98 * (n - 1))`, halves to even. Where they are equal the target becomes 0.

    Args:
        inverse_depth: (B, H, W) prediction, larger = nearer.
        target: (B, H, W) float disparity of any offset and scale, larger = nearer.
        weight: (B, H, W) bool or float 0..1.

    Raises:
        ValueError: The shapes differ, or the weight is an integer.
    """
    check_maps(inverse_depth, target, weight)
    prediction, known = working(inverse_depth), known_pixels(weight)
    return zero_unless(known, prediction - _normalise(target.to(prediction.dtype), known))


def _normalise(target: Tensor, known: Tensor) -> Tensor:
    """Each picture's known P2 -> 0 and P98 -> 1; a picture without a range becomes 0. Any value where unknown."""
    values, candidate = target.flatten(1), known.flatten(1)
    last = (candidate.sum(1, keepdim=True) - 1).clamp(min=0)
    from_below = (_LOW * last.double()).round().long()
    from_above = last - (_HIGH * last.double()).round().long()
    highest_rank = int(_LOW * values.shape[1]) + 1
    low = nth_extreme(values, candidate, from_below, highest_rank, largest=False).unsqueeze(-1)
    high = nth_extreme(values, candidate, from_above, highest_rank, largest=True).unsqueeze(-1)
    return (target - low) / torch.where(high > low, high - low, torch.inf)
