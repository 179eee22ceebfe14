"""Length and learning rate of a run, as pure functions of integers.

The loop knows optimizer steps only; epochs are turned into steps once, and the rate of a step depends on nothing but
its number, so a resumed run continues the same curve.

learning_rate(0, 1000, OptimConfig(lr=1e-4, warmup_steps=100))  # 9.9e-07, the first step of the warm-up
"""

import math
from fractions import Fraction

from pipeline.train.config import OptimConfig, TrainConfig
from shards.errors import ConfigError

__all__ = ["is_due", "learning_rate", "run_length"]


def run_length(train: TrainConfig, optim: OptimConfig, num_samples: int) -> int:
    """Optimizer steps of the whole run; epochs are rounded up to whole steps.

    Raises:
        ConfigError: The warm-up is not shorter than the run.
    """
    steps = train.steps
    if steps is None:
        # Exact arithmetic: 0.1 epochs of 80 samples are 8 samples, not 8.000000000000002.
        epochs = Fraction(train.epochs or 0).limit_denominator(1_000_000)
        steps = max(1, math.ceil(epochs * num_samples / train.batch_size))
    if optim.warmup_steps >= steps:
        raise ConfigError(
            f"optim.warmup_steps: {optim.warmup_steps} is not shorter than the run of {steps} steps, "
            "which would never reach optim.lr; shorten the warm-up or train longer"
        )
    return steps


def learning_rate(step: int, total_steps: int, optim: OptimConfig) -> float:
    """Rate of the update number `step`, counted from 0, of a run of `total_steps`.

    The warm-up rises linearly and reaches the full rate at step `warmup_steps`. `poly` and `cosine` fall from there
    towards `final_lr_ratio * lr`, which the step after the last one would have; the milestones of `step` are shares of
    the whole run.
    """
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / (optim.warmup_steps + 1)
    progress = (step - optim.warmup_steps) / (total_steps - optim.warmup_steps)
    match optim.schedule:
        case "constant":
            return optim.lr
        case "step":
            return float(optim.lr * optim.gamma ** sum(step >= share * total_steps for share in optim.milestones))
        case "poly":
            shape = (1 - progress) ** optim.power
        case "cosine":
            shape = 0.5 * (1 + math.cos(math.pi * progress))
    return float(optim.lr * (optim.final_lr_ratio + (1 - optim.final_lr_ratio) * shape))


def is_due(step: int, every: int | None, total_steps: int) -> bool:
    """Whether something done `every` so many steps (None: only at the end) is done after `step` steps."""
    return step == total_steps or (every is not None and step % every == 0)
