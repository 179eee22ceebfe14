"""The words that docs/troubleshooting.md quotes are words that the program prints."""

import ast
import re
from functools import cache

import pytest

from .command_check import problems
from .command_lines import commands
from .markdown import ROOT, prose

PAGE = ROOT / "docs" / "troubleshooting.md"
GAP = "\0"
SHORTEST = 12


@cache
def texts() -> list[str]:
    """Every text of the code; where it inserts a value there is a gap."""
    found = []
    for package in ("launch", "pipeline", "shards", "model"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    found.append("".join(_part(value) for value in node.values))
    return [*found, (ROOT / "Makefile").read_text()]


def _part(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else GAP


def pattern(quoted: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part.strip()) for part in quoted.split("…")), re.DOTALL)


def quotations() -> list[str]:
    """The code in the first column of the tables."""
    rows = [line for _, text in prose(PAGE) for line in text.splitlines() if line.startswith("| ")]
    cells = [re.split(r"(?<!\\)\|", row)[1] for row in rows]
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]


def is_message(quoted: str) -> bool:
    return " " in quoted and not re.match(r"(?:python|depthrank|data|make) ", quoted)


@pytest.mark.parametrize("quoted", [quoted for quoted in quotations() if is_message(quoted)])
def test_a_message_is_one_of_the_program(quoted: str) -> None:
    assert max(len(part.strip()) for part in quoted.split("…")) >= SHORTEST, "too short to be found"
    assert any(pattern(quoted).search(text) for text in texts()), f"no text of the program says: {quoted}"


@pytest.mark.parametrize("reason", [quoted for quoted in quotations() if re.fullmatch(r"[a-z]+_[a-z_]+", quoted)])
def test_a_reason_is_one_of_the_program(reason: str) -> None:
    assert reason in texts()


def test_a_word_that_nobody_says_is_found() -> None:
    assert not any(pattern("the … is made of cheese").search(text) for text in texts())


def test_settings_in_the_answers_exist() -> None:
    """`optim.lr`, `shards.quality`, `train.precision=fp32` … in the text are keys of the schema."""
    from launch.config.schema import keys
    from launch.recipe import Recipe

    known = set(keys(Recipe))
    sections = "|".join(name for name in Recipe.model_fields)
    wrong = [
        key
        for _, text in prose(PAGE)
        for key in re.findall(rf"`((?:{sections})\.[a-z_.]+)", text)
        if key.rstrip(".") not in known
    ]
    assert wrong == []


def test_commands_in_the_answers_exist() -> None:
    found = [code for _, text in prose(PAGE) for code in re.findall(r"`((?:python -m|depthrank|make) [^`]+)`", text)]
    assert found
    wrong = [problem for code in found for _, words in commands(code) for problem in problems(words, loose=True)]
    assert wrong == []
