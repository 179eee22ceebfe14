"""What a loss returns, and what all of them do with their input first.

LossSum(total=losses.sum(), count=weight.sum(dtype=torch.float64))
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LossSum", "check_maps", "known_pixels", "weighted", "working", "zero_unless"]


@dataclass(frozen=True)
class LossSum:
    """A loss before normalisation."""

    total: Tensor
    """Sum over what was kept: float32, or float64 if the prediction is. Scalar, or (T,) for several terms."""
    count: Tensor
    """How many pairs or how much weight of pixels was kept: float64 of the same shape."""


def working(values: Tensor) -> Tensor:
    """The same values in the dtype of the computation: float64 stays, everything else becomes float32."""
    return values if values.dtype == torch.float64 else values.float()


def known_pixels(weight: Tensor) -> Tensor:
    """(B, H, W) bool: where a weight, bool or float, is not 0."""
    return weight if weight.dtype == torch.bool else weight > 0


def zero_unless(keep: Tensor, values: Tensor) -> Tensor:
    """Cut off what does not count *before* a non-linearity: its gradient at infinity times zero would be NaN."""
    return torch.where(keep, values, torch.zeros_like(values))


def weighted(losses: Tensor, weight: Tensor) -> LossSum:
    """Sum of losses times weights, and of the weights; both tensors of one shape.

    A loss that is not finite stays so under a weight of 0: a diverged network must not look well.
    """
    return LossSum((losses * weight).sum(), weight.sum(dtype=torch.float64))


def check_maps(inverse_depth: Tensor, target: Tensor, weight: Tensor) -> None:
    """Raise ValueError unless all three are (B, H, W) and the weight is bool or float."""
    if not inverse_depth.shape == target.shape == weight.shape or weight.ndim != 3:
        raise ValueError(
            f"prediction {tuple(inverse_depth.shape)}, target {tuple(target.shape)} and weight "
            f"{tuple(weight.shape)} must be one shape (B, H, W)"
        )
    if weight.dtype != torch.bool and not weight.is_floating_point():
        raise ValueError(f"weight is {weight.dtype}, must be bool or float; divide a uint8 confidence by 255")
