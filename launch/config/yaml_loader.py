"""Settings files: YAML 1.2 scalars, a line for every key, and nothing that a settings file does not need.

PyYAML reads YAML 1.1, where `1e-4` is a text, `on` is true and `12:30:45` is a number. So only its parser is used:
its events become plain values here, by the core schema of YAML 1.2. Duplicate keys, anchors, aliases, merge keys and
tags are refused, size and depth are bounded; what is refused is collected, so that all mistakes show at once.

    document = read_document("configs/demo.yaml")
    document.values["optim"]["lr"], document.places["optim", "lr"]
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from launch.config.problems import COMMAND_LINE, KeyPath, Place, Problem, Value, raise_all, show
from shards.similar import similar_path

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Document", "parse_document", "parse_value", "plain_scalar", "read_document"]

MAX_BYTES = 100_000
"""PyYAML's parser takes seconds for this much; the longest recipe has a tenth of it."""
MAX_DEPTH = 16

_WORDS: dict[str, Value] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_NUMBER_LENGTH = 40
"""Longer scalars are text: no setting means so many digits, and int() of very many is slow and then an error."""
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_HINTS = {
    "found character '\\t' that cannot start any token": "a tab; indent with spaces",
    "mapping values are not allowed here": "a second ': ' on the line, or wrong indentation; quote a text with ': '",
    "could not find expected ':'": "no ':' after a key",
    "found unknown escape character": 'an unknown escape in "..."; use single quotes for a text with backslashes',
    "expected alphabetic or numeric character": "quote a text that starts with '*' or '&'",
    "cannot start any token": "quote a text that starts with this character",
}


@dataclass
class Document:
    """What a settings file says: its values, the place of every key, and what was refused."""

    values: dict[str, Value] = field(default_factory=dict)
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def plain_scalar(text: str) -> Value:
    """Meaning of an unquoted scalar in the core schema of YAML 1.2: `010` is ten, `on` and dates are text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _NUMBER_LENGTH:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED_INTEGER.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def read_document(path: str) -> Document:
    """Read a settings file.

    Raises:
        ConfigError: the file is missing, too large, not UTF-8, not YAML or not a mapping.
    """
    place = Place(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        hint = similar_path(path, lambda meant: meant.suffix in {".yaml", ".yml"})
        raise_all([Problem(place, (), f"no such config file{hint}")])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise_all([Problem(place, (), f"cannot read the config file: {reason.lower()}")])
    if len(data) > MAX_BYTES:
        raise_all([Problem(place, (), f"larger than {MAX_BYTES} bytes; this is no settings file")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise_all([Problem(Place(path, line), (), f"not UTF-8 text (byte 0x{data[error.start]:02x})")])
    return parse_document(text, path)


def parse_document(text: str, name: str) -> Document:
    """Values and places of a settings text; `name` is the file's, for messages.

    Raises:
        ConfigError: the text as a whole cannot be read. Lesser refusals are in the document's `problems`.
    """
    reader = _Reader(text, name)
    try:
        values = reader.read()
    except _UnreadableError as error:
        raise_all([*reader.problems, error.problem])
    if values is None:
        values = {}
    if not isinstance(values, dict):
        what = f"the file must hold `key: value` lines, not {show(values)}"
        raise_all([*reader.problems, Problem(Place(name, 1), (), what)])
    return Document(values, reader.places, reader.problems)


def parse_value(text: str) -> tuple[Value, list[Problem]]:
    """Value of one override, by the grammar of the files, and what is wrong with it."""
    reader = _Reader(text, COMMAND_LINE.name)
    try:
        value = reader.read()
    except _UnreadableError as error:
        return None, [error.problem]
    return value, reader.problems


class _UnreadableError(Exception):
    """The text cannot be read on from here."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Reader:
    """Events of PyYAML's parser to values. Never recurses deeper than MAX_DEPTH and never expands anything."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.text = text
        self.places: dict[KeyPath, Place] = {}
        self.problems: list[Problem] = []
        self.refused: set[KeyPath] = set()

    def read(self) -> Value:
        """The value of the only document in the text; None where there is none."""
        try:
            self._parser = yaml.SafeLoader(self.text)
            self._next()
            if self._parser.check_event(yaml.StreamEndEvent):
                return None
            self._next()
            value = self._value(())
            self._next()
            if not self._parser.check_event(yaml.StreamEndEvent):
                place = self._place(self._parser.peek_event())
                raise _UnreadableError(Problem(place, (), "a second document ('---'); a config is one document"))
            return value
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            character = f"U+{error.character:04X}" if isinstance(error.character, int) else repr(error.character)
            problem = Problem(Place(self.name, line), (), f"the character {character} is not allowed in YAML")
            raise _UnreadableError(problem) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(self.name, None if mark is None else mark.line + 1)
            reason = error.problem or str(error)
            hint = next((hint for start, hint in _HINTS.items() if start in reason), "")
            text = f"not valid YAML: {reason}" + (f" ({hint})" if hint else "")
            raise _UnreadableError(Problem(place, (), text)) from error
        except (ValueError, OverflowError) as error:  # chr() of an escape beyond Unicode
            place = Place(self.name, self._parser.line + 1)
            raise _UnreadableError(Problem(place, (), "not valid YAML: an escape names no character")) from error

    def _next(self) -> yaml.Event:
        event: yaml.Event = self._parser.get_event()
        return event

    def _place(self, event: yaml.Event) -> Place:
        return Place(self.name, event.start_mark.line + 1)  # type: ignore[union-attr] # parsed events have marks

    def _refuse(self, place: Place, path: KeyPath, text: str) -> None:
        self.problems.append(Problem(place, path, text))
        self.refused.add(path)

    def _value(self, path: KeyPath) -> Value:
        """Value of the next node; where it must not be used, its path is in `refused`."""
        event = self._next()
        place = self._place(event)
        self.places.setdefault(path, place)
        if len(path) > MAX_DEPTH:
            raise _UnreadableError(Problem(place, (), f"nested deeper than {MAX_DEPTH} levels"))
        if isinstance(event, yaml.AliasEvent):
            self._refuse(
                place, path, "aliases (*name) are not supported; write the value out, or quote a text with '*'"
            )
            return None
        assert isinstance(event, yaml.NodeEvent)  # the parser's grammar
        if event.anchor is not None:
            self._refuse(place, path, "anchors (&name) are not supported; quote a text that starts with '&'")
        if getattr(event, "tag", None) is not None:
            self._refuse(place, path, "tags (!name) are not supported; quote a text that starts with '!'")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        assert isinstance(event, yaml.ScalarEvent)
        value = plain_scalar(event.value) if event.style is None else str(event.value)
        if isinstance(value, str) and _NOT_TEXT.search(value):
            self._refuse(place, path, "a text must not contain NUL or half a surrogate pair")
        return value

    def _sequence(self, path: KeyPath) -> Value:
        items: list[Value] = []
        while not self._parser.check_event(yaml.SequenceEndEvent):
            items.append(self._value((*path, len(items))))
            if (*path, len(items) - 1) in self.refused:
                self.refused.add(path)  # a list without one of its items is another list
        self._next()
        return tuple(items)

    def _mapping(self, path: KeyPath) -> Value:
        values: dict[str, Value] = {}
        first_place: dict[str, Place] = {}
        while not self._parser.check_event(yaml.MappingEndEvent):
            place = self._place(self._parser.peek_event())
            key = self._key(path)
            inner = (*path, key)
            first = first_place.setdefault(key, place)
            if first is not place:
                self.problems.append(Problem(place, inner, f"given twice, first on line {first.line}"))
            self.places.setdefault(inner, place)
            value = self._value(inner)
            if first is place and inner not in self.refused:
                values[key] = value
        self._next()
        return values

    def _key(self, path: KeyPath) -> str:
        """The next key, as it is written; one that cannot be a key is refused."""
        event = self._parser.peek_event()
        place = self._place(event)
        if not isinstance(event, yaml.ScalarEvent):
            self._value((*path, "?"))
            self._refuse(place, (*path, "?"), "a key must be a plain text")
            return "?"
        self._next()
        key = str(event.value)
        if event.anchor is not None or event.tag is not None:
            self._refuse(place, (*path, key), "a key must be a plain text, without anchor or tag")
        elif key == "<<":
            self._refuse(place, (*path, key), "merge keys are not supported; write the settings out")
        elif _NOT_TEXT.search(key):
            self._refuse(place, path, "a key must not contain NUL or half a surrogate pair")
        return key
