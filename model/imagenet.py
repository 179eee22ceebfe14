"""ImageNet weights of an encoder: torchvision's, or a file in torchvision's names.

load_encoder(encoder, ModelConfig(encoder="resnet50", encoder_weights="IMAGENET1K_V2"))

Weights must fit the encoder tensor by tensor. Left aside is only what a file of the whole network is known to hold
beyond the encoder, its classifier, and the prefix that a file saved from DataParallel has.
"""

import os
import pickle
from collections.abc import Mapping
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from typing import Any

from torch import Tensor

from model.config import ModelConfig
from model.encoders import Encoder
from model.encoders.resnet_blocks import Bottleneck
from model.tensor_files import load_strictly, read_tensors

__all__ = ["load_encoder"]

FIRST_SET = "IMAGENET1K_V1"
FILE_SUFFIXES = {".safetensors", ".pth", ".pt", ".tar"}
WRAPPER = "module."
COUNTER = ".num_batches_tracked"
STRIDE_VARIANTS = {"1x1": "v1", "3x3": "v1.5"}


def load_encoder(encoder: Encoder, config: ModelConfig) -> None:
    """Fill the encoder with the weights that `config.encoder_weights` names.

    Args:
        encoder: As `build_encoder(config)` returns it.
        config: Says which weights: `imagenet`, the name of one of torchvision's sets (not `DEFAULT`, which is another
            one in another version of torchvision), or a path.

    Raises:
        ValueError: The name is unknown, the file cannot be read or downloaded, was made for another stride, epsilon or
            width than `config` says, or has other tensors than the encoder.
    """
    name = FIRST_SET if config.encoder_weights == "imagenet" else config.encoder_weights
    sets = {} if _looks_like_a_path(name) else _sets_of_torchvision(config.encoder)
    if name in sets:
        origin = f"torchvision's {config.encoder} {name}"
        _check_settings(encoder, config, origin)
        state = _of_encoder(_download(sets[name], origin), encoder)
    elif _names_file(name):
        path = _home_path(name)
        origin = str(path)
        tensors, facts = read_tensors(path)
        state = _of_encoder(tensors, encoder)
        _check_width(state, config, origin)
        _check_metadata(facts, encoder, config, origin)
    else:
        close = get_close_matches(name.upper(), sets, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(
            f"torchvision has no weights {name!r} for {config.encoder}{hint}; "
            f"there are imagenet, {', '.join(sets)}, or give the path of a .safetensors or .pth file"
        )
    load_strictly(encoder, state, origin, f"encoder {config.encoder}")


def _sets_of_torchvision(encoder: str) -> dict[str, Any]:
    """Sets of weights by name."""
    from torchvision.models import get_model_weights  # here, as its import takes longer than reading a file of weights

    return {weights.name: weights for weights in get_model_weights(encoder)}


def _looks_like_a_path(text: str) -> bool:
    """Whether it cannot be the name of a set."""
    path = _home_path(text)
    return path.suffix in FILE_SUFFIXES or path.name != text


def _names_file(text: str) -> bool:
    return _looks_like_a_path(text) or _home_path(text).is_file()


def _download(weights: Any, origin: str) -> Mapping[str, Tensor]:
    """The tensors of one of torchvision's sets, from its cache if they are there."""
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        # No network, a connection cut short, a wrong hash, or a broken file in the cache of an earlier download.
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"cannot get {origin} weights from {weights.url} or from torch's cache of it ({reason}); "
            "give encoder_weights the path of a .safetensors or .pth file"
        ) from error
    return state


def _of_encoder(state: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """The tensors by the encoder's names, without wrapper and classifier.

    Files older than torch 0.4.1 do not count the batches of a batch norm. Like torch itself, this starts their count
    at 0; it matters to norms without a momentum only, and no encoder has one.
    """
    if state and all(name.startswith(WRAPPER) for name in state):
        state = {name.removeprefix(WRAPPER): tensor for name, tensor in state.items()}
    kept = {name: tensor for name, tensor in state.items() if name not in encoder.classifier_names}
    counters = {name: tensor for name, tensor in encoder.state_dict().items() if name.endswith(COUNTER)}
    return kept if counters.keys() & kept.keys() else counters | kept


def _check_settings(encoder: Encoder, config: ModelConfig, origin: str) -> None:
    """Refuse settings under which torchvision's weights would load but compute something else."""
    if config.encoder_width != 64:
        raise ValueError(
            f"{origin} weights are for encoder_width 64, not {config.encoder_width}; "
            "set it to 64, or encoder_weights to none"
        )
    if config.encoder_variant == "v1" and any(isinstance(module, Bottleneck) for module in encoder.modules()):
        raise ValueError(f"{origin} weights are for encoder_variant v1.5, not v1")


def _check_width(state: Mapping[str, Tensor], config: ModelConfig, origin: str) -> None:
    """Name the setting, where the shapes would only say that nothing fits."""
    stem = state.get("conv1.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[0] != config.encoder_width:
        raise ValueError(f"{origin} holds an encoder of width {stem.shape[0]}; set encoder_width to it")


def _home_path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # noqa: PTH111 # pathlib raises where there is no such user


def _check_metadata(facts: Mapping[str, str], encoder: Encoder, config: ModelConfig, origin: str) -> None:
    """Converted weights say what they were trained with; a silent mismatch costs accuracy without an error."""
    if facts.get("stride", "3x3") not in STRIDE_VARIANTS:
        raise ValueError(f"{origin}: stride {facts['stride']!r} in its metadata is neither 1x1 nor 3x3")
    variant = STRIDE_VARIANTS[facts["stride"]] if "stride" in facts else config.encoder_variant
    if variant != config.encoder_variant:
        raise ValueError(f"{origin} holds a {variant} ResNet; set encoder_variant to {variant}")
    if "bn_eps" in facts:
        try:
            eps = float(facts["bn_eps"])
        except ValueError as error:
            raise ValueError(f"{origin}: bn_eps {facts['bn_eps']!r} in its metadata is not a number") from error
        if any(norm.eps != eps for norm in encoder.batch_norms()):
            raise ValueError(f"{origin} was trained with batch-norm epsilon {eps}; set encoder_bn_eps to it")
