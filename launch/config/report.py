"""The resolved config as a settings file, each value with the place it came from (`--print-config`).

    print(render(resolve(Recipe, "configs/demo.yaml")))

The text is itself a config: read again, it gives the same settings.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from launch.config.problems import KeyPath, dotted
from launch.config.resolve import Resolved
from launch.config.schema import Schema, members, section_at
from launch.config.yaml_loader import parse_value

__all__ = ["provenance", "render", "write_value"]

_COMMENT_COLUMN = 44
_Line = tuple[KeyPath, str, str]
"""Path, text without indentation, and the origin of a setting (empty for a section's own line)."""


def provenance(resolved: Resolved[Any]) -> dict[str, str]:
    """Place of every setting by its dotted key: `default`, `command line` or `file:line`."""
    return {dotted(path): origin for path, _, origin in _lines(resolved) if origin}


def render(resolved: Resolved[Any]) -> str:
    """The resolved config as commented YAML, in the order of the schema."""
    lines = []
    for path, text, origin in _lines(resolved):
        line = "  " * (len(path) - 1) + text
        remark = f"; {resolved.remarks[path]}" if path in resolved.remarks else ""
        lines.append(f"{line:<{_COMMENT_COLUMN}}  # {origin}{remark}" if origin else line)
    return "\n".join(lines) + "\n"


def write_value(value: object, *, in_list: bool = False) -> str:
    """A value as YAML on one line, so that `yaml_loader` reads the same value back."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        read, problems = parse_value(f"[{value}]" if in_list else f"key: {value}")
        plain = not problems and read == ((value,) if in_list else {"key": value})
        return value if plain and value.isprintable() and "#" not in value else _quoted(value)
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {write_value(item, in_list=True)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write_value(item, in_list=True) for item in value) + "]"
    return repr(value)


def _quoted(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escapes.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in text) + '"'


def _lines(resolved: Resolved[Any]) -> Iterator[_Line]:
    yield from _section_lines(resolved, type(resolved.config), resolved.config, ())


def _section_lines(
    resolved: Resolved[Any], schema: Schema, holder: BaseModel | Mapping[str, object], path: KeyPath
) -> Iterator[_Line]:
    """Lines of a section: of the validated model, or of what was written where the section is incomplete."""
    for name, field in schema.model_fields.items():
        at = (*path, name)
        if isinstance(holder, BaseModel):
            value = getattr(holder, name)
        else:
            value = holder.get(name, field.get_default(call_default_factory=True))
        if at in resolved.missing:
            yield at, f"# {name}: missing", ""
        elif not members(field):
            yield at, f"{name}: {write_value(value)}", str(resolved.places.get(at, "default"))
        elif isinstance(value, BaseModel):
            yield at, f"{name}:", ""
            yield from _section_lines(resolved, type(value), value, at)
        else:
            yield from _incomplete_lines(resolved, at)


def _incomplete_lines(resolved: Resolved[Any], path: KeyPath) -> Iterator[_Line]:
    """Lines of a section that is absent, or was left out of the config because a key is missing."""
    written: object = resolved.values
    for part in path:
        written = written.get(str(part)) if isinstance(written, Mapping) else None
    schema = section_at(type(resolved.config), path, resolved.values)
    if not isinstance(written, Mapping):
        yield path, f"# {path[-1]}: not given", ""
        return
    yield path, f"{path[-1]}:", ""
    if schema is not None:
        yield from _section_lines(resolved, schema, written, path)
        return
    for name, value in written.items():  # of a union without its tag
        yield (*path, name), f"{name}: {write_value(value)}", str(resolved.places.get((*path, name), "default"))
    for at in resolved.missing:
        if at[: len(path)] == path:
            yield at, f"# {at[-1]}: missing", ""
