"""What a config may change when a run is resumed, and what it may not.

Where a run lives, where its data lies, how it is watched, saved and stopped, and how a step is split over machines may
change from session to session. Everything else decides what the run computes.

    differences = contradictions(state["config"], config.model_dump(mode="json"))
"""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["contradictions"]

MAY_CHANGE = (
    "run",
    "data.train",  # the dataset's fingerprint is part of the sample order, which is compared for itself
    "data.val",
    "data.on_bad_shard",
    "data.num_workers",
    "data.cache_dir",
    "model.encoder_weights",  # the checkpoint holds the weights
    "train.threads",
    "train.micro_batch_size",
    "train.channels_last",  # these three change the last bits, as another machine does
    "train.compile",
    "optim.fused",
    "checkpoint",
    "session",
    "monitor",
)
_ABSENT = object()


def contradictions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ and must not, a line each with both values, sorted by name.

    Args:
        old: the config in the checkpoint, as plain JSON values.
        new: the config of this start, as plain JSON values (tuples count as lists).
    """
    before, now = dict(_flat(old)), dict(_flat(new))
    return [
        f"{key}: {_text(before.get(key, _ABSENT))} in the checkpoint, {_text(now.get(key, _ABSENT))} now"
        for key in sorted(before.keys() | now.keys())
        if not _may_change(key) and before.get(key, _ABSENT) != now.get(key, _ABSENT)
    ]


def _may_change(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)


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
