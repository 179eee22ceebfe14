"""What a run was made with: versions, device and code, for `env.json`.

Path("env.json").write_text(json.dumps(describe_environment(torch.device("cpu"))))
"""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pipeline.train.config import RunConfig
from shards.storage import shown

__all__ = ["describe_environment", "settings_to_keep"]

PACKAGES = (
    "depthrank",
    "torch",
    "torchvision",
    "accelerate",
    "webdataset",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "safetensors",
    "fsspec",
    "pydantic",
)


def settings_to_keep(config: RunConfig) -> dict[str, Any]:
    """The settings as JSON values for checkpoints and records, URLs without the credentials they may hold."""
    settings = config.model_dump(mode="json")
    data = settings["data"]
    for key in ("train", "val"):
        if isinstance(data[key], str):
            data[key] = shown(data[key])
    if isinstance(data["train"], list):
        data["train"] = [dataset | {"url": shown(dataset["url"])} for dataset in data["train"]]
    return settings


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Facts that a result may depend on; no host name, user or path."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda,
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed": None if (changes := _git("status", "--porcelain")) is None else bool(changes),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git says about the folder of this code; None where there is no git or no checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
