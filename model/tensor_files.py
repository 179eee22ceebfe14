"""Files of tensors from outside, read without running anything that they contain.

state, metadata = read_tensors(Path("resnet50.safetensors"))   # or a .pth of torch.save, read with weights_only
load_strictly(net, state, "resnet50.safetensors", "encoder resnet50")
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

__all__ = ["check_fit", "load_strictly", "read_tensors", "read_torch_file"]

FILE_LIMIT_BYTES = 8 << 30
"""No network of this field comes near; a file that claims more is refused before anything is read."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A state dict and its metadata from a `.safetensors` file or from one of `torch.save`.

    A file of `torch.save` may hold the tensors under the key `state_dict`, and has no metadata. The tensors may lie in
    the mapped file: copy them before it changes.

    Raises:
        ValueError: It cannot be read, or holds something else than named tensors.
    """
    if path.suffix != ".safetensors":
        block = read_torch_file(path)
        state = block.get("state_dict", block)
        if not isinstance(state, Mapping) or not all(isinstance(k, str) and _is_plain(v) for k, v in state.items()):
            raise ValueError(f"{path} is not a state dict: it holds other things than tensors by name")
        return dict(state), {}
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read weights from {path}: {error}") from error


def read_torch_file(path: Path) -> dict[str, Any]:
    """The mapping in a file of `torch.save`, by torch's unpickler that knows tensors and plain containers only.

    The tensors may lie in the mapped file: copy them before it changes.

    Raises:
        ValueError: It cannot be read, holds other objects, or claims to be too large.
    """
    try:
        size_bytes = path.stat().st_size
        zipped = zipfile.is_zipfile(path)
        if size_bytes > FILE_LIMIT_BYTES or (zipped and _is_packed(path)):
            raise ValueError(f"larger than {FILE_LIMIT_BYTES >> 30} GiB, or a zip that torch.save did not write")
        # Mapped, a tensor ends with the file at the latest; torch 2.6 believes what a zip says of a tensor's size.
        block = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # on a malformed file torch's unpickler ends in whatever error comes up first
        raise ValueError(f"cannot read weights from {path}: {_reason(error)}") from error
    if not isinstance(block, dict):
        raise ValueError(f"{path} holds a {type(block).__name__}, not tensors by name")
    return block


def load_strictly(net: nn.Module, state: Mapping[str, Tensor], origin: str, what: str) -> None:
    """Fill `net` with exactly these tensors.

    Args:
        net: Network to fill.
        state: Its tensors by name.
        origin: Where they came from, for the message.
        what: What the network is, for the message.

    Raises:
        ValueError: Names or shapes differ.
    """
    check_fit(net, state, origin, what)
    net.load_state_dict(dict(state))


def check_fit(net: nn.Module, state: Mapping[str, Tensor], origin: str, what: str) -> None:
    """Refuse tensors that are not exactly those of `net`; arguments and errors as of `load_strictly`."""
    own = net.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    common = sorted(own.keys() & state.keys())
    reshaped = [name for name in common if own[name].shape != state[name].shape]
    retyped = [name for name in common if own[name].is_floating_point() and not state[name].is_floating_point()]
    faults = [
        ("lacks", missing),
        ("has the unknown", unexpected),
        ("has another shape of", reshaped),
        ("has no real numbers in", retyped),
    ]
    text = "; ".join(f"it {verb} {len(names)} tensors ({names[0][:80]!a} ...)" for verb, names in faults if names)
    if text:
        raise ValueError(f"{origin} does not fit {what}: {text}")


def _is_packed(path: Path) -> bool:
    """Whether a zip is compressed: `torch.save` stores, and what is mapped must lie there as it is."""
    with zipfile.ZipFile(path) as archive:
        return any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist())


def _is_plain(value: object) -> bool:
    """A dense tensor in memory: of the kinds that a pickle can hold, sparse, quantised and meta ones are none."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _reason(error: Exception) -> str:
    """One line; torch's own text would advise to read the file without its protection."""
    if isinstance(error, pickle.UnpicklingError):
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            return f"beside tensors it holds {named[1][:80]!a}, which is not read; save its state dict alone"
        return "it is damaged, or no file of torch.save"
    return " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__
