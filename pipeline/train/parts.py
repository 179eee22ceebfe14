"""The network under training with its optimizer and loss, built from the config and restored from a checkpoint.

parts = build_parts(config, machine, resumes=False)
figures = parts.optimizer_step.run(next(stream.steps(0)), lr, step=1)
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer

from model import DepthNet
from model.losses import Loss, build_loss
from pipeline.eval.network import load_network
from pipeline.imports import collecting_later
from pipeline.train.checkpoint_folder import Loaded
from pipeline.train.config import RunConfig
from pipeline.train.ema import AveragedWeights
from pipeline.train.machine import Machine
from pipeline.train.optim import build_optimizer
from pipeline.train.optimizer_state import restore_optimizer
from pipeline.train.rng import capture_rng, restore_rng, seed_generators
from pipeline.train.step import OptimizerStep
from shards.errors import CheckpointError, ConfigError, DivergedError
from shards.similar import similar_path
from shards.storage import home_path

__all__ = ["Parts", "build_parts"]

FREE_IN_INIT = ("encoder_weights", "freeze_bn", "decoder_init_std")
"""Settings of the network that do not change what given weights compute."""

TENSORS_NAMED = 4
"""Broken tensors that an error names."""

logger = logging.getLogger("depthrank")


@dataclass(frozen=True)
class Parts:
    """A network under training."""

    net: DepthNet
    """The network itself, on the device, without the wrapper of data parallelism."""
    optimizer: AcceleratedOptimizer
    optimizer_step: OptimizerStep
    loss: Loss
    machine: Machine
    ema: AveragedWeights | None
    """The moving average of the weights, where `optim.ema_decay` asks for it."""
    seed: int

    @property
    def result(self) -> DepthNet:
        """The network that is evaluated and exported: the average where there is one."""
        return self.net if self.ema is None else self.ema.net

    def settle(self, step: int) -> None:
        """Make sure that all is finite before it is saved or evaluated; all processes must call it.

        A step tells by its loss and gradient whether what it began with was good, not what its update made of it.

        Args:
            step: Number of the last step.

        Raises:
            DivergedError: The last step, a weight or a statistic is not finite.
        """
        self.optimizer_step.settle()
        # What counts is what the main process saves: its own statistics of batch norms.
        broken = self._broken_tensors() if self.machine.is_main else []
        if self.machine.any_process(bool(broken)):
            names = self.machine.gather_lists(broken)
            raise DivergedError(
                f"the update of step {step}, or one shortly before, left weights that are not finite: "
                f"{', '.join(names[:TENSORS_NAMED])}; lower optim.lr or set optim.clip_grad_norm"
            )

    def tensors(self) -> dict[str, Any]:
        """What a checkpoint stores as tensors."""
        average = {} if self.ema is None else {"ema": self.ema.net.state_dict()}
        return {"model": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), **average}

    def state(self) -> dict[str, Any]:
        """What else of the parts a checkpoint stores, as JSON values; all must call it, the main one has all of it."""
        scaler = self.machine.accelerator.scaler
        generators = self.machine.gather_on_main([json.dumps(capture_rng(self.machine.device))])
        return {
            "rng": [json.loads(states) for states in generators],
            "scaler": None if scaler is None else scaler.state_dict(),
            "ema_updates": None if self.ema is None else self.ema.num_updates,
            **self.optimizer_step.counts(),
        }

    def restore(self, loaded: Loaded) -> None:
        """Continue from a checkpoint: bit for bit where there are as many processes as before.

        Raises:
            CheckpointError: It does not fit this network or optimizer.
        """
        try:
            self.net.load_state_dict(loaded.model)
            restore_optimizer(self.optimizer, loaded.optimizer)
            if self.ema is not None:
                if loaded.ema is None:
                    raise ValueError("it holds no moving average of the weights")
                self.ema.restore(loaded.ema, int(loaded.state["ema_updates"]))
            scaler = self.machine.accelerator.scaler
            if scaler is not None and loaded.state["scaler"]:
                scaler.load_state_dict(loaded.state["scaler"])
            self.optimizer_step.restore_counts(loaded.state)
            self._restore_generators(loaded.state["rng"], int(loaded.state["step"]))
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            text = str(error).splitlines()
            raise CheckpointError(
                f"the checkpoint of step {loaded.state['step']} does not fit this run: {' '.join(text[:3])}"
            ) from error

    def _restore_generators(self, captured: list[dict[str, Any]], step: int) -> None:
        """Each process takes its own; among more or fewer processes there is no such thing, so all are seeded anew."""
        if len(captured) == self.machine.world_size:
            restore_rng(captured[self.machine.rank], self.machine.device)
        else:
            seed_generators(self.seed, self.machine.rank, step)

    def _broken_tensors(self) -> list[str]:
        """Names of weights and statistics that are not finite; the device is asked once where all are."""
        groups = {"": self.net.state_dict(), "average of ": {} if self.ema is None else self.ema.net.state_dict()}
        tensors = {
            prefix + name: tensor
            for prefix, group in groups.items()
            for name, tensor in group.items()
            if tensor.is_floating_point()
        }
        if torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).all():
            return []
        return [name for name, tensor in tensors.items() if not tensor.isfinite().all()]


def build_parts(config: RunConfig, machine: Machine, *, resumes: bool) -> Parts:
    """Build network and optimizer and hand them to Accelerate.

    The initial weights depend on `train.seed`, `model` and `checkpoint.init_from` only, on any number of processes.
    Afterwards each process draws from generators of its own.

    Args:
        config: The run's settings.
        machine: Where it runs.
        resumes: A checkpoint will be restored, so no weights are read here.

    Raises:
        ConfigError: The encoder's weights cannot be had.
        CheckpointError: `checkpoint.init_from` holds no network that fits.
    """
    torch.manual_seed(config.train.seed)
    init_from = None if resumes else config.checkpoint.init_from
    fills_all = resumes or init_from is not None
    try:
        net = DepthNet.unfilled(config.model) if fills_all else DepthNet.from_config(config.model)
    except ValueError as error:
        # A download that failed must not propose the folder of pictures beside it.
        hint = similar_path(config.model.encoder_weights, Path.is_file)
        raise ConfigError(f"model.encoder_weights: {error}{hint}") from error
    net.size_hw = config.train.size
    if init_from is not None:
        _take_weights(net, home_path(init_from))
    elif not resumes and config.model.freeze_bn and config.model.encoder_weights == "none":
        logger.warning("model.freeze_bn keeps batch norms that were never trained; give model.encoder_weights")
    if config.train.channels_last:
        net = net.to(memory_format=torch.channels_last)
    net.to(machine.device).train()
    loss, scales_loss = build_loss(config.loss), config.train.precision == "fp16"
    # Only the training step is compiled: an evaluation sees other batch sizes and would compile it again.
    trained = torch.compile(net) if config.train.compile else net
    with collecting_later():  # the first optimizer imports torch's compiler
        bare = build_optimizer(net, config.optim, scales_loss=scales_loss)
    wrapped, optimizer = machine.accelerator.prepare(trained, bare)
    ema = None if config.optim.ema_decay is None else AveragedWeights(net, config.optim.ema_decay)
    optimizer_step = OptimizerStep(machine, wrapped, optimizer, loss, config, ema=ema)
    # Only now: all processes have the same weights, but their dice must differ, or all would skip the same branches.
    seed_generators(config.train.seed, machine.rank, step=0)
    return Parts(net, optimizer, optimizer_step, loss, machine, ema, config.train.seed)


def _take_weights(net: DepthNet, origin: Path) -> None:
    loaded = load_network(origin, "cpu")
    for refused in loaded.refused:
        logger.warning("checkpoint.init_from: passed over: %s", refused)
    theirs, ours = loaded.net.config.model_dump(), net.config.model_dump()
    differing = [name for name in ours if name not in FREE_IN_INIT and theirs[name] != ours[name]]
    if differing:
        text = ", ".join(f"model.{name} is {theirs[name]!r} there and {ours[name]!r} here" for name in differing)
        raise CheckpointError(f"checkpoint.init_from: {loaded.origin} holds another network: {text}")
    net.load_state_dict(loaded.net.state_dict())
    logger.info("weights from %s%s", loaded.origin, ", the moving average" if loaded.averaged else "")
