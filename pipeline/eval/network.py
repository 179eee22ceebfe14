"""The network of a finished run, of a checkpoint, of a run that still trains, or of CVPR 2020, ready to predict.

loaded = load_network(Path("runs/web"), "cpu")
predict = Predictor(loaded.net, "cpu")
"""

import logging
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from model import DepthNet, ModelConfig
from model.sgr_checkpoint import SGR_CONFIG, SGR_SIZE_HW, read_sgr_checkpoint
from model.weights import MAX_SIDE_PX
from pipeline.train.checkpoint_folder import read_state, step_of, verify_folder
from pipeline.train.checkpoint_manifest import EMA_NAME
from shards.errors import CheckpointError
from shards.similar import similar_path

__all__ = ["LoadedNetwork", "load_network"]

logger = logging.getLogger("depthrank")

_Side = Annotated[int, Field(gt=0, le=MAX_SIDE_PX)]
_SIZE = TypeAdapter(tuple[_Side, _Side])


class LoadedNetwork(NamedTuple):
    """A network and where it came from."""

    net: DepthNet
    """On its device, in evaluation mode; `size_hw` is the training size."""
    origin: Path
    """What holds its weights: the folder or file asked for, or the newest checkpoint below it."""
    refused: tuple[str, ...] = ()
    """Newer checkpoints that were passed over as damaged, and why."""
    averaged: bool = False
    """Whether the weights are the moving average that a checkpoint holds beside those under training."""


def load_network(path: Path, device: torch.device | str) -> LoadedNetwork:
    """Load a network onto `device`.

    Args:
        path: a folder with `model.safetensors` and `config.json` (a finished run, `DepthNet.save_pretrained`), a
            checkpoint (`step_NNNNNNNN`; the moving average of its weights if it holds one, as that is what was
            validated), or the folder of a run that is not finished, of which the newest checkpoint that verifies is
            taken; or a file, the official `model.pth.tar` of CVPR 2020.
        device: where it will compute.

    Raises:
        CheckpointError: there is nothing there, or what it holds is no network, damaged, or of another version.
    """
    if path.is_file():
        return LoadedNetwork(_of_sgr_file(path).to(device), path)
    if not path.is_dir():
        raise CheckpointError(
            f"{path}: no such folder or file{similar_path(path)}; give a run folder, a checkpoint "
            "(step_NNNNNNNN) or the official model.pth.tar of CVPR 2020"
        )
    if step_of(path.resolve().name) is not None:
        return _of_checkpoint(path.resolve(), device)._replace(origin=path)
    if (path / "config.json").is_file():
        try:
            return LoadedNetwork(DepthNet.from_pretrained(path).to(device), path)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    refused: list[str] = []
    found = [folder for folder in (path / "checkpoints").glob("step_*") if step_of(folder.name) is not None]
    for folder in sorted(found, key=lambda folder: step_of(folder.name) or 0, reverse=True):
        try:
            return _of_checkpoint(folder, device)._replace(refused=tuple(refused))
        except CheckpointError as error:
            refused.append(str(error))
    if refused:
        raise CheckpointError(f"{path}: none of its {len(refused)} checkpoints can be used; the newest: {refused[0]}")
    raise CheckpointError(f"{path}: holds neither a network (model.safetensors, config.json) nor checkpoints")


def _of_sgr_file(path: Path) -> DepthNet:
    """The official network of CVPR 2020 with the weights of a file."""
    try:
        state = read_sgr_checkpoint(path)
    except ValueError as error:
        raise CheckpointError(
            f"{error}. Of single files only the official model.pth.tar of CVPR 2020 is a network; a run or an export "
            "of this project is a folder"
        ) from error
    net = DepthNet.unfilled(SGR_CONFIG)
    net.size_hw = SGR_SIZE_HW
    net.load_state_dict(state)
    return net.eval()


def _of_checkpoint(folder: Path, device: torch.device | str) -> LoadedNetwork:
    """The network of a checkpoint, every file of which is verified first."""
    averaged = EMA_NAME in verify_folder(folder).files
    config: Any = read_state(folder).get("config")
    try:
        # The checkpoint carries the weights; where the encoder's once came from may no longer exist.
        net = DepthNet.unfilled(ModelConfig(**config["model"]))
        net.size_hw = _SIZE.validate_python(config["train"]["size"])
        net.load_state_dict(load_file(folder / (EMA_NAME if averaged else "model.safetensors")))
    except (KeyError, TypeError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{folder}: its state.json holds no config of a network ({reason})") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder}: its weights do not fit its config ({reason})") from error
    if averaged:
        logger.info("%s: the moving average of its weights is taken", folder)
    return LoadedNetwork(net.eval().to(device), folder, averaged=averaged)
