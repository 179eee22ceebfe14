"""Python and the packages: are they there, new enough, and made for each other?

for finding in software():
    print(finding)
"""

import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping

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
    else:
        needed = importlib.metadata.requires(PROJECT) or []
        yield from requirement_findings(needed, versions)
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
    from packaging.requirements import Requirement

    unmet, names = [], 0
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        names += 1
        version = versions.get(requirement.name.lower().replace("_", "-"))
        if version is None:
            unmet.append((requirement, "is not installed"))
        elif not requirement.specifier.contains(version, prereleases=True):
            unmet.append((requirement, f"is {version}"))
    for requirement, state in unmet:
        wanted = f"{requirement.name}{requirement.specifier}"
        yield Finding.wrong(requirement.name, f"{state}, needed is {wanted}", f'pip install "{wanted}"')
    if not unmet:
        yield Finding.ok("packages", f"all {names} that are needed, in versions that fit")


def torch_pair(torch: str, torchvision: str, needs: Iterable[str]) -> Finding | None:
    """Whether these two wheels were made for each other; None where nothing speaks against it.

    Args:
        torch: version, such as `2.15.0+cu132`.
        torchvision: the same of torchvision.
        needs: what torchvision's metadata require.
    """
    from packaging.requirements import Requirement

    mend = "install both in one command: pip install --force-reinstall torch torchvision"
    release, _, build = torch.partition("+")
    for line in needs:
        requirement = Requirement(line)
        if requirement.name == "torch" and not requirement.specifier.contains(release, prereleases=True):
            text = f"torchvision {torchvision} needs torch{requirement.specifier}, but torch is {torch}"
            return Finding.wrong("torchvision", text, mend)
    other = torchvision.partition("+")[2]
    if build and other and build != other:
        text = f"torchvision is built for {other} and torch for {build}; operators of torchvision may be missing"
        return Finding.wrong("torchvision", text, mend)
    return None


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
