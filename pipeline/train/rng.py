"""The global random generators of one process: seeded, captured as plain JSON, and restored.

Sample order, augmentation and pairs draw from counters and need none of this; it covers whatever draws from the global
generators of Python, numpy and torch (stochastic depth, a loss, a library). No pickle.

    seed_generators(seed=0, rank=1, step=0)
    captured = capture_rng(device)
    restore_rng(captured, device)
"""

import base64
import binascii
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shards.randomness import digest_key

__all__ = ["capture_rng", "restore_rng", "seed_generators"]


def seed_generators(seed: int, rank: int, step: int) -> None:
    """Seed all of them, so that processes differ from each other, and sessions that begin at another step too.

    Args:
        seed: `train.seed`.
        rank: Number of the process.
        step: Optimizer steps done.
    """
    digest = digest_key("generators", seed, rank, step)
    random.seed(digest)
    np.random.seed(np.frombuffer(digest, "<u4"))
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def capture_rng(device: torch.device) -> dict[str, Any]:
    """States of `random`, of numpy's global generator, of torch's on the CPU and of that of a CUDA device.

    14 kB, as the words are packed: a checkpoint holds one for each process of the run.
    """
    version, words, gauss_next = random.getstate()
    # The global generator itself is what has to be restored, whatever its successor is called.
    kind, keys, position, has_gauss, cached_gauss = np.random.get_state(legacy=True)
    return {
        "python": [version, _packed(words), gauss_next],
        "numpy": [kind, _packed(keys), int(position), int(has_gauss), float(cached_gauss)],
        "torch": _text(torch.get_rng_state()),
        "cuda": _text(torch.cuda.get_rng_state(device)) if device.type == "cuda" else None,
    }


def restore_rng(captured: Mapping[str, Any], device: torch.device) -> None:
    """Put the generators back into the captured states.

    That of a CUDA device keeps its own state where there was none, in a session on the CPU.

    Raises:
        ValueError: `captured` is not what `capture_rng` returns; then some generators may have been restored already.
    """
    try:
        version, words, gauss_next = captured["python"]
        random.setstate((version, tuple(_words(words).tolist()), gauss_next))
        kind, keys, position, has_gauss, cached_gauss = captured["numpy"]
        np.random.set_state((kind, _words(keys), position, has_gauss, cached_gauss))
        torch.set_rng_state(_tensor(captured["torch"]))
        if device.type == "cuda" and captured["cuda"] is not None:
            torch.cuda.set_rng_state(_tensor(captured["cuda"]), device)
    except (KeyError, TypeError, OverflowError, RuntimeError, binascii.Error) as error:
        raise ValueError(f"random generators: not a captured state ({error!r})") from error


def _packed(words: Any) -> str:
    return base64.b64encode(np.asarray(words, "<u4").tobytes()).decode("ascii")


def _words(packed: Any) -> NDArray[np.uint32]:
    """What `_packed` has packed; checkpoints of before hold the plain list."""
    if isinstance(packed, str):
        return np.frombuffer(base64.b64decode(packed, validate=True), "<u4").astype(np.uint32)
    return np.array(packed, np.uint32)


def _text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype=torch.uint8)
