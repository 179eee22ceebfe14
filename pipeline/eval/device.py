"""Where to compute, with the reason.

device, reason = choose_device("auto")
"""

import torch

from shards.errors import ConfigError

__all__ = ["choose_device"]


def choose_device(name: str) -> tuple[torch.device, str]:
    """The device of a name, and why.

    Args:
        name: `auto` (a CUDA device, else an Apple GPU, else the CPU), or what torch calls it (`cpu`, `cuda`, `cuda:1`,
            `mps`).

    Raises:
        ConfigError: there is no such device.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        if available:
            return torch.device("cuda"), "a CUDA device is available"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "an Apple GPU is available"
        return torch.device("cpu"), "neither a CUDA device nor an Apple GPU is available"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name}: no such kind of device; give auto, cpu, cuda or mps") from None
    if device.type == "cuda" and (not available or (device.index or 0) >= torch.cuda.device_count()):
        found = f"{torch.cuda.device_count()} found" if available else "none found"
        raise ConfigError(f"--device {name}: there is no such CUDA device ({found}); give auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"--device {name}: torch finds no Apple GPU here; give auto or cpu")
    return device, "as asked"
