import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.config.problems import Place
from launch.config.report import write_value
from launch.config.yaml_loader import MAX_BYTES, MAX_DEPTH, parse_document, parse_value, read_document
from shards.errors import ConfigError


def refusal(text: str) -> str:
    """What is wrong with a text, however it is reported."""
    try:
        document = parse_document(text, "x.yaml")
    except ConfigError as error:
        return str(error)
    assert document.problems, f"nothing refused in {text!r}: {document.values}"
    return "\n".join(map(str, document.problems))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5e+3", -1500.0),
        ("010", 10),
        ("-7", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1" * 40, int("1" * 40)),
        ("1" * 41, "1" * 41),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("True", True),
        ("false", False),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("none", "none"),
        ("12:30:45", "12:30:45"),
        ("2024-11-22", "2024-11-22"),
        ("2024-11-22 10:00:00", "2024-11-22 10:00:00"),
        (".inf", float("inf")),
        ("-.Inf", float("-inf")),
        ("1e999", float("inf")),
        ("=", "="),
        ("'1e-4'", "1e-4"),
        ('"on"', "on"),
        ("s3://bucket/a b?c=d", "s3://bucket/a b?c=d"),
        ("[1, 2e-1, on, [null]]", (1, 0.2, "on", (None,))),
        ("{a: 1, b: {c: x}}", {"a": 1, "b": {"c": "x"}}),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, value: object) -> None:
    for read, reasons in (parse_value(written), (parse_document(f"key: {written}\n", "x").values["key"], [])):
        assert (read, type(read), reasons) == (value, type(value), [])


def test_nan_is_a_number() -> None:
    value, _ = parse_value(".nan")
    assert isinstance(value, float)
    assert value != value


def test_every_key_has_its_line() -> None:
    text = "# comment\na:\n  b: 1\n\n  c:\n    - 2\n    - 3\nd: {e: 4,\n    f: 5}\n"
    places = parse_document(text, "x.yaml").places
    lines = {path: place.line for path, place in places.items() if path}
    assert lines == {
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 5,
        ("a", "c", 0): 6,
        ("a", "c", 1): 7,
        ("d",): 8,
        ("d", "e"): 8,
        ("d", "f"): 9,
    }
    assert str(places["a", "b"]) == "x.yaml:3"
    assert places["a", "b"] == Place("x.yaml", 3)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null\n", "\ufeff"])
def test_an_empty_file_is_an_empty_config(text: str) -> None:
    assert parse_document(text, "x.yaml").values == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3: a: given twice, first on line 1"),
        ("s:\n  a: 1\n  'a': 2\n", "x.yaml:3: s.a: given twice, first on line 2"),
        ("a: &x 1\n", "x.yaml:1: a: anchors (&name) are not supported; quote a text that starts with '&'"),
        (
            "a: 1\nb: *.jpg\n",
            "x.yaml:2: not valid YAML: expected alphabetic or numeric character, but found '.'"
            " (quote a text that starts with '*' or '&')",
        ),
        (
            "b: *name\n",
            "x.yaml:1: b: aliases (*name) are not supported; write the value out, or quote a text with '*'",
        ),
        ("<<: {a: 1}\n", "x.yaml:1: <<: merge keys are not supported; write the settings out"),
        ("a: !x 1\n", "x.yaml:1: a: tags (!name) are not supported; quote a text that starts with '!'"),
        (
            "a: !!python/object/apply:os.system [id]\n",
            "x.yaml:1: a: tags (!name) are not supported; quote a text that starts with '!'",
        ),
        ("? [a, b]\n: 1\n", "x.yaml:1: ?: a key must be a plain text"),
        ("!x a: 1\n", "x.yaml:1: a: a key must be a plain text, without anchor or tag"),
        ("- a\n- b\n", "x.yaml:1: the file must hold `key: value` lines, not ['a', 'b']"),
        ("just text\n", "x.yaml:1: the file must hold `key: value` lines, not 'just text'"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2: a second document ('---'); a config is one document"),
        (
            "a:\n\tb: 1\n",
            "x.yaml:2: not valid YAML: found character '\\t' that cannot start any token (a tab; indent with spaces)",
        ),
        (
            "a: b: c\n",
            "x.yaml:1: not valid YAML: mapping values are not allowed here"
            " (a second ': ' on the line, or wrong indentation; quote a text with ': ')",
        ),
        ("a: [1, 2\nb: 3\n", "x.yaml:2: not valid YAML: expected ',' or ']', but got ':'"),
        (
            'a: "C:\\data"\n',
            "x.yaml:1: not valid YAML: found unknown escape character 'd'"
            ' (an unknown escape in "..."; use single quotes for a text with backslashes)',
        ),
        (
            "a: @home\n",
            "x.yaml:1: not valid YAML: found character '@' that cannot start any token"
            " (quote a text that starts with this character)",
        ),
        ('a: 1\nb: "\\U00110000"\n', "x.yaml:2: not valid YAML: an escape names no character"),
        ('a: "\\uD800"\n', "x.yaml:1: a: a text must not contain NUL or half a surrogate pair"),
        ('a: ["x\\0y"]\n', "x.yaml:1: a[0]: a text must not contain NUL or half a surrogate pair"),
        ("a: 1\nb: \x07\n", "x.yaml:2: the character U+0007 is not allowed in YAML"),
        (
            "%YAML 2.0\n---\na: 1\n",
            "x.yaml:1: not valid YAML: found incompatible YAML document (version 1.* is required)",
        ),
    ],
)
def test_what_is_refused_has_its_line_and_one_line_of_text(text: str, message: str) -> None:
    assert refusal(text) == message


def test_a_refused_value_is_not_used_and_the_first_of_two_is() -> None:
    document = parse_document("a: 1\na: 2\nb: &x 3\nc: [1, !t 2]\nd: 4\n", "x.yaml")
    assert document.values == {"a": 1, "d": 4}
    assert len(document.problems) == 3


def test_an_alias_bomb_costs_nothing() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    started = time.perf_counter()
    assert "aliases (*name) are not supported" in refusal("\n".join(lines))
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "text", ["[" * 5000, "{a: " * 5000, "".join(f"{' ' * n}a:\n" for n in range(300)), "- " * 5000]
)
def test_depth_is_bounded(text: str) -> None:
    assert refusal(text).endswith(f"nested deeper than {MAX_DEPTH} levels")


def test_the_allowed_depth_is_read() -> None:
    value, reasons = parse_value("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert reasons == []
    for _ in range(MAX_DEPTH - 1):
        assert isinstance(value, tuple)
        (value,) = value
    assert value == ()


def test_files_that_cannot_be_read(tmp_path) -> None:
    def message(name: str, data: bytes | None = None) -> str:
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            read_document(str(path))
        return str(caught.value).replace(str(tmp_path), "DIR")

    assert message("a.yaml", b"a: 1\nb: \xff\n") == "DIR/a.yaml:2: not UTF-8 text (byte 0xff)"
    assert message("b.yaml", "a: 1\n".encode("utf-16")) == "DIR/b.yaml:1: not UTF-8 text (byte 0xff)"
    assert message("big.yaml", b"#" * (MAX_BYTES + 1)).startswith("DIR/big.yaml: larger than 100000 bytes")
    assert message("bih.yaml") == "DIR/bih.yaml: no such config file (did you mean 'DIR/big.yaml'?)"
    assert message("nothing/like.yaml") == "DIR/nothing/like.yaml: no such config file"
    assert message(".") == "DIR: cannot read the config file: is a directory"
    assert message("a\0b") == "DIR/a\0b: cannot read the config file: embedded null byte"


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path) -> None:
    path = tmp_path / "w.yaml"
    path.write_bytes("\ufeffa: 1\r\nb:\r\n  c: ü\r\n".encode())
    document = read_document(str(path))
    assert document.values == {"a": 1, "b": {"c": "ü"}}
    assert document.places["b", "c"].line == 3


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
likely = st.sampled_from(
    ["true", "null", "~", "on", "1e-4", "010", "a: b", "a #b", "- x", "*a", " x", "x ", "'", "a,b", "]"]
)
scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=200)
@given(st.recursive(scalars | texts | likely, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6))
def test_what_is_written_is_read_back(value: object) -> None:
    read = parse_document(f"key: {write_value(value)}  # comment\n", "x.yaml").values["key"]
    assert read == value
    assert repr(read) == repr(value)


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("ab:-[]{}\"'\\#&*!|>%@`?,\t\n 0.1~\ud800\0é"), max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        parse_document(text, "x.yaml")
    except ConfigError as error:
        message = str(error)
    else:
        return
    assert "x.yaml" in message
