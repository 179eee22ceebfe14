"""The optimizer: parameter groups for the encoder's lower rate and for weight decay.

optimizer = build_optimizer(net, OptimConfig(name="adamw"))
set_learning_rate(optimizer, learning_rate(step, total_steps, config))  # before each update
"""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn

from model import DepthNet
from pipeline.train.config import OptimConfig

__all__ = ["build_optimizer", "parameter_groups", "set_learning_rate"]


class HasParamGroups(Protocol):
    """A torch optimizer, or one that Accelerate has wrapped."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with their own settings."""


def parameter_groups(net: DepthNet, config: OptimConfig) -> list[dict[str, Any]]:
    """Trainable parameters by rate and decay, each in exactly one group.

    Only weights of more than one dimension decay: pulling a bias or the scale of a norm towards zero regularises
    nothing. `lr_ratio` is the group's rate as a share of the run's; frozen parameters are left out.
    """
    groups = []
    parts = (
        ("encoder", net.encoder_parameters(), config.encoder_lr_ratio),
        ("decoder", net.decoder_parameters(), 1.0),
    )
    for name, parameters, lr_ratio in parts:
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        for suffix, decay, members in (
            ("weights", config.weight_decay, _members(trainable, decays=True)),
            ("biases and norms", 0.0, _members(trainable, decays=False)),
        ):
            if members:
                groups.append(
                    {
                        "params": members,
                        "name": f"{name} {suffix}",
                        "lr_ratio": lr_ratio,
                        "lr": config.lr * lr_ratio,
                        "weight_decay": decay,
                    }
                )
    return groups


def build_optimizer(net: DepthNet, config: OptimConfig, *, scales_loss: bool = False) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over `parameter_groups`.

    Args:
        net: The network.
        config: Optimizer and rates.
        scales_loss: Whether GradScaler is used. Accelerate can tell that it has skipped a step only where the update
            is not fused.
    """
    groups = parameter_groups(net, config)
    fuses = not scales_loss if config.fused is None else config.fused
    fused = fuses or None  # False would also keep torch from `foreach`, its faster way on a GPU
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)


def set_learning_rate(optimizer: HasParamGroups, lr: float) -> None:
    """Give each group its share of the run's rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_ratio"]


def _members(parameters: Iterable[nn.Parameter], *, decays: bool) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if (parameter.ndim > 1) == decays]
