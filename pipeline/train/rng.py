"""The states of the global random generators as plain JSON, and back.

Sample order, augmentation and pairs draw from counters and need none of this; it covers whatever draws from the global
generators of Python, numpy and torch (dropout, a loss, a library). One process's generators; no pickle.

    state["rng"] = capture_rng()
    restore_rng(state["rng"])
"""

import base64
import binascii
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["capture_rng", "restore_rng"]


def capture_rng() -> dict[str, Any]:
    """States of `random`, numpy's global generator, torch's CPU generator and that of each visible CUDA device."""
    version, words, gauss_next = random.getstate()
    # The global generator itself is what has to be restored, whatever its successor is called.
    kind, keys, position, has_gauss, cached_gauss = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss_next],
        "numpy": [kind, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached_gauss)],
        "torch": _text(torch.get_rng_state()),
        "cuda": [_text(state) for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def restore_rng(captured: Mapping[str, Any]) -> None:
    """Put the generators back into the captured states.

    CUDA states are restored for the devices that exist now and existed then; on another number of devices the rest
    keeps its own.

    Raises:
        ValueError: `captured` is not what `capture_rng` returns; then some generators may have been restored already.
    """
    try:
        version, words, gauss_next = captured["python"]
        random.setstate((version, tuple(words), gauss_next))
        kind, keys, position, has_gauss, cached_gauss = captured["numpy"]
        np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, cached_gauss))
        torch.set_rng_state(_tensor(captured["torch"]))
        if torch.cuda.is_available():
            for device, text in zip(range(torch.cuda.device_count()), captured["cuda"], strict=False):
                torch.cuda.set_rng_state(_tensor(text), device)
    except (KeyError, TypeError, OverflowError, RuntimeError, binascii.Error) as error:
        raise ValueError(f"random generators: not a captured state ({error!r})") from error


def _text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype=torch.uint8)
