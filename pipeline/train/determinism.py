"""`train.deterministic`: results on a GPU that repeat bit for bit.

with deterministic_algorithms(config.train.deterministic, "cuda"):
    train()

A CPU needs nothing of this: what we compute there repeats itself as long as the number of threads is the same. Of what
a GPU computes for us, torch's page on `torch.use_deterministic_algorithms` says:
- convolutions, `gather`, indexing and padding by replication change over to repeatable algorithms;
- bilinear `interpolate`, whose backward pass has none, is replaced by torch itself by indexing and products, slower;
- `median` with indices raises an error: the loss `ssi_mae` sorts instead;
- matrix products need cuBLAS to be given a workspace before CUDA starts.
Max pooling adds up in a fixed order and never needed a replacement.
https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from shards.errors import ConfigError

__all__ = ["deterministic_algorithms"]

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REPEATABLE_WORKSPACES = (":4096:8", ":16:8")
"""The two that NVIDIA names; the first is the faster one and takes 24 MiB."""


@contextmanager
def deterministic_algorithms(wanted: bool, device_type: str) -> Iterator[None]:
    """Repeatable algorithms inside, torch's former settings afterwards; does nothing unless wanted, and on a CPU.

    Enter it before CUDA starts. The environment keeps `CUBLAS_WORKSPACE_CONFIG`, as CUDA does once it has started.

    Raises:
        ConfigError: CUDA runs already without the workspace, or the environment names one that does not repeat.
    """
    if not wanted or device_type != "cuda":
        yield
        return
    _settle_workspace()
    mode = torch.get_deterministic_debug_mode()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    # Its timings would choose among algorithms that are each repeatable, but differ from one another.
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.backends.cudnn.benchmark = benchmark


def _settle_workspace() -> None:
    given = os.environ.get(WORKSPACE)
    if given is None:
        if torch.cuda.is_initialized():
            raise ConfigError(
                f"train.deterministic: CUDA has started without {WORKSPACE}; set it to {REPEATABLE_WORKSPACES[0]} "
                "before the program starts"
            )
        os.environ[WORKSPACE] = REPEATABLE_WORKSPACES[0]
    elif given not in REPEATABLE_WORKSPACES:
        raise ConfigError(
            f"train.deterministic: {WORKSPACE}={given} does not repeat its results; unset it or set it to "
            + " or ".join(REPEATABLE_WORKSPACES)
        )
