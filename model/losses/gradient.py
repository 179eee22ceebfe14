"""Multi-scale gradient matching: the error of a prediction should have no edges of its own.

Li and Snavely (MegaDepth, CVPR 2018) match gradients of logarithms; Ranftl et al. (TPAMI 2022) match those of aligned
inverse depth, which is the form used here. Scale k looks at every 2 ** k-th pixel of the residual.

    loss = gradient_loss(range_residual(inverse_depth, target, weight), weight, scales=4)
"""

import torch
from torch import Tensor

from model.losses.loss_sum import LossSum

__all__ = ["gradient_loss"]


def gradient_loss(residual: Tensor, weight: Tensor, *, scales: int = 4) -> LossSum:
    """Absolute differences of neighbouring residuals, right and down, of each scale.

    A difference counts as much as the less certain of its two pixels and not at all where one is unknown. Each scale
    has its own total and its own count, the weight of its pixels (not of its differences), as in the published code.

    Args:
        residual: (B, H, W) prediction minus target, 0 where unknown: `range_residual` or `ssi_residual`.
        weight: (B, H, W) bool or float 0..1.
        scales: Number of scales S, the first at full size.

    Returns:
        Total and count, (S,) each.

    Raises:
        ValueError: The shapes differ or there is no scale.
    """
    if residual.shape != weight.shape or residual.ndim != 3 or scales < 1:
        raise ValueError(
            f"residual {tuple(residual.shape)} and weight {tuple(weight.shape)} must be one shape (B, H, W) and "
            f"scales {scales} at least 1"
        )
    totals, counts = [], []
    for scale in range(scales):
        if scale:
            residual, weight = residual[:, ::2, ::2], weight[:, ::2, ::2]
        totals.append(_differences(residual, weight, 1) + _differences(residual, weight, 2))
        counts.append(weight.sum(dtype=torch.float64))
    return LossSum(torch.stack(totals), torch.stack(counts))


def _differences(residual: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Sum over neighbours along a dimension."""
    last = residual.shape[dim] - 1
    both = torch.minimum(weight.narrow(dim, 1, last), weight.narrow(dim, 0, last))
    return (residual.diff(dim=dim).abs() * both).sum()
