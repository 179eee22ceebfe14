"""Where to compute, with the reason.

device, reason = choose_device("auto")
"""

import torch

from shards.errors import ConfigError

__all__ = ["choose_device"]


def choose_device(name: str) -> tuple[torch.device, str]:
    """The device of a name, and why.

    Args:
        name: `auto` (a CUDA device where there is one, else the CPU), or what torch calls it (`cpu`, `cuda`, `cuda:1`).

    Raises:
        ConfigError: there is no such device.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        if available:
            return torch.device("cuda"), "a CUDA device is available"
        return torch.device("cpu"), "no CUDA device is available"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name}: no such kind of device; give auto, cpu or cuda") from None
    if device.type == "cuda" and (not available or (device.index or 0) >= torch.cuda.device_count()):
        found = f"{torch.cuda.device_count()} found" if available else "none found"
        raise ConfigError(f"--device {name}: there is no such CUDA device ({found}); give auto or cpu")
    return device, "as asked"
