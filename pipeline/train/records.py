"""What a run leaves in its folder beside checkpoints and logs: settings, environment, the network and its figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from model import DepthNet
from shards.errors import RunError, ShardError
from shards.storage import publish_bytes

__all__ = ["write_facts", "write_results"]


def write_facts(run_dir: Path, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
    """Write `config.yaml` and `env.json`.

    Raises:
        RunError: They cannot be written.
    """
    _publish(run_dir / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    _publish(run_dir / "env.json", _json_text(environment))


def write_results(run_dir: Path, net: DepthNet, results: Mapping[str, Any]) -> None:
    """Write what a finished run leaves: the network, for `DepthNet.from_pretrained`, and `metrics.json`.

    Raises:
        RunError: They cannot be written.
    """
    try:
        net.save_pretrained(run_dir, size_hw=net.size_hw)
    except (OSError, ValueError) as error:
        raise RunError(f"{run_dir}: the network cannot be written ({error}); start again to finish the run") from error
    _publish(run_dir / "metrics.json", _json_text(results))


def _publish(path: Path, text: str) -> None:
    try:
        publish_bytes(str(path), text.encode())
    except ShardError as error:
        raise RunError(f"the run folder cannot be written: {error}") from error


def _json_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"
