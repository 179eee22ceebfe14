"""Questions that the config front end asks a pydantic schema: its keys, choices, bounds, and what must be given.

    keys(Recipe)["optim.lr"].description

A *section* is a model, a *union* a choice of models told apart by one key (`source.kind`). Paths never name the
member of a union: `source.path`, whatever the kind.
"""

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from launch.config.problems import KeyPath, dotted

__all__ = [
    "Schema",
    "bounds",
    "choices",
    "exclusive",
    "field_at",
    "help_text",
    "item_section",
    "keys",
    "may_be_null",
    "members",
    "required_keys",
    "section_at",
    "suggestion",
    "tag_key",
    "tags",
    "type_text",
    "without_tags",
]

Schema = type[BaseModel]

_TYPE_WORDS: dict[object, tuple[str, str]] = {
    bool: ("true or false", "switches"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
}
_BOUND_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _alternatives(annotation: object) -> Iterator[object]:
    """The annotation without Optional, Union and Annotated around it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for inner in get_args(annotation):
            yield from _alternatives(inner)
    else:
        yield annotation


def members(field: FieldInfo) -> list[Schema]:
    """The models a field may hold: none for a plain setting, one for a section, several for a union."""
    return [part for part in _alternatives(field.annotation) if isinstance(part, type) and issubclass(part, BaseModel)]


def help_text(field: FieldInfo) -> str:
    """What a field means, in the words of a settings file: Python's None is its `null`."""
    return re.sub(r"\bNone\b", "null", " ".join((field.description or "").split()))


def may_be_null(field: FieldInfo) -> bool:
    """Whether the field takes null besides its other values."""
    return type(None) in _alternatives(field.annotation)


def item_section(field: FieldInfo) -> Schema | None:
    """The model of each item, where the field may hold a list of sections."""
    for part in _alternatives(field.annotation):
        for item in get_args(part) if get_origin(part) is tuple else ():
            if isinstance(item, type) and issubclass(item, BaseModel):
                return item
    return None


def tag_key(field: FieldInfo) -> str | None:
    """The key that tells the members of a union apart, or None where the field is no union."""
    sections = members(field)
    if len(sections) < 2:
        return None
    shared = set.intersection(*(set(section.model_fields) for section in sections))
    return next(name for name in sections[0].model_fields if name in shared and choices(sections[0].model_fields[name]))


def choices(field: FieldInfo) -> list[str]:
    """The values of a Literal, or nothing."""
    return [
        str(value)
        for part in _alternatives(field.annotation)
        if get_origin(part) is Literal
        for value in get_args(part)
    ]


def tags(field: FieldInfo) -> dict[str, Schema]:
    """The members of a union by their tag."""
    key = tag_key(field)
    return (
        {}
        if key is None
        else {tag: section for section in members(field) for tag in choices(section.model_fields[key])}
    )


def bounds(field: FieldInfo) -> str:
    """What the field demands of a number, such as `≥ 8, ≤ 1024, a multiple of 2`."""
    found = [
        f"{sign} {getattr(constraint, name):g}"
        for constraint in field.metadata
        for name, sign in _BOUND_SIGNS.items()
        if getattr(constraint, name, None) is not None
    ]
    found += [f"a multiple of {m.multiple_of}" for m in field.metadata if getattr(m, "multiple_of", None)]
    return ", ".join(found)


def type_text(field: FieldInfo, indices: Sequence[int] = ()) -> str:
    """What kind of value a field wants, in words, or an item of its (nested) list."""
    parts = list(_alternatives(field.annotation))
    for index in indices:
        items = next(get_args(part) for part in parts if get_origin(part) is tuple)
        parts = list(_alternatives(items[0] if Ellipsis in items else items[index]))
    for part in parts:
        if part in _TYPE_WORDS:
            return _TYPE_WORDS[part][0]
        if get_origin(part) is tuple:
            return _list_text(get_args(part))
    return "another kind of value"


def _list_text(items: tuple[object, ...]) -> str:
    """A list in words, by what its items are."""
    number = "" if Ellipsis in items else f"{len(items)} "
    item = next(_alternatives(items[0]))
    if get_origin(item) is Literal:
        return f"a list {number}out of {', '.join(map(str, get_args(item)))}"
    if get_origin(item) is tuple:
        inner = get_args(item)
        kind = _TYPE_WORDS.get(next(_alternatives(inner[0])), ("", "values"))[1]
        return f"a list of {number}lists" if Ellipsis in inner else f"a list of {number}lists of {len(inner)} {kind}"
    return f"a list of {number}{_TYPE_WORDS.get(item, ('', 'sections'))[1]}"


def exclusive(section: Schema) -> tuple[str, ...]:
    """Names of the settings of which a section wants exactly one (its class attribute `exclusive`)."""
    names: tuple[str, ...] = getattr(section, "exclusive", ())
    return names


def section_at(schema: Schema, path: KeyPath, values: Mapping[str, object]) -> Schema | None:
    """The model that holds the keys below `path`; of a union, the member that `values` (of the whole config) choose.

    Indices of lists may be left out, as all sections of a list are alike.
    """
    section: Schema | None = schema
    here: object = values
    for part in path:
        if isinstance(part, int):
            continue
        field = None if section is None else section.model_fields.get(str(part))
        if field is None:
            return None
        here = here.get(str(part)) if isinstance(here, Mapping) else None
        found, key = members(field), tag_key(field)
        if key is not None:
            tag = here.get(key) if isinstance(here, Mapping) else None
            section = tags(field).get(str(tag))
        else:
            section = found[0] if found else item_section(field)
    return section


def field_at(schema: Schema, path: KeyPath, values: Mapping[str, object]) -> FieldInfo | None:
    """The field at `path`, if the schema has one; of an undecided union, the tag's own field."""
    parent = section_at(schema, path[:-1], values)
    if parent is not None:
        return parent.model_fields.get(str(path[-1]))
    above = field_at(schema, path[:-1], values) if len(path) > 1 else None
    key = None if above is None else tag_key(above)
    return members(above)[0].model_fields[key] if above is not None and key == path[-1] else None


def without_tags(schema: Schema, location: KeyPath) -> KeyPath:
    """A location as pydantic gives it, without the tags of unions: `source.folder.path` -> `source.path`."""
    path: list[str | int] = []
    section: Schema | None = schema
    union: FieldInfo | None = None
    labels: set[str] = set()
    for part in location:
        if part in labels:
            labels = set()
            continue
        if union is not None and part in tags(union):
            section, union = tags(union)[str(part)], None
            continue
        path.append(part)
        field = section.model_fields.get(str(part)) if section is not None else None
        labels = _labels(field) if field is not None else set()
        found = members(field) if field is not None else []
        union = field if len(found) > 1 else None
        section = found[0] if len(found) == 1 else None
    return tuple(path)


def _labels(field: FieldInfo) -> set[str]:
    """The tags of alternatives that are no models, such as one value or a list of them."""
    metadata = [item for part in get_args(field.annotation) for item in getattr(part, "__metadata__", ())]
    return {item.tag for item in metadata if isinstance(item, Tag)}


def keys(schema: Schema, prefix: KeyPath = ()) -> dict[str, FieldInfo]:
    """Every dotted key of a schema, sections first and then what they hold; a union has the keys of all its members."""
    found: dict[str, FieldInfo] = {}
    for name, field in schema.model_fields.items():
        path = (*prefix, name)
        found[dotted(path)] = field
        for section in members(field):
            found |= {key: inner for key, inner in keys(section, path).items() if key not in found}
    return found


def required_keys(field: FieldInfo, path: KeyPath) -> list[KeyPath]:
    """Paths of the keys that an absent field cannot do without; of exclusive ones, the first stands for all."""
    sections = members(field)
    if len(sections) != 1:
        return [path if not sections else (*path, tag_key(field) or "")]
    inner = sections[0].model_fields.items()
    needed = [key for name, item in inner if item.is_required() for key in required_keys(item, (*path, name))]
    return needed + [(*path, name) for name in exclusive(sections[0])[:1]]


def suggestion(schema: Schema, path: KeyPath) -> str:
    """The known key that an unknown one most likely meant, or nothing."""
    known = list(keys(schema))
    wanted, parent = dotted(path), dotted(path[:-1])
    if wanted in known:  # a dotted key where a file nests
        return wanted
    name = str(path[-1])
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == parent}
    close = [siblings[match] for match in get_close_matches(name, siblings, n=1, cutoff=0.7)]
    same_name = [key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]]
    # At the top, a setting that lacks its section is likelier than a misspelt section.
    if candidates := same_name + close if len(path) == 1 else close + same_name:
        return candidates[0]
    if len(path) > 1 and parent in known:
        return ""
    close = get_close_matches(wanted, [key for key in known if key.count(".") == wanted.count(".")], n=1, cutoff=0.75)
    return close[0] if close else ""
