"""Scale- and shift-invariant absolute error (MiDaS: Ranftl et al., TPAMI 2022).

Prediction and target are both shifted by their median and divided by their mean absolute deviation, so that only the
shape of the map is learned. The paper's factor 1/2 is the weight of the term (`model.losses.configured`).

    loss = ssi_mae_loss(inverse_depth, target, confidence / 255, trim_share=0.2)
"""

import torch
from torch import Tensor

from model.losses.loss_sum import LossSum, check_maps, known_pixels, weighted, working, zero_unless
from model.losses.selection import share_of_largest

__all__ = ["ssi_mae_loss", "ssi_residual"]


def ssi_mae_loss(inverse_depth: Tensor, target: Tensor, weight: Tensor, *, trim_share: float = 0.0) -> LossSum:
    """Absolute error of the aligned maps, without each picture's largest errors if asked for.

    Args:
        inverse_depth: (B, H, W) prediction, larger = nearer.
        target: (B, H, W) float disparity of any offset and scale, larger = nearer.
        weight: (B, H, W) bool or float 0..1: where the target may be used, and how much it counts.
        trim_share: Share of a picture's known pixels, those with the largest errors, that adds nothing (0.2 in the
            paper), rounded down to whole pixels. They stay in the count, as the paper's M does.

    Raises:
        ValueError: The shapes differ, the weight is an integer, or `trim_share` is out of range.
    """
    return trimmed_sum(ssi_residual(inverse_depth, target, weight).abs(), weight, trim_share)


def ssi_residual(inverse_depth: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Aligned prediction minus aligned target, (B, H, W), 0 where the target is unknown.

    Median (of an even number the lower of the two in the middle) and deviation are those of the known pixels,
    whatever their weight. A map whose deviation drowns in rounding counts as constant and becomes 0. With a constant
    target, one known pixel included, there is nothing to learn: the prediction becomes 0 as well. A constant
    prediction has no scale: it keeps an error of about 1 a pixel and a gradient of 0.

    Args:
        inverse_depth: (B, H, W) prediction, larger = nearer.
        target: (B, H, W) float disparity of any offset and scale, larger = nearer.
        weight: (B, H, W) bool or float 0..1.

    Raises:
        ValueError: The shapes differ, or the weight is an integer.
    """
    check_maps(inverse_depth, target, weight)
    prediction, known = working(inverse_depth), known_pixels(weight)
    shifted_target, target_scale = _shift_and_scale(target.to(prediction.dtype), known)
    shifted, scale = _shift_and_scale(prediction, known)
    scale = torch.where(target_scale.isinf(), torch.inf, scale)
    return shifted / scale - shifted_target / target_scale


def trimmed_sum(errors: Tensor, weight: Tensor, trim_share: float) -> LossSum:
    """Weighted sum of errors (B, H, W) >= 0 without each picture's largest; the count holds all.

    Raises:
        ValueError: `trim_share` is out of range.
    """
    if not 0 <= trim_share < 1:
        raise ValueError(f"trim_share is {trim_share}, must be 0 <= trim_share < 1")
    if trim_share:
        smallest = share_of_largest(-errors.detach().flatten(1), known_pixels(weight).flatten(1), 1 - trim_share)
        errors = errors * smallest.view_as(errors)
    return weighted(errors, weight)


def _shift_and_scale(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Values minus their median (B, H, W), 0 where unknown, and mean absolute deviation (B, 1, 1), inf if constant."""
    num_known = known.sum((1, 2), keepdim=True)
    find = _median_by_sorting if values.is_cuda and torch.are_deterministic_algorithms_enabled() else _median
    median = zero_unless(num_known > 0, find(values.flatten(1), known.flatten(1)).view_as(num_known))
    shifted = zero_unless(known, values - median)
    deviation = shifted.abs().sum((1, 2), keepdim=True) / num_known.clamp(min=1)
    constant = deviation <= torch.finfo(values.dtype).eps * (1 + median.detach().abs())
    # Divided by infinity, a constant map becomes 0 with a gradient of 0. A NaN is not constant and stays.
    return shifted, torch.where(constant, torch.inf, deviation)


def _median(values: Tensor, known: Tensor) -> Tensor:
    """Lower median of each row's known values, (R, N) -> (R,); any value for a row without."""
    return values.masked_fill(~known, torch.nan).nanmedian(1).values


def _median_by_sorting(values: Tensor, known: Tensor) -> Tensor:
    """The same, slower, but repeatable on a GPU, gradient included.

    Which of several equal values `nanmedian` takes, and so gives the gradient, is not settled there, and torch refuses
    it in deterministic mode (https://docs.pytorch.org/docs/stable/generated/torch.median.html).
    """
    # The NaN of a diverged network sorts last and stays out, as above; its own pixel shows it in the loss.
    candidate = known & ~values.isnan()
    ordered = values.masked_fill(~candidate, torch.inf).sort(dim=1, stable=True).values
    middle = (candidate.sum(1, keepdim=True) - 1).clamp(min=0) // 2
    median: Tensor = ordered.gather(1, middle).squeeze(1)
    return median
