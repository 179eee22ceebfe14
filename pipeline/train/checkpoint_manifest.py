"""The manifest of a checkpoint: which files it has, and what their bytes must be.

    step_00001200/manifest.json    format, run, step, validation figure; size and sha256 of each file, and its own

A folder without a manifest that agrees is no checkpoint, here and at a mirror.

    text = manifest_bytes(Manifest(1200, "demo", None, files)); manifest = parse_manifest(text, place, "step_00001200")
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shards.errors import CheckpointError

__all__ = [
    "EMA_NAME",
    "FILE_NAMES",
    "FORMAT_VERSION",
    "MANIFEST_LIMIT_BYTES",
    "MANIFEST_NAME",
    "STATE_NAME",
    "Manifest",
    "folder_name",
    "json_bytes",
    "manifest_bytes",
    "parse_json",
    "parse_manifest",
    "step_of",
]

FORMAT_VERSION = 3
MANIFEST_NAME = "manifest.json"
FILE_NAMES = ("model.safetensors", "optimizer.safetensors", "optimizer.json", "state.json")
STATE_NAME = "state.json"
EMA_NAME = "ema.safetensors"
"""There only where the run keeps a moving average."""
MANIFEST_LIMIT_BYTES = 1 << 16
_NAME = re.compile(r"step_([0-9]{8,15})")


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint's manifest says."""

    step: int
    run_id: str
    metric: float | None
    """Validation figure at this step, lower is better; None where none was taken."""
    files: dict[str, tuple[int, str]]
    """Size in bytes and sha256 of each file by name."""


def folder_name(step: int) -> str:
    """Name of the folder of a step."""
    return f"step_{step:08d}"


def step_of(name: str) -> int | None:
    """The step that a folder's name says; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and folder_name(int(match[1])) == name else None


def manifest_bytes(manifest: Manifest) -> bytes:
    """The file's content; there is one way to write a manifest."""
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "run_id": manifest.run_id,
        "step": manifest.step,
        "metric": manifest.metric,
        "files": {name: {"bytes": size, "sha256": digest} for name, (size, digest) in sorted(manifest.files.items())},
    }
    return json_bytes({**content, "sha256": _digest(json_bytes(content))})


def parse_manifest(text: bytes, place: str, folder: str) -> Manifest:
    """Read a manifest; every byte of it is checked.

    Args:
        text: content of the file, bounded by the caller.
        place: path or URL of the file, for messages.
        folder: name of the folder that it lies in, which tells the step.

    Raises:
        CheckpointError: it is not one that this version wrote for a folder of this name.
    """
    content = parse_json(text, place)
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{place}: format_version is {version!r}, this program reads {FORMAT_VERSION}")
    # The digest alone would let a changed blank pass; comparing with the one way to write it leaves no free byte.
    own_digest = content.pop("sha256", None)
    if own_digest != _digest(json_bytes(content)) or json_bytes({**content, "sha256": own_digest}) != text:
        raise CheckpointError(f"{place}: damaged (its own sha256 does not agree)")
    try:
        files = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in content["files"].items()}
        metric = None if content["metric"] is None else float(content["metric"])
        manifest = Manifest(int(content["step"]), str(content["run_id"]), metric, files)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{place}: not in the expected form ({error!r})") from error
    if sorted(set(files) - {EMA_NAME}) != sorted(FILE_NAMES):
        raise CheckpointError(f"{place}: lists {sorted(files)} instead of {sorted(FILE_NAMES)}")
    if any(size < 0 for size, _ in files.values()):
        raise CheckpointError(f"{place}: a file of fewer than 0 bytes")
    if manifest.step != step_of(folder):
        raise CheckpointError(f"{place}: is of step {manifest.step}, which the folder's name denies")
    return manifest


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """A JSON object as every file of a checkpoint has it."""
    return json.dumps(content, allow_nan=False, indent=1).encode("ascii") + b"\n"


def parse_json(text: bytes, place: str) -> dict[str, Any]:
    """A JSON object of finite numbers.

    Raises:
        CheckpointError: it is none.
    """
    try:
        content = json.loads(text)
        json.dumps(content, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{place}: damaged (not JSON)") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{place}: damaged (not a JSON object)")
    return content


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
