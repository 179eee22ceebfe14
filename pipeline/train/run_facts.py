"""What a run knows about how its weights came about, for their model card.

    training = read_training(load_network(Path("runs/web"), "cpu").origin)

Only what belongs to these very weights is told: figures of a later or earlier step are not. Paths, host names and
credentials stay behind; of a dataset's URL the last part is its name.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from model.card import Dataset, Training
from pipeline.train.checkpoint_folder import folder_name, read_state, step_of
from pipeline.train.config import RunConfig
from shards.errors import CheckpointError, ShardError
from shards.storage import read_bytes, shown

__all__ = ["read_training"]

_LIMIT_BYTES = 1 << 20


class _Figures(BaseModel):
    """`metrics.json` of a finished run, and the same part of a checkpoint's `state.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    step: int
    samples_seen: int
    hours: float
    latest: dict[str, int | float] | None = None
    best: dict[str, int | float] | None = None


def read_training(origin: Path) -> Training:
    """What is recorded beside weights.

    Args:
        origin: What holds them: a checkpoint, a finished run, any other folder or a file, of which nothing is known.
    """
    if step_of(origin.resolve().name) is not None:
        checkpoint = origin.resolve()
        state = _state(checkpoint)
        run_dir = checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else None
        return _training(state, state, _json(run_dir / "env.json") if run_dir else {})
    metrics = _json(origin / "metrics.json") if origin.is_dir() else {}
    if not metrics:
        return Training()
    step = metrics.get("step")
    state = _state(origin / "checkpoints" / folder_name(step)) if type(step) is int and step >= 0 else {}
    if not state and _json(origin / "status.json").get("step") == step:
        state = {"config": _settings(origin / "config.yaml")}  # its last checkpoint was deleted
    return _training(metrics, state, _json(origin / "env.json"))


def _training(figures: Mapping[str, Any], state: Mapping[str, Any], environment: Mapping[str, Any]) -> Training:
    """Put together what each file knows; one that is damaged or of another version knows nothing."""
    known: dict[str, Any] = {"hardware": _hardware(environment, state), "software": _software(environment)}
    try:
        found = _Figures.model_validate(figures)
        known |= {name: getattr(found, name) or {} for name in ("latest", "best")}
        known |= {name: getattr(found, name) for name in ("step", "samples_seen", "hours")}
    except ValidationError:
        pass
    try:
        config = RunConfig.model_validate(state.get("config"))
    except ValidationError:
        return Training(**known)
    return Training(
        **known,
        datasets=_datasets(config, state.get("order")),
        validated_on=_name(config.data.val) if config.data.val else None,
        loss=config.loss,
        settings=_rows(config),
    )


def _datasets(config: RunConfig, order: object) -> tuple[Dataset, ...]:
    """The datasets by name, with what the order of the samples says of them."""
    order = order if isinstance(order, dict) else {}
    told = order.get("datasets", [order])
    urls = [dataset.url for dataset in config.data.datasets]
    if not isinstance(told, list) or len(told) != len(urls) or not all(isinstance(facts, dict) for facts in told):
        told = [{}] * len(urls)
    return tuple(
        Dataset(
            _name(url),
            facts["fingerprint"] if isinstance(facts.get("fingerprint"), str) else None,
            facts["num_samples"] if type(facts.get("num_samples")) is int else None,
        )
        for url, facts in zip(urls, told, strict=True)
    )


def _rows(config: RunConfig) -> dict[str, str]:
    """The settings that matter to somebody who uses the weights."""
    data, optim, train = config.data, config.optim, config.train
    height, width = train.size
    rows = {}
    if config.loss.name.endswith("ranking"):
        how = "drawn anew at each step" if data.pairs == "online" else "as stored"
        rows["pairs"] = f"up to {data.num_pairs} a picture, {how}"
    rows["encoder began"] = _beginning(config)
    rows["optimizer"] = f"{optim.name}, lr {optim.lr:g} (encoder {optim.lr * optim.encoder_lr_ratio:g}), " + (
        f"weight decay {optim.weight_decay:g}, {optim.schedule}"
        + (f", {optim.warmup_steps} steps of warm-up" if optim.warmup_steps else "")
    )
    rows["batch"] = f"{train.batch_size} pictures of {height} x {width} pixels"
    rows["crops"] = (
        f"{data.augment.crop_scale_min:g} to 1 of the picture, mirrored with chance {data.augment.flip_probability:g}"
    )
    rows["precision"] = train.precision
    if optim.ema_decay is not None:
        rows["weights"] = f"exponential moving average, decay {optim.ema_decay:g}"
    return rows


def _beginning(config: RunConfig) -> str:
    if config.checkpoint.init_from:
        return "with the weights of another network"
    weights = config.model.encoder_weights
    if weights == "none":
        return "with random weights"
    if re.fullmatch(r"imagenet|IMAGENET1K_\w+", weights):
        return f"with weights of torchvision ({weights})"
    return "with the weights of a file"


def _hardware(environment: Mapping[str, Any], state: Mapping[str, Any]) -> str | None:
    device, processes = environment.get("device"), state.get("world_size")
    if not isinstance(device, str):
        return None
    name = device.upper() if device == "cpu" else device
    return f"{processes} x {name}" if type(processes) is int and processes > 1 else name


def _software(environment: Mapping[str, Any]) -> str | None:
    packages = environment.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    text = ", ".join(
        f"{name} {versions[name]}" for name in ("depthrank", "torch") if isinstance(versions.get(name), str)
    )
    commit = environment.get("git_commit")
    if isinstance(commit, str):
        changed = " with changes" if environment.get("git_changed") else ""
        text += f"{', ' if text else ''}commit {commit}{changed}"
    return text or None


def _name(url: str) -> str:
    """The last part of a path or URL, without what could be private."""
    return shown(url).rstrip("/").rpartition("/")[2]


def _state(checkpoint: Path) -> dict[str, Any]:
    try:
        return read_state(checkpoint)
    except CheckpointError:
        return {}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(str(path), _LIMIT_BYTES))
    except (ShardError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _settings(path: Path) -> Any:
    try:
        return yaml.safe_load(read_bytes(str(path), _LIMIT_BYTES))
    except (ShardError, yaml.YAMLError, RecursionError):
        return None
