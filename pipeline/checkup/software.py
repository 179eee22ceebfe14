"""Python and the packages: are they there, new enough, and made for each other?

for finding in software():
    print(finding)
"""

import importlib
import importlib.metadata
import platform
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.checkup.finding import Finding

__all__ = ["installed_versions", "requirement_findings", "software", "torch_pair"]

PROJECT = "depthrank"
EXTRAS = {
    "s3": "s3fs",
    "gcs": "gcsfs",
    "http": "aiohttp",
    "cluster": "dask.distributed",
    "onnx": "onnxruntime",
    "hub": "huggingface_hub",
    "report": "matplotlib",
    "heif": "pillow_heif",
    "mat": "h5py",
}
_OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")


def software() -> Iterator[Finding]:
    """All findings about Python and packages."""
    yield _python(sys.version_info[:2])
    versions = installed_versions()
    if PROJECT not in versions:
        yield Finding.note(PROJECT, "runs from a folder and is not installed", "pip install -e . in the checkout")
    yield from requirement_findings(_needed(PROJECT in versions), versions)
    yield from _torch(versions)
    rivals = [name for name in _OPENCV if name in versions]
    if len(rivals) > 1:
        yield Finding.note(
            "opencv",
            f"{' and '.join(rivals)} are installed and overwrite each other's files",
            f"pip uninstall {' '.join(rivals)} && pip install opencv-python-headless",
        )
    usable = [extra for extra, module in EXTRAS.items() if _can_be_found(module)]
    yield Finding.ok("extras", ", ".join(usable) or "none installed")


def installed_versions() -> dict[str, str]:
    """Version by the normalised name of each installed distribution."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return found


def requirement_findings(requirements: Iterable[str], versions: Mapping[str, str]) -> Iterator[Finding]:
    """What is missing or too old of the requirements that belong to no extra; one line if nothing is."""
    unmet, num_needed = False, 0
    for line in requirements:
        wanted, _, marker = (part.strip() for part in line.partition(";"))
        if "extra" in marker:
            continue
        num_needed += 1
        name = re.split(r"[^\w.-]", wanted, maxsplit=1)[0]
        version = versions.get(name.lower().replace("_", "-"))
        if version is None:
            state = "is not installed"
        elif not _fits(wanted, version):
            state = f"is {version}"
        else:
            continue
        unmet = True
        yield Finding.wrong(name, f"{state}, needed is {wanted}", f'pip install "{wanted}"')
    if not unmet:
        yield Finding.ok("packages", f"all {num_needed} that are needed, in versions that fit")


def torch_pair(torch: str, torchvision: str, needs: Iterable[str]) -> Finding | None:
    """Whether these two wheels were made for each other; None where nothing speaks against it.

    Args:
        torch: version, such as `2.15.0+cu132`.
        torchvision: the same of torchvision.
        needs: what torchvision's metadata require.
    """
    mend = "install both in one command: pip install --force-reinstall torch torchvision"
    release, _, build = torch.partition("+")
    for line in needs:
        wanted = line.partition(";")[0].strip()
        if re.match(r"torch\b", wanted) and not _fits(wanted, release):
            return Finding.wrong("torchvision", f"torchvision {torchvision} needs {wanted}, but torch is {torch}", mend)
    other = torchvision.partition("+")[2]
    if build and other and build != other:
        text = f"torchvision is built for {other} and torch for {build}; operators of torchvision may be missing"
        return Finding.wrong("torchvision", text, mend)
    return None


def _needed(is_installed: bool) -> list[str]:
    """The project's requirements, from its metadata or, where it is not installed, from its source."""
    if is_installed:
        return importlib.metadata.requires(PROJECT) or []
    source = Path(__file__).parents[2] / "pyproject.toml"
    found: list[str] = tomllib.loads(source.read_text(encoding="utf-8"))["project"]["dependencies"]
    return found


def _fits(wanted: str, version: str) -> bool:
    """Whether a version is what a requirement wants; where nothing can tell, it is."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:  # it comes with accelerate
        return True
    return Requirement(wanted).specifier.contains(version, prereleases=True)


def _python(version: tuple[int, int]) -> Finding:
    text = f"{platform.python_version()} at {sys.prefix}"
    if version < (3, 11):
        return Finding.wrong("Python", text, "take 3.11 or newer: make setup PYTHON=python3.11")
    return Finding.ok("Python", text)


def _torch(versions: Mapping[str, str]) -> Iterator[Finding]:
    for name in ("torch", "torchvision"):
        try:
            module = importlib.import_module(name)
        except Exception as error:  # a missing CUDA library is an OSError, mismatched operators a RuntimeError
            reason = str(error).strip().partition("\n")[0]
            yield Finding.wrong(
                name,
                f"cannot be imported: {reason}",
                "install both in one command: pip install --force-reinstall torch torchvision",
            )
            return
        yield Finding.ok(name, module.__version__)
    torch, torchvision = importlib.import_module("torch"), importlib.import_module("torchvision")
    needs = importlib.metadata.requires("torchvision") if "torchvision" in versions else None
    found = torch_pair(torch.__version__, torchvision.__version__, needs or [])
    if found is not None:
        yield found


def _can_be_found(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
