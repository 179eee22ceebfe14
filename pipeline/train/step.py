"""One optimizer step: forward and backward of its micro-batches, one normalisation, a finite check, the update.

The loss of a step is the sum over all kept pairs of all processes, divided by their number. That number is known only
after the last micro-batch, so each backward divides by a constant of the same size (which keeps fp16's scaled
gradients in range) and the gradients are corrected once, before they are unscaled and clipped.

figures = OptimizerStep(machine, net, optimizer, loss, config).run(micro_batches, lr, step)
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from model.losses import Loss
from pipeline.train.config import RunConfig
from pipeline.train.machine import Machine
from pipeline.train.optim import set_learning_rate
from shards.errors import DivergedError

__all__ = ["OptimizerStep", "StepFigures", "gradient_scale", "nominal_count"]

Batch = Mapping[str, Any]

OVERFLOWS_IN_A_ROW = 40
"""fp16: the loss scale starts at 2 ** 16 and halves each time; below 2 ** -24 no gradient survives."""
KEYS_NAMED = 8
"""Samples that an error names."""


class StepFigures(NamedTuple):
    """What a step did, on the device; reading it waits for the device."""

    sums: Tensor
    """(2,) float64: loss and number of pairs or pixels, summed over all processes."""
    grad_norm: Tensor
    """Scalar: l2 norm of the gradient before clipping."""


class _Verdict(NamedTuple):
    """Whether a step was finite, on its way from the device to the host."""

    finite: Tensor
    arrived: torch.cuda.Event
    step: int
    keys: list[str]


def nominal_count(config: RunConfig) -> int:
    """Pairs or pixels of a step in which every one is kept: a constant near the true number."""
    height, width = config.train.size
    per_picture = height * width if config.loss.name == "mae" else config.data.num_pairs
    return config.train.batch_size * per_picture


def gradient_scale(nominal: int, world_size: int, count: Tensor) -> Tensor:
    """Factor that turns gradients of `total / nominal`, averaged over the processes, into those of the mean loss."""
    return (nominal * world_size / count).float()


class OptimizerStep:
    """Runs optimizer steps and guards them against values that are not finite.

    Attributes:
        empty_steps: Steps left out because no picture had a pair.
        overflowed_steps: Steps left out because an fp16 gradient overflowed.
    """

    def __init__(
        self, machine: Machine, net: nn.Module, optimizer: AcceleratedOptimizer, loss: Loss, config: RunConfig
    ) -> None:
        """Take the network and the optimizer as Accelerate prepared them."""
        self.empty_steps = 0
        self.overflowed_steps = 0
        self._machine = machine
        self._net = net
        self._optimizer = optimizer
        self._loss = loss
        self._nominal = nominal_count(config)
        self._max_norm = config.optim.clip_grad_norm or float("inf")
        self._target = "known" if config.loss.name == "mae" else "valid"
        self._parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self._overflows_in_a_row = 0
        self._pending: _Verdict | None = None

    def run(self, micro_batches: Sequence[Batch], lr: float, step: int) -> StepFigures | None:
        """Do update number `step`, counted from 1; None where there is nothing to learn from on any process.

        Raises:
            DivergedError: Loss or gradients are not finite. On the CPU the update is not applied; on a GPU, where
                looking at once would stall the device, the error comes one step later (or from `settle`).
        """
        if not self._machine.any_process(any(bool(batch[self._target].any()) for batch in micro_batches)):
            self.empty_steps += 1
            return None
        sums = self._backward(micro_batches)
        torch._foreach_mul_(
            [parameter.grad for parameter in self._parameters if parameter.grad is not None],
            gradient_scale(self._nominal, self._machine.world_size, sums[1]),
        )
        grad_norm: Tensor = self._machine.accelerator.clip_grad_norm_(self._parameters, self._max_norm)
        if self._machine.accelerator.scaler is None:
            keys = [key for batch in micro_batches for key in batch["keys"]]
            self._check(torch.isfinite(sums).all() & torch.isfinite(grad_norm), step, keys)
        set_learning_rate(self._optimizer, lr)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._optimizer.step_was_skipped:
            self._count_overflow(step)
            # An infinite loss would spoil the mean that is logged.
            return StepFigures(torch.zeros_like(sums), grad_norm)
        self._overflows_in_a_row = 0
        return StepFigures(sums, grad_norm)

    def settle(self) -> None:
        """Wait for the verdict on the last step; call before anything is saved or evaluated.

        Raises:
            DivergedError: The last step was not finite.
        """
        if self._pending is not None:
            verdict, self._pending = self._pending, None
            verdict.arrived.synchronize()
            self._raise_unless(bool(verdict.finite), verdict.step, verdict.keys)

    def _backward(self, micro_batches: Sequence[Batch]) -> Tensor:
        """Accumulate gradients; returns (2,) float64 sums of loss and count over all processes."""
        machine = self._machine
        sums = torch.zeros(2, dtype=torch.float64, device=machine.device)
        for index, batch in enumerate(micro_batches):
            is_last = index == len(micro_batches) - 1
            with contextlib.nullcontext() if is_last else machine.accelerator.no_sync(self._net):
                on_device = _move(batch, machine.device)
                loss = self._loss(self._net(on_device["image"]), on_device)
                machine.accelerator.backward(loss.total / self._nominal)
            sums += torch.stack([loss.total.detach(), loss.count])
        reduced: Tensor = machine.accelerator.reduce(sums, "sum")
        return reduced

    def _check(self, finite: Tensor, step: int, keys: list[str]) -> None:
        """On the CPU look at once; on a GPU send the flag on its way and look at the previous one."""
        if self._machine.device.type != "cuda":
            self._raise_unless(bool(finite), step, keys)
            return
        self.settle()
        on_host = torch.empty((), dtype=torch.bool, pin_memory=True)
        on_host.copy_(finite, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._pending = _Verdict(on_host, arrived, step, keys)

    def _raise_unless(self, finite: bool, step: int, keys: list[str]) -> None:
        if finite:
            return
        keys = self._machine.gather_lists(keys)
        more = f" and {len(keys) - KEYS_NAMED} more" if len(keys) > KEYS_NAMED else ""
        raise DivergedError(
            f"loss or gradient of step {step} is not finite; its samples: {', '.join(keys[:KEYS_NAMED])}{more}. "
            "Lower optim.lr, set optim.clip_grad_norm, or look at these samples"
        )

    def _count_overflow(self, step: int) -> None:
        self.overflowed_steps += 1
        self._overflows_in_a_row += 1
        if self._overflows_in_a_row >= OVERFLOWS_IN_A_ROW:
            raise DivergedError(
                f"fp16 gradients overflowed {OVERFLOWS_IN_A_ROW} times in a row up to step {step}; "
                "lower optim.lr or use bf16 or fp32"
            )


def _move(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    return {
        name: value.to(device, non_blocking=True) for name, value in batch.items() if isinstance(value, torch.Tensor)
    }
