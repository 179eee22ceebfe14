"""What a Kaggle session is made of, and whether a run can use it: GPUs, precision, disk, shared memory, files.

    gpus = find_gpus(); require_usable(gpus); choice = choose_precision(gpus)

The GPUs are asked through nvidia-smi: a notebook that has touched CUDA itself keeps memory on the GPU and breaks
launchers that fork. The limits are Kaggle's of November 2026 (docs/kaggle.md has the sources).
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from shards.errors import ConfigError, RunError

__all__ = [
    "Gpu",
    "Usage",
    "choose_precision",
    "describe_machine",
    "find_gpus",
    "require_room",
    "require_usable",
    "usage_of",
]

OUTPUT_BYTES = 20 * 10**9
"""What Kaggle keeps of /kaggle/working."""
OUTPUT_FILES = 500
"""Older reports name this as the most files of an output; staff deny a limit, but many files do break versions."""
WEEKLY_GPU_HOURS = 30
FIRST_GPU_WITH_KERNELS = (7, 0)
"""The image's torch (built for CUDA 12.8) has no code for older ones; a P100 is 6.0."""
FIRST_GPU_WITH_BF16 = (8, 0)
QUERY = ("--query-gpu=name,compute_cap,memory.total", "--format=csv,noheader,nounits")


class Gpu(NamedTuple):
    """One GPU as nvidia-smi describes it."""

    name: str
    capability: tuple[int, int]
    memory_mib: int

    def __str__(self) -> str:
        return f"{self.name}, compute capability {_dotted(self.capability)}, {self.memory_mib / 1024:.0f} GiB"


class Usage(NamedTuple):
    """What a folder holds and how much more it may."""

    bytes: int
    files: int
    free_bytes: int
    """What the disk has free, or what Kaggle's limit leaves, whichever is less."""


def find_gpus() -> list[Gpu]:
    """The GPUs of this machine; none where there is no nvidia-smi or it finds none.

    Raises:
        ConfigError: nvidia-smi says what nobody can read.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    done = subprocess.run([program, *QUERY], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        return []
    return [_parse(line) for line in done.stdout.splitlines() if line.strip()]


def require_usable(gpus: Sequence[Gpu], *, may_be_cpu: bool = False) -> None:
    """Refuse a session on which the run cannot train.

    Raises:
        ConfigError: There is no GPU, or one that the image's torch has no code for.
    """
    if not gpus and not may_be_cpu:
        raise ConfigError(
            "no GPU was found. In the editor: Settings > Accelerator > GPU T4 x2; from the command line: machine_shape "
            "NvidiaTeslaT4 in kernel-metadata.json. If your weekly GPU quota is used up, `kaggle quota` says when it "
            "is renewed. require_gpu=False in the first cell tries the notebook without one, very slowly"
        )
    for gpu in gpus:
        if gpu.capability < FIRST_GPU_WITH_KERNELS:
            raise ConfigError(
                f"{gpu.name} has compute capability {_dotted(gpu.capability)}, and the torch of Kaggle's image has no "
                f"code for anything below {_dotted(FIRST_GPU_WITH_KERNELS)}: it would fail at its first kernel. Choose "
                "GPU T4 x2 (Settings > Accelerator, or machine_shape NvidiaTeslaT4)"
            )


def choose_precision(gpus: Sequence[Gpu]) -> tuple[str | None, str]:
    """The precision that these GPUs ask for, None where the recipe may decide, and the reason."""
    if not gpus:
        return "fp32", "there is no GPU, and a CPU has no fast fp16"
    weakest = min(gpus, key=lambda gpu: gpu.capability)
    if weakest.capability < FIRST_GPU_WITH_BF16:
        return "fp16", (
            f"{weakest.name} has compute capability {_dotted(weakest.capability)}: tensor cores for fp16, while bf16, "
            f"which begins at {_dotted(FIRST_GPU_WITH_BF16)}, is only emulated there, slowly, although torch says it "
            "is supported"
        )
    return None, f"{weakest.name} has compute capability {_dotted(weakest.capability)}: the recipe's train.precision"


def usage_of(folder: Path) -> Usage:
    """What lies in the output folder, and what it may still take."""
    files = [path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()]
    free = shutil.disk_usage(folder).free
    return Usage(sum(files), len(files), max(0, min(free, OUTPUT_BYTES - sum(files))))


def require_room(usage: Usage, *, needed_bytes: int, needed_files: int, folder: Path) -> list[str]:
    """Compare what a run will write with what the output folder may take.

    Returns:
        Warnings, a line each.

    Raises:
        RunError: It does not fit.
    """
    if needed_bytes > usage.free_bytes:
        raise RunError(
            f"{folder}: the run may write {needed_bytes / 1e9:.1f} GB (checkpoints and the one being written, weights, "
            f"logs), and {usage.free_bytes / 1e9:.1f} GB are left: {usage.bytes / 1e9:.1f} GB are used, Kaggle keeps "
            f"{OUTPUT_BYTES / 1e9:.0f} GB. Delete what is not needed, or set checkpoint.keep_last=2 and "
            "checkpoint.keep_every_steps=null"
        )
    total = usage.files + needed_files
    if total > OUTPUT_FILES:
        return [
            f"the output may come to {total} files; versions with more than about {OUTPUT_FILES} have failed to save. "
            "Fewer: a larger monitor.eval_every_steps (pictures), no checkpoint.keep_every_steps"
        ]
    return []


def describe_machine(working: Path) -> list[str]:
    """Lines about the session for a person."""
    kind = os.environ.get("KAGGLE_KERNEL_RUN_TYPE")
    session = f"{kind} session of Kaggle" if kind else "not on Kaggle ($KAGGLE_KERNEL_RUN_TYPE is not set)"
    usage = usage_of(working)
    lines = [
        f"session   {session}; Python {platform.python_version()}, torch {_version('torch')}",
        f"machine   {_cores()} CPU cores, {_memory_gb():.0f} GB of memory, "
        f"/dev/shm {_free_gb(Path('/dev/shm')):.1f} GB free",
        f"output    {working}: {usage.free_bytes / 1e9:.1f} GB may still be written, {usage.files} files so far",
    ]
    if kind:
        lines.append(
            f"quota     {WEEKLY_GPU_HOURS} GPU hours a week or a little more; a session counts while it is open, busy "
            "or not (`kaggle quota` on your machine tells what is left; a session cannot ask)"
        )
    return lines


def _parse(line: str) -> Gpu:
    try:
        name, capability, memory = (part.strip() for part in line.rsplit(",", 2))
        major, minor = (int(part) for part in capability.split("."))
        return Gpu(name, (major, minor), int(memory))
    except ValueError as error:
        raise ConfigError(
            f"nvidia-smi {' '.join(QUERY)} says {line[:200]!r}: not a GPU's name, version and MiB"
        ) from error


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def _free_gb(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free / 1e9
    except OSError:
        return 0.0
