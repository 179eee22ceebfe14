"""Install what a hosted machine lacks, and nothing that it has: its torch is built for its driver and stays.

    from launch.colab.install import install
    install(Path("pyproject.toml"))

Knows the standard library and `packaging` alone, because it runs before anything is installed.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from packaging.requirements import Requirement

from shards.errors import ConfigError, RunError

__all__ = ["install", "missing_requirements"]

KEPT = ("torch", "torchvision", "numpy")
"""Too old a one of these is told, and not replaced: others of the machine's packages are built for it."""


def install(project: Path, extras: Iterable[str] = ()) -> list[str]:
    """Install what the project needs and this machine lacks, with all that is there pinned as it is.

    Args:
        project: `pyproject.toml` of the checkout; the checkout itself is not installed.
        extras: Of its extras, those wanted as well.

    Returns:
        What was installed.

    Raises:
        ConfigError: The machine's torch, torchvision or NumPy is missing or too old.
        RunError: pip failed.
    """
    missing = missing_requirements(project, extras)
    kept = [text for text in missing if Requirement(text).name in KEPT]
    if kept:
        raise ConfigError(
            f"this machine lacks {', '.join(kept)}; choose a runtime with a newer image (torch is not replaced, as "
            "other packages and the driver belong to it)"
        )
    if not missing:
        return []
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "installed.txt"
        constraints.write_text("".join(f"{name}=={version(name)}\n" for name in KEPT), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *missing]
        if subprocess.run(command, check=False).returncode:
            raise RunError(f"pip could not install {', '.join(missing)}; what it said is above")
    return missing


def missing_requirements(project: Path, extras: Iterable[str] = ()) -> list[str]:
    """Requirements of the project that this machine does not meet."""
    known = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    wanted = [*known["dependencies"], *(text for extra in extras for text in known["optional-dependencies"][extra])]
    return [text for text in wanted if not _is_met(Requirement(text))]


def _is_met(requirement: Requirement) -> bool:
    # OpenCV comes under several names, all of which are the same module.
    names = [requirement.name]
    if requirement.name.startswith("opencv"):
        names = [found for each in distributions() if (found := each.metadata["Name"] or "").startswith("opencv")]
    for name in names:
        try:
            if requirement.specifier.contains(version(name), prereleases=True):
                return True
        except PackageNotFoundError:
            continue
    return False
