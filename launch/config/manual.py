"""Every setting of a schema as Markdown: a table a section with defaults, values and what each means.

    print(manual(Recipe, required={"run", "out"}))

A union gets a part for each of its kinds, a list of sections one for its items.
"""

import re
from collections.abc import Collection, Iterator
from inspect import cleandoc

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from launch.config.problems import KeyPath, dotted
from launch.config.report import write_value
from launch.config.schema import (
    Schema,
    bounds,
    choices,
    exclusive,
    help_text,
    item_section,
    may_be_null,
    members,
    tag_key,
    tags,
    type_text,
)

__all__ = ["manual"]

_HEAD = "| key | default | values | meaning |\n|---|---|---|---|"
_REQUIRED = "*must be given*"


def manual(schema: Schema, *, required: Collection[str] = (), level: int = 2) -> str:
    """The parts of a schema in its order, each under a heading; its own plain settings come first.

    Args:
        schema: the root.
        required: keys at its top that must be given although the schema has a default for them.
        level: number of `#` of the outermost headings.
    """
    return "\n\n".join(_parts(schema, (), level, required=required)) + "\n"


def _parts(
    section: Schema, path: KeyPath, level: int, *, required: Collection[str] = (), hidden: Collection[str] = ()
) -> Iterator[str]:
    """The table of a section's own settings, then the parts of the sections in it."""
    rows = []
    for name, field in section.model_fields.items():
        if not members(field) and name not in hidden:
            default = _REQUIRED if name in required else _default(name, field, section)
            meaning = _cell(_null_as_code(help_text(field)))
            values = _values(field, null=may_be_null(field) and name not in required)
            rows.append(f"| `{dotted((*path, name))}` | {default} | {values} | {meaning} |")
    if rows:
        yield "\n".join([_HEAD, *rows])
    for name, field in section.model_fields.items():
        at = (*path, name)
        item, kinds, inner = item_section(field), tags(field), members(field)
        if item is not None:
            yield f"{'#' * level} Items of {dotted(at)}, where it is a list"
            yield cleandoc(item.__doc__ or "")
            yield from _parts(item, (), level + 1)
        elif kinds:
            key = str(tag_key(field))
            yield f"{'#' * level} {dotted(at)}"
            yield f"One of {len(kinds)} kinds; `{dotted((*at, key))}` must be given and says which."
            for tag, kind in kinds.items():
                yield f"{'#' * (level + 1)} {dotted((*at, key))}={tag}"
                yield cleandoc(kind.__doc__ or "")
                yield from _parts(kind, at, level + 2, hidden={key})
        elif inner:
            yield f"{'#' * level} {dotted(at)}"
            yield cleandoc(inner[0].__doc__ or "")
            yield from _parts(inner[0], at, level + 1)


def _default(name: str, field: FieldInfo, section: Schema) -> str:
    if name in exclusive(section):
        return f"*one of {' and '.join(f'`{other}`' for other in exclusive(section))}*"
    value = field.get_default(call_default_factory=True)
    return _REQUIRED if value is PydanticUndefined else f"`{_cell(write_value(value))}`"


def _values(field: FieldInfo, *, null: bool) -> str:
    """What may be written: the choices, or the type with its bounds, and null where it is among them."""
    allowed = choices(field)
    if allowed:
        text = ", ".join(f"`{value}`" for value in allowed)
    else:
        text = ", ".join(part for part in (type_text(field), bounds(field)) if part)
    if item_section(field) is not None:
        text += ", or a list of sections"
    return _cell(f"{text}{', or `null`' if null else ''}")


def _null_as_code(text: str) -> str:
    parts = text.split("`")
    return "`".join(re.sub(r"\bnull\b", "`null`", part) if at % 2 == 0 else part for at, part in enumerate(parts))


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", r"\|")
