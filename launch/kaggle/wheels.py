"""Installs the program beside the image's packages, never over them.

The program and what the image lacks go into a folder of their own, which comes first on the path. pip installs each
wheel alone (`--no-deps`), so it cannot touch the image's torch, which fits Kaggle's drivers; what a package needs
besides is looked for in the image first, then among the attached wheels, then on PyPI where there is internet.

    site = install(attached.wheels, scratch)
"""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement  # not ours: pip, accelerate and the image bring it
from packaging.utils import canonicalize_name

from shards.errors import ConfigError

__all__ = ["install", "packed", "unmet"]

PROJECT = "depthrank"
NEVER_INSTALLED = frozenset({"torch", "torchvision", "triton", "numpy"})
"""What the image's other packages are built against."""
SAME_MODULE = {"opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")}
MAX_ROUNDS = 8
PIP = ("pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-warn-conflicts", "--no-deps")


def install(wheels: Sequence[Path], scratch: Path) -> Path:
    """Install the attached program and what it needs; says what came from where.

    Args:
        wheels: Attached wheels, also ones that a host has unpacked; one is the program's.
        scratch: Folder that does not count as output.

    Returns:
        The folder that must come first on the path.

    Raises:
        ConfigError: There is no wheel of the program, something is missing, or the image's torch is too old.
    """
    site, folder = scratch / "site", scratch / "wheels"
    for old in (site, folder):
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir(parents=True)
    files = {_project_of(path): path for path in sorted(packed(wheel, folder) for wheel in wheels)}
    if PROJECT not in files:
        raise ConfigError(
            f"no {PROJECT} wheel is attached; make the dataset with `python -m launch.kaggle code` and attach it "
            "(Add Input > Datasets)"
        )
    _pip(["--no-index", str(files[PROJECT])], site, what=PROJECT)
    print(f"installed {files[PROJECT].name} into {site}")
    for _ in range(MAX_ROUNDS):
        missing = {canonicalize_name(wanted.name): wanted for wanted in unmet(site)}
        if not missing:
            print(f"torch {metadata.version('torch')} and all other packages are the image's")
            return site
        _refuse_what_the_image_must_have(missing.values())
        attached = [name for name in missing if name in files]
        for name in attached:
            _pip(["--no-index", str(files[name])], site, what=str(missing[name]))
            print(f"installed {files[name].name}, which the image lacks")
        if not attached:
            wanted = [str(requirement) for requirement in missing.values()]
            print(f"the image lacks {', '.join(wanted)}, and no wheel is attached: asking PyPI")
            _pip(["--retries", "1", "--timeout", "15", "--only-binary", ":all:", *wanted], site, what=", ".join(wanted))
    raise ConfigError(f"after {MAX_ROUNDS} rounds these are still missing: {', '.join(map(str, unmet(site)))}")


def unmet(site: Path) -> list[Requirement]:
    """What the packages in `site` need and neither it nor the image has, in a new enough version."""
    path = [str(site), *(entry for entry in sys.path if entry)]
    wanted: dict[str, Requirement] = {}
    for package in metadata.distributions(path=[str(site)]):
        for text in package.requires or ():
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            requirement.marker = None
            if not any(_has(name, requirement, path) for name in _names(requirement)):
                wanted[str(requirement)] = requirement
    return [wanted[text] for text in sorted(wanted)]


def packed(wheel: Path, folder: Path) -> Path:
    """A wheel as a file: itself, or packed again into `folder` where a host has unpacked it.

    Raises:
        ConfigError: It is not a wheel.
    """
    if wheel.is_file():
        return wheel
    info = next(iter(sorted(wheel.glob("*.dist-info"))), None)
    tags = [] if info is None else _tags(info / "WHEEL")
    if info is None or not tags:
        raise ConfigError(f"{wheel}: neither a wheel nor the folder of an unpacked one (no *.dist-info/WHEEL in it)")
    target = folder / f"{info.name.removesuffix('.dist-info')}-{tags[0]}.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(wheel.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, path.relative_to(wheel))
    return target


def _tags(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    return [line.removeprefix("Tag:").strip() for line in lines if line.startswith("Tag:")]


def _project_of(wheel: Path) -> str:
    return canonicalize_name(wheel.name.partition("-")[0])


def _names(requirement: Requirement) -> tuple[str, ...]:
    return (requirement.name, *SAME_MODULE.get(canonicalize_name(requirement.name), ()))


def _has(name: str, requirement: Requirement, path: list[str]) -> bool:
    found = next(iter(metadata.distributions(name=name, path=path)), None)
    return found is not None and requirement.specifier.contains(found.version, prereleases=True)


def _refuse_what_the_image_must_have(missing: Iterable[Requirement]) -> None:
    hopeless = [str(wanted) for wanted in missing if canonicalize_name(wanted.name) in NEVER_INSTALLED]
    if hopeless:
        raise ConfigError(
            f"the image's packages are too old for this program, which needs {', '.join(hopeless)}. They are never "
            "replaced, because Kaggle's fit its drivers and each other: choose the latest environment (Settings > "
            "Environment)"
        )


def _pip(arguments: Sequence[str], site: Path, *, what: str) -> None:
    command = [sys.executable, "-m", *PIP, "--target", str(site), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " | ".join(line for line in done.stderr.splitlines() if line.startswith("ERROR"))[:1000]
        raise ConfigError(
            f"{what} could not be installed ({said or f'pip ended with {done.returncode}'}). Without internet, attach "
            "its wheel: `python -m launch.kaggle code --wheel NAME` on your machine puts it into the program's dataset"
        )
