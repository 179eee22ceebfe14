"""Losses on relative inverse depth: on ordinal pairs, on dense disparity, on the gradients of the error.

Every loss gives sums and counts, never a mean. The trainer divides by the count of the whole optimizer step over all
processes, which is the only normalisation there is; counts follow from the labels alone. Nothing in here waits for the
device, and all of it runs in float32 whatever autocast says (in float64 for a float64 prediction).
Letters: B pictures, P pairs a picture, H and W pixels, T terms, S scales, R rows, N columns.

    loss = build_loss(LossConfig(name="improved_ranking"))
    sums = loss(inverse_depth, batch)
    value = (loss.weights * sums.total.double() / sums.count).sum()  # where no count is 0
"""

from model.losses.configured import Loss, build_loss
from model.losses.dense import mae_loss, mse_loss, range_residual
from model.losses.gradient import gradient_loss
from model.losses.loss_sum import LossSum
from model.losses.pairs import improved_ranking_loss, ranking_loss
from model.losses.ssi import ssi_mae_loss, ssi_residual

__all__ = [
    "Loss",
    "LossSum",
    "build_loss",
    "gradient_loss",
    "improved_ranking_loss",
    "mae_loss",
    "mse_loss",
    "range_residual",
    "ranking_loss",
    "ssi_mae_loss",
    "ssi_residual",
]
