"""Mistakes that pydantic found, in words: what is wrong, what is allowed, what was probably meant.

problems, missing = explain(error, Recipe, values, place_of)
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from launch.config.problems import COMMAND_LINE, KeyPath, Place, Problem, dotted, show
from launch.config.schema import (
    Schema,
    bounds,
    choices,
    exclusive,
    field_at,
    section_at,
    suggestion,
    tag_key,
    tags,
    type_text,
    without_tags,
)

__all__ = ["explain", "missing_text"]

_OUT_OF_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of"}
_SECTION_TYPES = {"dict_type", "model_type", "model_attributes_type"}
_WRONG_TYPES = {"bool_type", "float_type", "int_type", "int_from_float", "list_type", "string_type", "tuple_type"}
_SWITCHES = {"on": "true", "yes": "true", "off": "false", "no": "false"}


def explain(
    error: ValidationError, schema: Schema, values: Mapping[str, object], place_of: Callable[[KeyPath], Place]
) -> tuple[list[Problem], list[KeyPath]]:
    """Mistakes and missing keys of a validation that failed.

    Args:
        error: what pydantic raised.
        schema: the schema that was validated.
        values: the values that were validated.
        place_of: where the value at a path was written.

    Returns:
        the problems, and the paths of the keys that are required and absent.
    """
    problems: list[Problem] = []
    missing: list[KeyPath] = []
    for details in error.errors(include_url=False):
        path = without_tags(schema, details["loc"])
        if details["type"] == "union_tag_not_found":
            missing.append((*path, _tag_name(schema, path, values)))
        elif details["type"] == "missing" and not any(isinstance(part, int) for part in path):
            missing.append(path)
        else:
            path, text = _describe(details, _as_written(path, values), schema, values)
            place = place_of(path)
            if details["type"] in {"string_type", "literal_error"} and not isinstance(details["input"], str):
                text += _quote_hint(details["input"], place)
            problems.append(Problem(place, path, text))
    problems = list(dict.fromkeys(problems))
    return problems, missing


def missing_text(schema: Schema, path: KeyPath, values: Mapping[str, object]) -> str:
    """What to say of a required key that is absent."""
    section = section_at(schema, path[:-1], values)
    names = exclusive(section) if section is not None else ()
    if path[-1] in names:
        return f"missing; give exactly one of {' and '.join(dotted((*path[:-1], name)) for name in names)}"
    field = field_at(schema, path, values)
    above = field_at(schema, path[:-1], values) if len(path) > 1 else None
    allowed = list(tags(above)) if above is not None and tag_key(above) == path[-1] else choices(field) if field else []
    return (
        "missing"
        + (f", one of {', '.join(allowed)}" if allowed else "")
        + f"; set it in the file or give {dotted(path)}=VALUE"
    )


def _as_written(path: KeyPath, values: Mapping[str, object]) -> KeyPath:
    """A path without indices into a list that the schema itself made, as `size: 384` stands for two numbers."""
    here: object = values
    for position, part in enumerate(path):
        if isinstance(part, int) and not isinstance(here, tuple):
            return path[:position]
        if isinstance(part, int):
            here = here[part] if isinstance(here, tuple) and part < len(here) else None
        else:
            here = here.get(part) if isinstance(here, Mapping) else None
    return path


def _describe(
    details: ErrorDetails, path: KeyPath, schema: Schema, values: Mapping[str, object]
) -> tuple[KeyPath, str]:
    """Path and text of one mistake."""
    kind, given = details["type"], details["input"]
    context = details.get("ctx", {})
    field = field_at(schema, tuple(part for part in path if isinstance(part, str)), values)
    if kind == "extra_forbidden":
        return path, _unknown_key(path, schema, values)
    if kind == "union_tag_invalid" and field is not None:
        name = _tag_name(schema, path, values)
        return (*path, name), _not_one_of(given.get(name), list(tags(field)))
    if kind == "literal_error" and field is not None:
        return path, _not_one_of(given, choices(field))
    if kind in _OUT_OF_BOUNDS and field is not None and bounds(field):
        return path, f"must be {bounds(field)}, got {show(given)}"
    if kind in _SECTION_TYPES:
        section = section_at(schema, path, values)
        names = f" ({', '.join(section.model_fields)})" if section is not None else ""
        return path, f"is a section of settings{names}, not {show(given)}"
    if kind == "missing" and isinstance(path[-1], str):
        return path, "missing"
    if kind in {"missing", "too_short", "too_long"} and field is not None:
        whole = path[:-1] if kind == "missing" else path
        return whole, f"needs {type_text(field, _indices(whole))}, got {show(given)}"
    if kind in _WRONG_TYPES and field is not None:
        return path, f"needs {type_text(field, _indices(path))}, got {show(given)}{_hint(kind, given)}"
    if kind in {"value_error", "assertion_error"}:
        return path, str(context["error"])
    return path, f"{details['msg'].replace('Input should', 'must')}, got {show(given)}"


def _indices(path: KeyPath) -> list[int]:
    """The indices at the end of a path: those into the value of its last key."""
    keys_end = max((end for end, part in enumerate(path, 1) if isinstance(part, str)), default=0)
    return [part for part in path[keys_end:] if isinstance(part, int)]


def _hint(kind: str, given: object) -> str:
    """What to write instead, where that is clear."""
    if kind == "int_type" and isinstance(given, float) and given.is_integer() and abs(given) < 1e15:
        return f" (write {int(given)})"
    if kind in {"int_type", "float_type"} and isinstance(given, str) and given.replace("_", "").isdecimal():
        return f" (write {given.replace('_', '')}, without quotes or '_')"
    if kind == "bool_type" and isinstance(given, str) and given.lower() in _SWITCHES:
        return f" (write {_SWITCHES[given.lower()]})"
    if kind == "tuple_type":
        return " (write [a, b])"
    return ""


def _quote_hint(given: object, place: Place) -> str:
    """How to write a text that YAML takes for a number or a switch."""
    if not isinstance(given, bool | int | float):
        return ""
    quoted = f'"{show(given)}"'
    return f" (to mean the text, write '{quoted}')" if place == COMMAND_LINE else f" (to mean the text, write {quoted})"


def _not_one_of(given: object, allowed: list[str]) -> str:
    if not isinstance(given, str):
        return f"needs one of the texts {', '.join(map(repr, allowed))}, got {show(given)}"
    close = get_close_matches(given, allowed, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    return f"{show(given)} is not one of {', '.join(allowed)}{hint}"


def _tag_name(schema: Schema, path: KeyPath, values: Mapping[str, object]) -> str:
    field = field_at(schema, path, values)
    return (tag_key(field) if field is not None else None) or ""


def _unknown_key(path: KeyPath, schema: Schema, values: Mapping[str, object]) -> str:
    union = field_at(schema, path[:-1], values) if len(path) > 1 else None
    others = [tag for tag, section in (tags(union) if union else {}).items() if path[-1] in section.model_fields]
    if others and union is not None:
        section = dotted(path[:-1])
        return f"unknown key; it belongs to {section}.{tag_key(union)}={' or '.join(others)}"
    meant = suggestion(schema, path)
    if meant and meant == path[-1]:
        above, _, name = meant.rpartition(".")
        return f"unknown key; in a file, write '{name}:' indented below '{above}:'"
    if meant:
        return f"unknown key (did you mean '{meant}'?)"
    section_model = section_at(schema, path[:-1], values)
    names = list(section_model.model_fields) if section_model is not None else []
    return "unknown key; known here: " + ", ".join(names)
