"""Whether a place holds a finished dataset already, and of which settings.

if finished_dataset("runs/web-shards", config) is None: ...     # it is still to be packed
"""

import json
from collections.abc import Mapping
from typing import Any

from shards.errors import ShardError
from shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from shards.storage import exists, join, shown

__all__ = ["differing", "finished_dataset"]


def finished_dataset(out: str, config: Mapping[str, Any]) -> Manifest | None:
    """The finished dataset at `out`, None where there is none.

    Args:
        out: Folder or fsspec URL.
        config: The settings that it must have been made with, as the manifest keeps them.

    Raises:
        ShardError: Other settings made it, or its manifest is damaged.
    """
    if not exists(join(out, MANIFEST_NAME)):
        return None
    existing = read_manifest(out)
    changed = differing(existing.config, config)
    if changed:
        raise ShardError(
            f"{shown(out)} holds a finished dataset made with other settings ({', '.join(changed)}); "
            "choose another `out`, or delete that folder first"
        )
    return existing


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Dotted names of the settings in which one that was stored and another differ."""
    return sorted(_differing(old, json.loads(json.dumps(new))))  # tuples were stored as lists


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for key in old.keys() | new.keys():
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= _differing(a, b, f"{prefix}{key}.")
        elif a != b or (key in old) != (key in new):
            found.add(f"{prefix}{key}")
    return found
