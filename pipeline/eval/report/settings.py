"""The settings of a run beside their defaults.

changed = [setting for setting in settings_of(config) if setting.is_changed]
"""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from pydantic_core import PydanticUndefined, to_jsonable_python

from model.config import Section
from pipeline.eval.report.privacy import public
from pipeline.train.config import RunConfig

__all__ = ["Setting", "settings_of"]

_MAX_SETTINGS = 500
_MISSING = object()


class Setting(NamedTuple):
    """One setting, as text."""

    key: str
    """Dotted: `optim.lr`."""
    value: str
    default: str
    """Empty where it has none: it must be given, or this version does not know it."""
    is_changed: bool


def settings_of(config: Mapping[str, Any]) -> list[Setting]:
    """All settings of a stored config, in its order; those without a default count as changed.

    Args:
        config: What `config.yaml` of a run holds; it may be of another version.
    """
    defaults = dict(_defaults(RunConfig))
    found = []
    for key, value in islice(_leaves(config), _MAX_SETTINGS):
        default = defaults.get(key, _MISSING)
        given = default is not _MISSING
        found.append(Setting(key, _text(value), _text(default) if given else "", not given or value != default))
    return found


def _defaults(section: type[Section], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _defaults(inner, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        if default is not PydanticUndefined:
            yield f"{prefix}{name}", to_jsonable_python(default)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return public(value)
    if isinstance(value, list):
        return f"[{', '.join(_text(item) for item in value[:20])}{', …' if len(value) > 20 else ''}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{public(name)}: {_text(item)}' for name, item in value.items())}}}"
    return public(json.dumps(value, default=str))
