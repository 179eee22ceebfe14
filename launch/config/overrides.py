"""Overrides on the command line, `key=value`, and how they change what a file says.

    settings = Settings.of(document)
    apply_overrides(settings, Recipe, ["optim.lr=3e-4", "train.size=[96, 128]", "session.max_hours=null"])

A value is read as in a file; `null` resets a section to its defaults. Two rules save the user a step, and
`--print-config` shows both: an override of one of a section's exclusive settings replaces the others of the file
(`train.steps` and `train.epochs`), and an override of a union's tag (`source.kind`) by another drops whatever the file
says of the old kind, as the same key of another kind means another thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from launch.config.problems import COMMAND_LINE, KeyPath, Place, Problem, Value, dotted
from launch.config.schema import Schema, exclusive, field_at, members, section_at, tag_key, tags
from launch.config.yaml_loader import Document, parse_value

__all__ = ["Settings", "apply_overrides", "parse_override"]


@dataclass
class Settings:
    """Values on their way to the schema, where each was written, and what was found on the way."""

    values: dict[str, Value]
    places: dict[KeyPath, Place]
    problems: list[Problem] = field(default_factory=list)
    remarks: dict[KeyPath, str] = field(default_factory=dict)
    """What the user should know of a setting besides its place."""

    @staticmethod
    def of(document: Document) -> "Settings":
        """The settings of a file, before any override."""
        return Settings(document.values, dict(document.places), list(document.problems))

    def get(self, path: KeyPath) -> Value:
        """The value at a path; None where there is none."""
        here: Value = self.values
        for part in path:
            here = here.get(str(part)) if isinstance(here, dict) else None
        return here

    def set(self, path: KeyPath, value: Value, place: Place) -> bool:
        """Write a value; False where something on the way is no section."""
        here = self.values
        for part in path[:-1]:
            inner = here.setdefault(str(part), {})
            if not isinstance(inner, dict):
                return False
            here = inner
        here[str(path[-1])] = value
        self._forget(path)
        self.places[path] = place
        return True

    def drop(self, path: KeyPath) -> None:
        """Remove the value at a path, and all below it, if there is one."""
        parent = self.get(path[:-1]) if len(path) > 1 else self.values
        if isinstance(parent, dict):
            parent.pop(str(path[-1]), None)
        self._forget(path)

    def _forget(self, path: KeyPath) -> None:
        self.places = {known: place for known, place in self.places.items() if known[: len(path)] != path}


def parse_override(text: str) -> tuple[list[tuple[KeyPath, Value]], list[Problem]]:
    """`key=value` as paths and values (several where the value is a mapping), and what is wrong with it."""

    def refuse(reason: str, path: KeyPath = ()) -> tuple[list[tuple[KeyPath, Value]], list[Problem]]:
        return [], [Problem(COMMAND_LINE, path, reason)]

    key, equals, written = text.partition("=")
    path: KeyPath = tuple(key.strip().split("."))
    if not equals:
        return refuse(f"'{text}' is not a setting; write key=value")
    if key.startswith("-"):
        return refuse(f"'{text}' is no option; settings have no dashes: {key.lstrip('-')}={written}")
    if not all(path):
        return refuse(f"'{text}' does not name a setting; write section.key=value")
    if not written.strip():
        return refuse(f"no value given; write {key}=null for none, {key}='\"\"' for an empty text", path)
    value, problems = parse_value(written)
    if problems:
        return [], [Problem(COMMAND_LINE, (*path, *problem.path), problem.text) for problem in problems]
    if isinstance(value, str) and written.strip()[0] not in "'\"|>" and value != written.strip():
        return refuse(f"YAML reads only '{value}' of '{written}'; quote the text", path)
    return _leaves(path, value), []


def apply_overrides(settings: Settings, schema: Schema, overrides: Sequence[str]) -> None:
    """Change settings by overrides, the later winning; mistakes are added to the settings' problems."""
    for text in overrides:
        assignments, problems = parse_override(text)
        settings.problems += problems
        for path, value in assignments:
            _assign(settings, schema, path, value)


def _leaves(path: KeyPath, value: Value) -> list[tuple[KeyPath, Value]]:
    if not isinstance(value, dict):
        return [(path, value)]
    return [leaf for key, item in value.items() for leaf in _leaves((*path, key), item)]


def _assign(settings: Settings, schema: Schema, path: KeyPath, value: Value) -> None:
    field_here = field_at(schema, path, settings.values)
    if value is None and field_here is not None and members(field_here):
        settings.drop(path)  # a section without keys: its defaults
        return
    remark = ""
    if value is not None:
        remark = _replace_exclusive(settings, schema, path) or _replace_union(settings, schema, path, value)
    if not settings.set(path, value, COMMAND_LINE):
        above = next(path[:end] for end in range(1, len(path)) if not isinstance(settings.get(path[:end]), dict))
        settings.problems.append(Problem(COMMAND_LINE, path, f"'{dotted(above)}' has a value and holds no settings"))
    if remark:
        settings.remarks[path] = remark


def _replace_exclusive(settings: Settings, schema: Schema, path: KeyPath) -> str:
    """Drop the file's values that the setting at `path` excludes; says which."""
    section = section_at(schema, path[:-1], settings.values)
    names = exclusive(section) if section is not None else ()
    replaced = [
        (*path[:-1], name)
        for name in names
        if path[-1] in names and name != path[-1] and _in_file(settings, (*path[:-1], name))
    ]
    return _drop_all(settings, [other for other in replaced if settings.get(other) is not None], "replaces")


def _replace_union(settings: Settings, schema: Schema, path: KeyPath, value: Value) -> str:
    """Drop the file's values of the old kind where `path` is a union's tag and changes it; says which."""
    union = field_at(schema, path[:-1], settings.values) if len(path) > 1 else None
    old = settings.get(path)
    if union is None or tag_key(union) != path[-1] or value not in tags(union) or old in (None, value):
        return ""
    section = settings.get(path[:-1])
    below = [(*path[:-1], key) for key in section if key != path[-1]] if isinstance(section, dict) else []
    return _drop_all(settings, [other for other in below if _in_file(settings, other)], "drops")


def _in_file(settings: Settings, path: KeyPath) -> bool:
    return settings.places.get(path, COMMAND_LINE) != COMMAND_LINE


def _drop_all(settings: Settings, paths: Sequence[KeyPath], verb: str) -> str:
    dropped = [f"{dotted(path)} ({settings.places[path]})" for path in paths]
    for path in paths:
        settings.drop(path)
    return f"{verb} {', '.join(dropped)}" if dropped else ""
