"""One optimizer step: forward and backward of its micro-batches, one normalisation, a finite check, the update.

The loss of a step is, for each of its terms, the sum over all kept pairs or pixels of all processes, divided by their
number. The labels alone tell that number, so it is known before the first forward and every backward divides by it:
gradients do not depend on how the step is split.

What is not finite ends the run, with one exception: a *gradient* under fp16, which is scaled up so that it does not
vanish; where the scale was too large it is halved and the step left out. The scale has no part in the *loss*, so one
that is not finite stops an fp16 run like any other: activations overflowed or the network diverged, and no other scale
would help.

figures = OptimizerStep(machine, net, optimizer, loss, config).run(micro_batches, lr, step)
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from model.losses import Loss
from pipeline.data.colour import apply_colour
from pipeline.train.config import RunConfig
from pipeline.train.ema import AveragedWeights
from pipeline.train.machine import Machine
from pipeline.train.optim import set_learning_rate
from shards.errors import DivergedError

__all__ = ["OptimizerStep", "StepFigures"]

Batch = Mapping[str, Any]

OVERFLOWS_IN_A_ROW = 40
"""fp16: the loss scale starts at 2 ** 16 and halves each time; below 2 ** -24 no gradient survives."""
KEYS_NAMED = 8
"""Samples that an error names."""


class StepFigures(NamedTuple):
    """What a step did, on the device; reading it waits for the device."""

    terms: Tensor
    """(T,) float64: what each term of the loss adds to that of the step, over all processes."""
    grad_norm: Tensor
    """Scalar: l2 norm of the gradient before clipping."""
    applied: bool = True
    """False where an fp16 gradient overflowed and the update was left out."""
    param_norm: Tensor | None = None
    """Scalar: l2 norm of all trained parameters after the step; None where it was not asked for."""
    update_norm: Tensor | None = None
    """Scalar: l2 norm of what the step changed in them; None where it was not asked for."""


class _Verdict(NamedTuple):
    """Whether a step was finite, on its way from the device to the host."""

    finite: Tensor
    arrived: torch.cuda.Event
    step: int
    keys: list[str]


class OptimizerStep:
    """Runs optimizer steps and guards them against values that are not finite.

    Attributes:
        empty_steps: Steps left out because no picture had a pair.
        overflowed_steps: Steps left out because an fp16 gradient overflowed.
        replaced_samples: Samples, of all processes, that stood in for unreadable ones (`data.on_bad_shard`).
    """

    def __init__(
        self,
        machine: Machine,
        net: nn.Module,
        optimizer: AcceleratedOptimizer,
        loss: Loss,
        config: RunConfig,
        *,
        ema: AveragedWeights | None = None,
    ) -> None:
        """Take the network and the optimizer as Accelerate prepared them, and the average to be kept if any."""
        self.empty_steps = 0
        self.overflowed_steps = 0
        self.replaced_samples = 0
        self._machine = machine
        self._net = net
        self._optimizer = optimizer
        self._loss = loss
        self._ema = ema
        self._batch_size = config.train.batch_size
        self._sums_pairs = config.train.reduction == "sum"
        self._memory_format = torch.channels_last if config.train.channels_last else torch.contiguous_format
        self._max_norm = config.optim.clip_grad_norm
        self._clipped_steps = torch.zeros((), dtype=torch.int64, device=machine.device)
        self._parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self._overflows_in_a_row = 0
        self._pending: _Verdict | None = None

    @property
    def clipped_steps(self) -> int:
        """Steps whose gradient was longer than `optim.clip_grad_norm`; reading it waits for the device."""
        return int(self._clipped_steps)

    def counts(self) -> dict[str, int]:
        """What was counted so far, to be restored in the next session."""
        return {
            "empty_steps": self.empty_steps,
            "overflowed_steps": self.overflowed_steps,
            "replaced_samples": self.replaced_samples,
            "clipped_steps": self.clipped_steps,
        }

    def restore_counts(self, counts: Mapping[str, Any]) -> None:
        """Go on counting from what `counts` returned."""
        self.empty_steps = int(counts["empty_steps"])
        self.overflowed_steps = int(counts["overflowed_steps"])
        self.replaced_samples = int(counts["replaced_samples"])
        self._clipped_steps.fill_(int(counts["clipped_steps"]))

    def run(
        self, micro_batches: Sequence[Batch], lr: float, step: int, *, with_norms: bool = False
    ) -> StepFigures | None:
        """Do update number `step`, counted from 1; None where there is nothing to learn from on any process.

        Args:
            micro_batches: This process's part of the step.
            lr: Learning rate.
            step: Number of the step.
            with_norms: Measure parameters and update as well, for which the parameters are copied once.

        Raises:
            DivergedError: The loss is not finite, or without loss scaling a gradient. On the CPU the update is not
                applied; on a GPU, where looking at once would stall the device, the error comes one step later (or
                from `settle`).
        """
        scales = self._scales(micro_batches)
        if not any(scales):
            self.empty_steps += 1
            return None
        terms = self._backward(micro_batches, scales)
        grad_norm = self._clip_gradient()
        keys = [key for batch in micro_batches for key in batch["keys"]]
        finite = torch.isfinite(terms).all()
        if self._machine.accelerator.scaler is None:
            finite = finite & torch.isfinite(grad_norm)
        self._check(finite, step, keys)
        if self._max_norm is not None:
            self._clipped_steps += (grad_norm > self._max_norm) & torch.isfinite(grad_norm)
        before = [parameter.detach().clone() for parameter in self._parameters] if with_norms else []
        set_learning_rate(self._optimizer, lr)
        self._optimizer.step()
        self._optimizer.zero_grad()
        applied = not self._optimizer.step_was_skipped
        if applied:
            self._overflows_in_a_row = 0
            if self._ema is not None:
                self._ema.update()
        else:
            self._count_overflow(step)
        if not with_norms:
            return StepFigures(terms, grad_norm, applied)
        after = [parameter.detach() for parameter in self._parameters]
        moved = [now - then for now, then in zip(after, before, strict=True)]
        return StepFigures(terms, grad_norm, applied, get_total_norm(after), get_total_norm(moved))

    def settle(self) -> None:
        """Wait for the verdict on the last step; call before anything is saved or evaluated.

        Raises:
            DivergedError: The last step was not finite.
        """
        if self._pending is not None:
            verdict, self._pending = self._pending, None
            verdict.arrived.synchronize()
            self._raise_unless(bool(verdict.finite), verdict.step, verdict.keys)

    def _scales(self, micro_batches: Sequence[Batch]) -> list[float]:
        """Factor of each term's sum in the loss of this step; 0 where no process has anything to learn from."""
        local = torch.stack([self._loss.counts(batch) for batch in micro_batches]).sum(0)
        replaced = sum(batch["replaced"] for batch in micro_batches)
        *counts, replaced = self._machine.gather_sum([*local.tolist(), float(replaced)])
        self.replaced_samples += int(replaced)
        weights = self._loss.weights.tolist()
        if self._sums_pairs:
            counts = [float(self._batch_size) if count else 0.0 for count in counts]
        return [weight / count if count else 0.0 for weight, count in zip(weights, counts, strict=True)]

    def _backward(self, micro_batches: Sequence[Batch], scales: Sequence[float]) -> Tensor:
        """Accumulate gradients; returns the terms of the loss over all processes, float64 (T,)."""
        machine = self._machine
        scale = torch.tensor(scales, dtype=torch.float64).to(machine.device, non_blocking=True)
        terms = torch.zeros_like(scale)
        for index, batch in enumerate(micro_batches):
            is_last = index == len(micro_batches) - 1
            with contextlib.nullcontext() if is_last else machine.accelerator.no_sync(self._net):
                on_device = _move(batch, machine.device)
                image = apply_colour(on_device["image"], on_device["colour"])
                image = image.contiguous(memory_format=self._memory_format)
                total = self._loss(self._net(image), on_device).total
                # Data parallelism averages the gradients of the processes; their sum is meant.
                machine.accelerator.backward((total * scale.to(total.dtype)).sum() * machine.world_size)
            terms += total.detach() * scale
        reduced: Tensor = machine.accelerator.reduce(terms, "sum")
        return reduced

    def _clip_gradient(self) -> Tensor:
        """Shorten the gradient where there is a bound, else leave it untouched; returns its l2 norm before."""
        accelerator = self._machine.accelerator
        if self._max_norm is not None:
            clipped: Tensor = accelerator.clip_grad_norm_(self._parameters, self._max_norm)
            return clipped
        accelerator.unscale_gradients()
        return get_total_norm([parameter.grad for parameter in self._parameters if parameter.grad is not None])

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
        scaled = self._machine.accelerator.scaler is not None
        what, cure = "loss or gradient", "lower optim.lr, set optim.clip_grad_norm, or look at these samples"
        if scaled:
            what, cure = "the loss", f"with fp16 activations may have overflowed: use bf16 or fp32, {cure}"
        raise DivergedError(
            f"{what} of step {step} is not finite; its samples: {', '.join(keys[:KEYS_NAMED])}{more}; {cure}"
        )

    def _count_overflow(self, step: int) -> None:
        self.overflowed_steps += 1
        self._overflows_in_a_row += 1
        if self._overflows_in_a_row >= OVERFLOWS_IN_A_ROW:
            scale = self._machine.accelerator.scaler.get_scale()
            raise DivergedError(
                f"fp16 gradients were not finite {OVERFLOWS_IN_A_ROW} times in a row up to step {step}, down to a loss "
                f"scale of {scale:g}, so no scale helps; lower optim.lr or use bf16 or fp32"
            )


def _move(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    return {
        name: value.to(device, non_blocking=True) for name, value in batch.items() if isinstance(value, torch.Tensor)
    }
