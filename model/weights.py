"""Weights in and out: safetensors and JSON, never a pickle.

A saved network is a folder with `model.safetensors` and `config.json` (the layout of the Hugging Face Hub).
"""

import json
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torchvision
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model.config import ModelConfig

__all__ = ["load_encoder", "load_network", "read_config", "save_network"]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FORMAT_VERSION = 1
CONFIG_LIMIT_BYTES = 1_000_000


def load_encoder(encoder: nn.Module, config: ModelConfig) -> None:
    """Fill the encoder with ImageNet weights.

    Raises:
        ValueError: The file cannot be read, names another stride or epsilon than `config`, or other layers.
    """
    if config.encoder_weights == "imagenet":
        state = _torchvision_weights(config)
        origin = f"torchvision's {config.encoder}"
    else:
        path = Path(config.encoder_weights).expanduser()
        state, facts = _read_tensors(path)
        _check_variant(facts, config, path)
        origin = str(path)
    state = {name: tensor.float() for name, tensor in state.items() if not name.startswith("fc.")}
    _load_strictly(encoder, state, origin, f"encoder {config.encoder}")


def load_network(net: nn.Module, folder: Path) -> None:
    """Fill the network from `folder/model.safetensors`.

    Raises:
        ValueError: The file is missing, malformed, or of another network.
    """
    state, _ = _read_tensors(folder / WEIGHTS_NAME)
    _load_strictly(net, state, str(folder / WEIGHTS_NAME), f"the network of {CONFIG_NAME}")


def save_network(net: nn.Module, folder: Path, config: ModelConfig, size_hw: tuple[int, int]) -> None:
    """Write weights and config; `config.json`, which makes the folder a network, is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    save_file(state, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    (folder / WEIGHTS_NAME).chmod(0o644)  # safetensors would keep it from everybody else
    # A saved network carries its weights: where the encoder's came from no longer matters, and may be a private path.
    settings = config.model_copy(update={"encoder_weights": "none"}).model_dump(mode="json")
    block = {"format_version": FORMAT_VERSION, "size_hw": list(size_hw), "model": settings}
    partial = folder / f".{CONFIG_NAME}.tmp"
    partial.write_text(json.dumps(block, indent=2) + "\n")
    partial.replace(folder / CONFIG_NAME)


def read_config(folder: Path) -> tuple[ModelConfig, tuple[int, int]]:
    """Settings and training size (height, width in pixels) of the network in `folder`.

    Raises:
        ValueError: `config.json` is missing, malformed or of a newer format.
    """
    path = folder / CONFIG_NAME
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_LIMIT_BYTES + 1)
        if len(text) > CONFIG_LIMIT_BYTES:
            raise ValueError(f"{path}: larger than {CONFIG_LIMIT_BYTES} bytes")
        block = json.loads(text)
        if block.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"{path}: format_version {block.get('format_version')!r} is not {FORMAT_VERSION}")
        height, width = block["size_hw"]
        if not all(type(side) is int and 0 < side <= 65536 for side in (height, width)):
            raise ValueError(f"{path}: size_hw {block['size_hw']!r} is not a height and a width in pixels")
        return ModelConfig(**block["model"]), (height, width)
    except OSError as error:
        raise ValueError(f"{folder} holds no network: cannot read {CONFIG_NAME} ({error.strerror})") from error
    except ValidationError as error:
        raise ValueError(f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from error
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not the config of a saved network ({error})") from error


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, whose header the library bounds and checks, and its metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read weights from {path}: {error}") from error


def _torchvision_weights(config: ModelConfig) -> dict[str, Any]:
    if config.encoder_variant == "v1" and config.encoder == "resnet50":
        raise ValueError("torchvision's ImageNet weights are for encoder_variant v1.5, not v1")
    try:
        state: dict[str, Any] = torchvision.models.get_model_weights(config.encoder)["IMAGENET1K_V1"].get_state_dict(
            check_hash=True
        )
    except (URLError, OSError) as error:
        raise ValueError(
            f"cannot download torchvision's {config.encoder} weights ({error}); "
            "give encoder_weights the path of a .safetensors file instead"
        ) from error
    return state


def _check_variant(facts: dict[str, str], config: ModelConfig, path: Path) -> None:
    """Converted weights say what they were trained with; a silent mismatch costs accuracy without an error."""
    variant = {"1x1": "v1", "3x3": "v1.5"}.get(facts.get("stride", ""), config.encoder_variant)
    if variant != config.encoder_variant:
        raise ValueError(f"{path} holds a {variant} ResNet; set encoder_variant to {variant}")
    eps = float(facts.get("bn_eps", config.encoder_bn_eps))
    if eps != config.encoder_bn_eps:
        raise ValueError(f"{path} was trained with batch-norm epsilon {eps}; set encoder_bn_eps to it")


def _load_strictly(net: nn.Module, state: dict[str, Tensor], origin: str, what: str) -> None:
    own = net.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    faults = [("lacks", missing), ("has the unknown", unexpected), ("has another shape of", sorted(reshaped))]
    text = "; ".join(f"it {verb} {len(names)} tensors ({names[0]} ...)" for verb, names in faults if names)
    if text:
        raise ValueError(f"{origin} does not fit {what}: {text}")
    net.load_state_dict(state)
