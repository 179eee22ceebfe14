"""The network under training with its optimizer and loss, built from the config and restored from a checkpoint.

parts = build_parts(config, machine, resumes=False)
figures = parts.optimizer_step.run(next(stream.steps(0)), lr, step=1)
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer

from model import DepthNet
from model.losses import Loss, build_loss
from pipeline.eval.network import load_network
from pipeline.train.checkpoint_folder import Loaded
from pipeline.train.config import RunConfig
from pipeline.train.machine import Machine
from pipeline.train.optim import build_optimizer
from pipeline.train.rng import capture_rng, restore_rng
from pipeline.train.step import OptimizerStep
from shards.errors import CheckpointError, ConfigError
from shards.storage import home_path

__all__ = ["Parts", "build_parts"]

FREE_IN_INIT = ("encoder_weights", "freeze_bn", "decoder_init_std")
"""Settings of the network that do not change what given weights compute."""

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

    def tensors(self) -> dict[str, Any]:
        """What a checkpoint stores as tensors."""
        return {"model": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def state(self) -> dict[str, Any]:
        """What else of the parts a checkpoint stores, as JSON values."""
        scaler = self.machine.accelerator.scaler
        return {
            "rng": capture_rng(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "empty_steps": self.optimizer_step.empty_steps,
            "overflowed_steps": self.optimizer_step.overflowed_steps,
            "replaced_samples": self.optimizer_step.replaced_samples,
        }

    def restore(self, loaded: Loaded) -> None:
        """Continue from a checkpoint, bit for bit.

        Raises:
            CheckpointError: It does not fit this network or optimizer.
        """
        try:
            self.net.load_state_dict(loaded.model)
            self.optimizer.load_state_dict(loaded.optimizer)
            scaler = self.machine.accelerator.scaler
            if scaler is not None and loaded.state["scaler"]:
                scaler.load_state_dict(loaded.state["scaler"])
            restore_rng(loaded.state["rng"])
            self.optimizer_step.empty_steps = int(loaded.state["empty_steps"])
            self.optimizer_step.overflowed_steps = int(loaded.state["overflowed_steps"])
            self.optimizer_step.replaced_samples = int(loaded.state["replaced_samples"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            text = str(error).splitlines()
            raise CheckpointError(
                f"the checkpoint of step {loaded.state['step']} does not fit this run: {' '.join(text[:3])}"
            ) from error


def build_parts(config: RunConfig, machine: Machine, *, resumes: bool) -> Parts:
    """Build network and optimizer and hand them to Accelerate.

    The initial weights depend on `train.seed`, `model` and `checkpoint.init_from` only, on any number of processes.

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
    settings = config.model.model_copy(update={"encoder_weights": "none"}) if fills_all else config.model
    try:
        net = DepthNet.from_config(settings)
    except ValueError as error:
        raise ConfigError(f"model.encoder_weights: {error}") from error
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
    wrapped, optimizer = machine.accelerator.prepare(
        trained, build_optimizer(net, config.optim, scales_loss=scales_loss)
    )
    return Parts(net, optimizer, OptimizerStep(machine, wrapped, optimizer, loss, config), loss, machine)


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
    logger.info("weights from %s", loaded.origin)
