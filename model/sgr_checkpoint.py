"""The published weights of the CVPR 2020 network: `model.pth.tar` of its official code (research use only).

    net = DepthNet(SGR_CONFIG)
    net.load_state_dict(read_sgr_checkpoint(Path("model.pth.tar")))

The file holds the tensors under `state_dict`, each name behind `module.` because it was saved from a DataParallel
wrapper. It may be of any torch since 0.4 and of Python 2: torch still reads that format.
"""

from pathlib import Path

import torch
from torch import Tensor

from model.config import ModelConfig
from model.depthnet import DepthNet
from model.tensor_files import check_fit, read_tensors

__all__ = ["SGR_CONFIG", "SGR_SIZE_HW", "read_sgr_checkpoint"]

SGR_CONFIG = ModelConfig(name="sgr", encoder="resnet50", encoder_variant="v1.5", decoder_init_std=0.01)
"""The official network: its bottlenecks have their stride on the 3x3, its batch norms torch's epsilon."""
SGR_SIZE_HW = (448, 448)
"""Height and width to which the official demo brings every picture."""
PREFIX = "module."


def read_sgr_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors of the official network in the names of `DepthNet(SGR_CONFIG)`, nothing but tensors being unpickled.

    The prefix and the outer mapping may be absent, and so may the batch norms' counters, which older versions of
    torch did not have and prediction does not use.

    Raises:
        ValueError: The file cannot be read, or does not hold exactly these names and shapes.
    """
    state, _ = read_tensors(path)
    if all(name.startswith(PREFIX) for name in state):
        state = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    with torch.device("meta"):
        net = DepthNet(SGR_CONFIG)
    for name in net.state_dict():
        if name.endswith(".num_batches_tracked"):
            state.setdefault(name, torch.tensor(0))
    check_fit(net, state, str(path), "the network of CVPR 2020 (sgr, resnet50)")
    return state
