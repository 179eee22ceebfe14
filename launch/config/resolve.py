"""From a settings file and overrides to a validated config that knows where each value came from.

    resolved = resolve(Recipe, "configs/demo.yaml", ["optim.lr=3e-4"])
    resolved.config.optim.lr, resolved.places["optim", "lr"]

All mistakes are raised at once. A required key that is absent is not one yet, because one file serves several commands:
its section is left out of the config and the key is listed in `missing`; a command names what it `needs`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from launch.config.messages import explain, missing_text
from launch.config.overrides import Settings, apply_overrides
from launch.config.problems import COMMAND_LINE, KeyPath, Place, Problem, Value, dotted, raise_all, show
from launch.config.schema import Schema, exclusive, members, required_keys
from launch.config.yaml_loader import Document, read_document

__all__ = ["Resolved", "resolve"]

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Resolved(Generic[S]):
    """A validated config and its provenance."""

    config: S
    values: Mapping[str, Value]
    """What was written, in the file or as overrides."""
    places: Mapping[KeyPath, Place]
    """Where it was written; a setting that is not in here has its default."""
    remarks: Mapping[KeyPath, str]
    """What else happened to a setting: which others it replaced."""
    missing: tuple[KeyPath, ...]
    """Required keys that are absent; their sections are left out of `config`."""


def resolve(
    schema: type[S], path: str | None, overrides: Sequence[str] = (), *, needs: Schema | None = None
) -> Resolved[S]:
    """Read, override and validate settings.

    Args:
        schema: the root of the config; each of its fields has a default.
        path: the settings file; None starts from nothing.
        overrides: `key=value` each.
        needs: a model whose required fields, named as the schema's, must be given completely.

    Raises:
        ConfigError: every mistake, a line each.
    """
    settings = Settings.of(read_document(path) if path is not None else Document())
    _drop_empty_sections(schema, settings.values)
    apply_overrides(settings, schema, overrides)
    top = Place(path) if path is not None else COMMAND_LINE

    def place_of(at: KeyPath) -> Place:
        written = (settings.places.get(at[:length]) for length in range(len(at), 0, -1))
        return next((place for place in written if place is not None), top)

    problems = settings.problems
    problems += _not_finite(settings, place_of)
    missing = _check_exclusive(settings, schema)
    config, found, absent = _validate(schema, settings, {at[:-1] for at in missing}, place_of)
    problems += found
    missing = [*missing, *absent]

    for at in _needed(needs, settings.values, missing):
        if not any(problem.path and _overlap(at, problem.path) for problem in problems):
            section = settings.places.get(at[:1], top)
            place = top if section == COMMAND_LINE else section
            problems.append(Problem(place, at, missing_text(schema, at, settings.values)))
    if problems or config is None:
        raise_all(problems)
    return Resolved(config, settings.values, settings.places, settings.remarks, tuple(missing))


def _drop_empty_sections(schema: Schema, values: dict[str, Value]) -> None:
    """`checkpoint:` with nothing below it means its defaults, not null."""
    for name, field in schema.model_fields.items():
        sections = members(field)
        value = values.get(name)
        if sections and value is None:
            values.pop(name, None)
        elif len(sections) == 1 and isinstance(value, dict):
            _drop_empty_sections(sections[0], value)


def _not_finite(settings: Settings, place_of: Callable[[KeyPath], Place]) -> list[Problem]:
    """Infinite and undefined numbers, which no setting means; they are removed."""
    problems = []
    for path, value in list(_leaves(settings.values)):
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(Problem(place_of(path), path, f"must be a finite number, got {show(value)}"))
            list_at = next((end for end, part in enumerate(path) if isinstance(part, int)), len(path))
            settings.drop(path[:list_at])
    return problems


def _overlap(one: KeyPath, other: KeyPath) -> bool:
    """Whether one path is the other or leads to it."""
    return all(first == second for first, second in zip(one, other, strict=False))


def _leaves(value: Value, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Value]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _check_exclusive(settings: Settings, schema: Schema, path: KeyPath = ()) -> list[KeyPath]:
    """Refuse, and remove, all but one of exclusive settings; return those of which none is given."""
    values = settings.get(path)
    if not isinstance(values, dict):
        return []
    missing = []
    names = exclusive(schema)
    given = [(*path, name) for name in names if values.get(name) is not None]
    if names and not given:
        missing.append((*path, names[0]))
    for other in given[1:]:
        text = f"contradicts {dotted(given[0])} ({settings.places[given[0]]}); give exactly one of them"
        settings.problems.append(Problem(settings.places[other], other, text))
        settings.drop(other)
    for name, field in schema.model_fields.items():
        sections = members(field)
        if len(sections) == 1:
            missing += _check_exclusive(settings, sections[0], (*path, name))
    return missing


def _validate(
    schema: type[S], settings: Settings, undecided: set[KeyPath], place_of: Callable[[KeyPath], Place]
) -> tuple[S | None, list[Problem], list[KeyPath]]:
    """The config without the sections that lack a key (None where anything is wrong), the mistakes, the missing keys.

    `undecided` are the sections without any of their exclusive settings; that they are incomplete is known.
    """
    try:
        return schema.model_validate(settings.values, strict=True), [], []
    except ValidationError as error:
        problems, missing = explain(error, schema, settings.values, place_of)
    problems = [problem for problem in problems if problem.path not in undecided]
    if problems:
        return None, problems, missing
    incomplete = {path[0] for path in (*missing, *undecided)}
    complete = {name: value for name, value in settings.values.items() if name not in incomplete}
    return schema.model_validate(complete, strict=True), [], missing


def _needed(needs: Schema | None, values: Mapping[str, Value], missing: Sequence[KeyPath]) -> list[KeyPath]:
    """The keys a command cannot do without and that are absent, in the order of the schema."""
    needed: list[KeyPath] = []
    for name, field in needs.model_fields.items() if needs is not None else ():
        absent = [path for path in missing if path[0] == name]
        if not absent and field.is_required() and values.get(name) is None:
            absent = required_keys(field, (name,))
        needed += absent
    return needed
