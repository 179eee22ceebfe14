"""Copies of tensors in the host's memory, in buffers that are used again.

    copies = HostCopies(); snapshot = copies.take({"model": net.state_dict(), "optimizer": moments})

Most of the time of a fresh copy goes into pages that the system hands out for the first time. A run therefore keeps
the memory of one checkpoint: pinned for tensors of a GPU, whose copies then need to be waited for only once.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["HostCopies"]


class HostCopies:
    """Memory for one set of copies; each `take` overwrites what the one before has returned."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], Tensor] = {}

    def take(self, groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Contiguous copies on the CPU of named groups of named tensors of any shape and device."""
        buffers: dict[tuple[str, str], Tensor] = {}
        devices = set()
        for group, tensors in groups.items():
            for name, tensor in tensors.items():
                buffer = self._buffers.get((group, name))
                if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                    buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                buffer.copy_(tensor.detach(), non_blocking=tensor.is_cuda)
                buffers[group, name] = buffer
                if tensor.is_cuda:
                    devices.add(tensor.device)
        for device in devices:
            torch.cuda.current_stream(device).synchronize()
        self._buffers = buffers
        return {group: {name: buffers[group, name] for name in tensors} for group, tensors in groups.items()}
