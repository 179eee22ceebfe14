"""An optimizer's state as flat tensors plus JSON, and exactly back: what a checkpoint can store without pickle.

Tensors (momentum, moments, step counts) get the name `state.INDEX.NAME`, INDEX being the parameter's number in the
optimizer; everything else (hyperparameters, tuples, None, counts kept as plain numbers) goes into the JSON, where a
tagged object stands for what JSON has no word for. The memory layout of a tensor (channels last, say) comes back too:
fused optimizers walk parameters and moments side by side in memory and go wrong when their layouts differ.

    tensors, rest = flatten_optimizer(optimizer.state_dict())
    restore_optimizer(optimizer, unflatten_optimizer(tensors, rest))
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["flatten_optimizer", "restore_optimizer", "unflatten_optimizer"]


class Restorable(Protocol):
    """A torch optimizer, or one that Accelerate has wrapped."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with their own settings."""

    @property
    def state(self) -> Mapping[Tensor, dict[str, Any]]:
        """What is kept for each parameter."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state."""


def flatten_optimizer(state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split `torch.optim.Optimizer.state_dict()` into tensors by name and a JSON-able rest.

    Args:
        state_dict: `{"state": {index: {name: value}}, "param_groups": [...]}`.

    Returns:
        The tensors (the same objects, not copies) and the rest, to be given to `unflatten_optimizer` together. What
        becomes of the tensors' strides in between does not matter.

    Raises:
        TypeError: a value is neither a tensor nor a number, string, bool, None, list, tuple or dict of those.
    """
    tensors: dict[str, Tensor] = {}
    state = {
        str(index): {name: _encode(value, f"state.{index}.{name}", tensors) for name, value in entries.items()}
        for index, entries in state_dict["state"].items()
    }
    groups = [
        {name: _encode(value, f"group.{number}.{name}", tensors) for name, value in group.items()}
        for number, group in enumerate(state_dict["param_groups"])
    ]
    return tensors, {"state": state, "param_groups": groups}


def unflatten_optimizer(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Build the `state_dict` again whose parts `flatten_optimizer` returned.

    Raises:
        ValueError: the two parts do not belong together, or the rest is not of this form.
    """
    unused = set(tensors)

    def tensor_of(name: object, strides: object) -> Tensor:
        if not isinstance(name, str) or name not in tensors:
            raise ValueError(f"optimizer state: tensor {name!r} is missing")
        unused.discard(name)
        return tensors[name] if strides is None else _laid_out(tensors[name], strides, name)

    try:
        state = {
            int(index): {name: _decode(value, tensor_of) for name, value in entries.items()}
            for index, entries in rest["state"].items()
        }
        groups = [{name: _decode(value, tensor_of) for name, value in group.items()} for group in rest["param_groups"]]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"optimizer state: not in the expected form ({error!r})") from error
    if unused:
        raise ValueError(f"optimizer state: tensors without a place: {', '.join(sorted(unused)[:3])}")
    return {"state": state, "param_groups": groups}


def restore_optimizer(optimizer: Restorable, state_dict: Mapping[str, Any]) -> None:
    """Load a state that another session has left, as this session's optimizer computes.

    Whether the update is fused stays as the optimizer was built, and moments take the memory layout of their parameters
    (channels last or not), which may have changed since.

    Raises:
        ValueError: the state is that of other groups of parameters.
    """
    groups = [dict(group) for group in state_dict["param_groups"]]
    for group, own in zip(groups, optimizer.param_groups, strict=False):  # another number of them is refused below
        group["fused"] = own.get("fused")
    optimizer.load_state_dict({**state_dict, "param_groups": groups})
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                entries[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _encode(value: object, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[name] = value
        if value.is_contiguous() or not _fill_a_block(value.shape, value.stride()):
            return {"tensor": name}
        return {"tensor": name, "strides": list(value.stride())}
    # Exact types: numpy's numbers subclass Python's, and JSON would forget which they were.
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is list:
        return [_encode(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    if type(value) is tuple:
        return {"tuple": [_encode(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: _encode(item, f"{name}.{key}", tensors) for key, item in value.items()}}
    raise TypeError(f"optimizer state {name}: a {type(value).__name__} cannot be stored in a checkpoint")


def _decode(value: Any, tensor_of: Callable[[object, object], Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensor_of) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"tensor", "strides"}:
        return tensor_of(value["tensor"], value["strides"])
    if len(value) != 1:
        raise ValueError(f"optimizer state: {sorted(value)} is not one tagged value")
    ((tag, content),) = value.items()
    if tag == "tensor":
        return tensor_of(content, None)
    if tag == "float":
        return float(content)
    if tag == "tuple":
        return tuple(_decode(item, tensor_of) for item in content)
    if tag == "dict":
        return {key: _decode(item, tensor_of) for key, item in content.items()}
    raise ValueError(f"optimizer state: unknown tag {tag!r}")


def _laid_out(tensor: Tensor, strides: Any, name: str) -> Tensor:
    if len(strides) != tensor.dim() or not _fill_a_block(tensor.shape, strides):
        raise ValueError(f"optimizer state: {name} of shape {list(tensor.shape)} cannot have strides {strides}")
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)


def _fill_a_block(shape: Iterable[int], strides: Iterable[int]) -> bool:
    """Whether a tensor of this form occupies a block of memory without gaps or overlaps."""
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(strides, shape, strict=True) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True
