"""What a config may change when a run is resumed, and what it may not.

Where a run lives, where its data lies, how it is watched, saved and stopped, and how a step is split over machines may
change from session to session. Everything else decides what the run computes.

    differences = contradictions(state["config"], config.model_dump(mode="json"))
    for line in reported_changes(state["config"], config.model_dump(mode="json")): ...

May change, and is told at the start of the session:

- without influence on the weights: `run`, `data.train` (where the samples lie: which they are is part of the sample
  order, which is compared for itself), `data.val`, `data.num_workers`, `data.cache_dir`, `model.encoder_weights` (the
  checkpoint holds the weights), and all of `checkpoint`, `session` and `monitor`;
- with the last bits: `train.threads`, `train.micro_batch_size`, `train.channels_last`, `train.compile`,
  `train.deterministic`, `optim.fused`; so do the number of processes and the kind of device, which are no settings;
- `data.on_bad_shard`, which counts where a shard is damaged.
"""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["contradictions", "decisive_settings", "reported_changes"]

WITHOUT_INFLUENCE = (
    "run",
    "data.train",
    "data.val",
    "data.num_workers",
    "data.cache_dir",
    "model.encoder_weights",
    "checkpoint",
    "session",
    "monitor",
)
LAST_BITS = (
    "train.threads",
    "train.micro_batch_size",
    "train.channels_last",
    "train.compile",
    "train.deterministic",
    "optim.fused",
)
MAY_CHANGE = {
    "without influence on the weights": WITHOUT_INFLUENCE,
    "the samples and their order stay the same, results agree within rounding": LAST_BITS,
    "matters where a shard is damaged": ("data.on_bad_shard",),
}
_ABSENT = object()


def contradictions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ and must not, a line each with both values, sorted by name.

    Args:
        old: the config in the checkpoint, as plain JSON values.
        new: the config of this start, as plain JSON values (tuples count as lists).
    """
    return [
        f"{key}: {_text(before)} in the checkpoint, {_text(now)} now"
        for key, before, now in _differences(old, new)
        if _is_decisive(key)
    ]


def decisive_settings(config: Mapping[str, Any]) -> dict[str, object]:
    """Dotted name -> value of the settings that may not change, in their order."""
    return {key: value for key, value in _flat(config) if _is_decisive(key)}


def reported_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ and may, a line for each kind of influence.

    Args:
        old: the config in the checkpoint, as plain JSON values.
        new: the config of this start, as plain JSON values without credentials.
    """
    lines = []
    for influence, keys in MAY_CHANGE.items():
        changed = [
            f"{key} {_text(before)} -> {_text(now)}"
            for key, before, now in _differences(old, new)
            if _is_below(key, keys)
        ]
        if changed:
            lines.append(f"changed since the checkpoint ({influence}): {'; '.join(changed)}")
    return lines


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Name and both values of each setting that differs, sorted by name."""
    before, now = dict(_flat(old)), dict(_flat(new))
    for key in sorted(before.keys() | now.keys()):
        values = before.get(key, _ABSENT), now.get(key, _ABSENT)
        if values[0] != values[1]:
            yield key, *values


def _is_decisive(key: str) -> bool:
    return not any(_is_below(key, keys) for keys in MAY_CHANGE.values())


def _is_below(key: str, blocks: tuple[str, ...]) -> bool:
    return any(key == block or key.startswith(f"{block}.") for block in blocks)


def _flat(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    # An empty block stays a value: it differs from a full one.
    if isinstance(value, Mapping) and (value or not key):
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, _listed(value)


def _listed(value: object) -> object:
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _text(value: object) -> str:
    return "absent" if value is _ABSENT else repr(value)
