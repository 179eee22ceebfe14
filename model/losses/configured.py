"""The configured loss: one or more terms, each with its own sum, count and weight.

The value of an optimizer step is `sum_t weights[t] * total[t] / count[t]`, where totals and counts are first summed
over its micro-batches and processes. Counts need no prediction, so the trainer adds them up before the forward.

    loss = build_loss(LossConfig(name="ranking", gradient_weight=0.2))
    loss.terms      # ("ranking", "gradient", "gradient", "gradient", "gradient")
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import LossConfig
from model.losses.dense import range_residual
from model.losses.gradient import gradient_loss
from model.losses.loss_sum import LossSum, weighted, working
from model.losses.pairs import improved_ranking_count, improved_ranking_loss, ranking_loss
from model.losses.ssi import ssi_residual, trimmed_sum

__all__ = ["Loss", "build_loss"]

_ON_PAIRS = ("ranking", "improved_ranking")
_CERTAIN = 255


@dataclass(frozen=True, eq=False)
class Loss:
    """A function of a prediction and a batch of the training stream; made by `build_loss`."""

    config: LossConfig
    terms: tuple[str, ...]
    """Names of the T terms: that of the loss, then `gradient` once a scale."""
    weights: Tensor
    """(T,) float64 on the CPU: weight of each term's mean in the loss of a step."""

    def __call__(self, inverse_depth: Tensor, batch: Mapping[str, Tensor]) -> LossSum:
        """Sums of a micro-batch.

        Args:
            inverse_depth: (B, H, W) prediction, larger = nearer.
            batch: `pairs_yx` (B, P, 4), `relation` and `valid` (B, P) for a loss on pairs; `inverse_depth` (B, H, W)
                and `confidence` uint8 (B, H, W), 0 = unknown, for a dense one and for the gradient term.

        Returns:
            Total and count, (T,) each; the total carries the gradient.

        Raises:
            ValueError: The shapes do not belong together.
        """
        on_pairs = self.config.name in _ON_PAIRS
        totals = [self._pair_total(inverse_depth, batch)] if on_pairs else []
        if not on_pairs or self.config.gradient_weight:
            weight = batch["confidence"].to(working(inverse_depth).dtype) / _CERTAIN
            compare = ssi_residual if self.config.name == "ssi_mae" else range_residual
            residual = compare(inverse_depth, batch["inverse_depth"], weight)
            if not on_pairs:
                totals.append(self._dense_total(residual, weight))
            if self.config.gradient_weight:
                totals.extend(gradient_loss(residual, weight, scales=self.config.gradient_scales).total)
        return LossSum(torch.stack(totals), self.counts(batch))

    def counts(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Counts of a micro-batch from its labels alone: float64 (T,) on the batch's device."""
        config = self.config
        if config.name == "ranking":
            counts = [batch["valid"].sum().double()]
        elif config.name == "improved_ranking":
            share, scope = config.hard_share, config.scope
            counts = [improved_ranking_count(batch["relation"], batch["valid"], hard_share=share, scope=scope)]
        else:
            counts = [_total_weight(batch["confidence"])]
        for scale in range(len(self.terms) - 1):
            counts.append(_total_weight(batch["confidence"][:, :: 2**scale, :: 2**scale]))
        return torch.stack(counts)

    def _pair_total(self, inverse_depth: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        config, pairs = self.config, (batch["pairs_yx"], batch["relation"], batch["valid"])
        if config.name == "ranking":
            return ranking_loss(inverse_depth, *pairs, equal_weight=config.equal_weight).total
        return improved_ranking_loss(
            inverse_depth,
            *pairs,
            hard_share=config.hard_share,
            scope=config.scope,
            equal_weight=config.equal_weight,
        ).total

    def _dense_total(self, residual: Tensor, weight: Tensor) -> Tensor:
        if self.config.name == "ssi_mae":
            return trimmed_sum(residual.abs(), weight, self.config.trim_share).total
        return weighted(residual.abs() if self.config.name == "mae" else residual.square(), weight).total


def build_loss(config: LossConfig) -> Loss:
    """The configured loss.

    Weights: 1, or 1/2 for `ssi_mae` as in its paper, and `gradient_weight` for every scale of the gradient term.
    """
    scales = config.gradient_scales if config.gradient_weight else 0
    weights = [0.5 if config.name == "ssi_mae" else 1.0] + [config.gradient_weight] * scales
    return Loss(config, (config.name, *["gradient"] * scales), torch.tensor(weights, dtype=torch.float64))


def _total_weight(confidence: Tensor) -> Tensor:
    """Sum of a uint8 confidence (B, H, W) as a weight 0..1, exact: integers are added up first."""
    # Adding up in int32 is several times faster than in int64, and no row is long enough to overflow it.
    return confidence.sum(-1, dtype=torch.int32).sum().double() / _CERTAIN
