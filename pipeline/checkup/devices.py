"""GPUs, their driver, and what precision each is good for.

for finding in devices():
    print(finding)
"""

import ctypes
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.checkup.finding import Finding

__all__ = ["advised_precision", "devices", "driver_finding", "environment_findings"]

INSTALL_PAGE = "https://pytorch.org/get-started/locally"
_LAUNCHER_VARIABLES = {
    "ACCELERATE_MIXED_PRECISION": ("", "no"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("", "1", "auto"),
}
"""With the values that claim nothing."""


def devices() -> Iterator[Finding]:
    """All findings about where a run would compute."""
    import torch

    yield from environment_findings(os.environ)
    build = torch.version.cuda
    driver = _driver_version()
    sees_gpu = driver is not None or Path("/dev/nvidia0").exists()
    if torch.version.hip is not None and torch.cuda.is_available():
        build = None
    elif sees_gpu or build is not None:
        yield driver_finding(build, driver, sees_gpu=sees_gpu)
    if not torch.cuda.is_available():
        yield from _without_gpu(sees_gpu and build is not None)
        return
    for number in range(torch.cuda.device_count()):
        yield _gpu(number)


def driver_finding(build: str | None, driver: tuple[int, int] | None, *, sees_gpu: bool) -> Finding:
    """Whether torch's CUDA and the driver's go together.

    Args:
        build: CUDA version that torch was built with, such as `12.8`; None for a build without CUDA.
        driver: newest CUDA version that the driver can run; None where there is no driver.
        sees_gpu: whether this machine has an NVIDIA GPU.
    """
    if build is None:
        text = "there is an NVIDIA GPU, but this torch is built without CUDA, so everything runs on the CPU"
        return Finding.wrong("CUDA", text, f"install a torch with CUDA: {INSTALL_PAGE}")
    if driver is None:
        text = f"torch is built for CUDA {build}, and no driver is found"
        if sees_gpu:
            return Finding.wrong("CUDA", text, "install NVIDIA's driver; in a container start it with --gpus all")
        return Finding.note("CUDA", text)
    able = f"{driver[0]}.{driver[1]}"
    major = int(build.partition(".")[0])
    if driver[0] < major:
        return Finding.wrong(
            "CUDA",
            f"torch is built for CUDA {build}, the driver can run {able} at most",
            f"update the driver, or install a torch for CUDA {driver[0]}: {INSTALL_PAGE}",
        )
    return Finding.ok("CUDA", f"torch is built for {build}, the driver can run up to {able}")


def advised_precision(capability: tuple[int, int]) -> str:
    """Which `train.precision` a GPU of this compute capability is good for."""
    if capability >= (8, 0):
        return "bf16"
    return "fp16" if capability >= (7, 0) else "fp32"


def environment_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What the environment decides behind the user's back."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        text = f"CUDA_VISIBLE_DEVICES={visible}" + ("" if visible.strip() not in {"", "-1"} else ": it hides every GPU")
        yield Finding.note("environment", text)
    if environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes"}:
        text = f"ACCELERATE_USE_CPU={environ['ACCELERATE_USE_CPU']}: training uses no GPU"
        yield Finding.note("environment", text)
    for name, idle in _LAUNCHER_VARIABLES.items():
        if environ.get(name, "").lower() not in idle:
            yield Finding.note("environment", f"{name}={environ[name]}: training refuses it where the config differs")


def _gpu(number: int) -> Finding:
    """Name, memory and precision of a GPU, which computes something to show that it can."""
    import torch

    what = f"GPU {number}"
    properties = torch.cuda.get_device_properties(number)
    capability = (properties.major, properties.minor)
    try:
        matrix = torch.ones(64, 64, device=f"cuda:{number}")
        if float((matrix @ matrix).sum()) != 64**3:
            raise RuntimeError("a matrix product came out wrong")
        free, total = torch.cuda.mem_get_info(number)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        built = ", ".join(torch.cuda.get_arch_list())
        return Finding.wrong(
            what,
            f"{properties.name} cannot be used: {reason} (this torch is built for {built})",
            f"install a torch that knows this GPU: {INSTALL_PAGE}; or see with nvidia-smi who else uses it",
        )
    text = (
        f"{properties.name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, "
        f"train.precision={advised_precision(capability)}"
    )
    if free < total / 2:
        return Finding.note(what, text, "another process holds its memory: nvidia-smi names it")
    return Finding.ok(what, text)


def _without_gpu(should_work: bool) -> Iterator[Finding]:
    import torch

    if not should_work:
        yield Finding.note("GPU", "none is found; everything works on the CPU, slower")
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            torch.cuda.init()
            reason = "torch does not say why"
        except Exception as error:  # a RuntimeError or an AssertionError, by version
            reason = str(error).strip().partition("\n")[0]
    reason = next((str(warning.message).partition("\n")[0] for warning in said), reason)
    yield Finding.wrong("GPU", f"there is one, but torch cannot use it: {reason}", "see the line CUDA above; restart")


def _driver_version() -> tuple[int, int] | None:
    """The newest CUDA version that the installed driver can run."""
    for name in ("libcuda.so.1", "libcuda.so"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        version = ctypes.c_int()
        if library.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value:
            return version.value // 1000, version.value % 1000 // 10
    return None
