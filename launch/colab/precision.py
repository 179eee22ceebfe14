"""The GPU that a session was lent, and the precision that a run takes on it, each with the reason.

    gpu = lent_gpu()
    print(precision_for("auto", recorded_precision(Path("drive/runs/web")), gpu))

The GPU is asked through nvidia-smi: torch would open a context in the notebook's own process and hold memory that the
training wants.
"""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from pipeline.train.checkpoint_folder import read_state
from pipeline.train.checkpoint_search import step_folders
from pipeline.train.machine import Choice, choose_precision
from shards.errors import CheckpointError, ConfigError

__all__ = ["Gpu", "lent_gpu", "precision_for", "recorded_precision"]

_PRECISIONS = ("fp32", "fp16", "bf16")


class Gpu(NamedTuple):
    """A GPU as nvidia-smi tells of it."""

    name: str
    capability: tuple[int, int]
    memory: str

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.capability[0]}.{self.capability[1]}, {self.memory}"


def lent_gpu() -> Gpu | None:
    """The first GPU of this machine; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name,compute_cap,memory.total", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        name, capability, memory = (part.strip() for part in asked.stdout.splitlines()[0].split(","))
        major, _, minor = capability.partition(".")
        return Gpu(name, (int(major), int(minor)), memory)
    except (IndexError, ValueError):
        return None


def recorded_precision(run: Path) -> str | None:
    """The precision that a run was begun with, from its newest checkpoint that can be read; None for a new run."""
    for folder in reversed(step_folders(run / "checkpoints")):
        try:
            found = read_state(folder)["config"]["train"]["precision"]
        except (CheckpointError, KeyError, TypeError):
            continue
        if found in _PRECISIONS:
            return str(found)
    return None


def precision_for(asked: str, recorded: str | None, gpu: Gpu | None) -> Choice:
    """The precision to train with.

    Args:
        asked: `auto`, or a value of `train.precision`.
        recorded: What the run was begun with.
        gpu: The one that this session was lent.

    Raises:
        ConfigError: No such precision, another one than the run's, or one that this GPU lacks.
    """
    if asked not in ("auto", *_PRECISIONS):
        raise ConfigError(f"PRECISION {asked!r}: give auto, fp32, fp16 or bf16")
    if recorded is not None and asked not in ("auto", recorded):
        raise ConfigError(
            f"PRECISION {asked}: this run was begun with {recorded} and keeps it; give auto, or a new NAME"
        )
    if recorded is not None:
        choice = Choice("precision", recorded, "the run was begun with it")
    elif asked != "auto":
        choice = Choice("precision", asked, "as asked for")
    elif gpu is None:
        choice = Choice("precision", "fp32", "there is no GPU; Runtime > Change runtime type lends one")
    else:
        # Another session may be lent another GPU, and a run keeps its precision.
        reason = (
            "a T4 has no bf16, and the next session may be lent one" if gpu.capability >= (8, 0) else "it has no bf16"
        )
        choice = Choice("precision", "fp16", reason)
    choose_precision(choice.value, "cpu" if gpu is None else "cuda", None if gpu is None else gpu.capability)
    return choice
