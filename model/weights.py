"""Weights in and out: safetensors and JSON, never a pickle.

A saved network is a folder with `model.safetensors` and `config.json` (the layout of the Hugging Face Hub).

    save_network(net, folder, net.config, (384, 384)); config, size_hw = read_config(folder); load_network(net, folder)
"""

import json
from pathlib import Path

from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from model.config import ModelConfig
from model.hub import CONFIG_NAME, WEIGHTS_NAME
from model.tensor_files import load_strictly, read_tensors

__all__ = ["load_network", "read_config", "save_network"]

FORMAT_VERSION = 1
MAX_SIDE_PX = 4096
"""Of the pictures that a network was trained on, which prediction follows: a larger claim would take the memory."""
CONFIG_LIMIT_BYTES = 1_000_000


def load_network(net: nn.Module, folder: Path) -> None:
    """Fill the network from `folder/model.safetensors`.

    Raises:
        ValueError: The file is missing, malformed, or of another network.
    """
    state, _ = read_tensors(folder / WEIGHTS_NAME)
    load_strictly(net, state, str(folder / WEIGHTS_NAME), f"the network of {CONFIG_NAME}")


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
        if not all(type(side) is int and 0 < side <= MAX_SIDE_PX for side in (height, width)):
            raise ValueError(f"{path}: size_hw {block['size_hw']!r} is not a height and a width in pixels")
        return ModelConfig(**block["model"]), (height, width)
    except OSError as error:
        raise ValueError(f"{folder} holds no network: cannot read {CONFIG_NAME} ({error.strerror})") from error
    except ValidationError as error:
        raise ValueError(f"{path}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from error
    except (AttributeError, KeyError, TypeError, RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not the config of a saved network ({error})") from error
