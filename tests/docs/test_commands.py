"""Every command that a page, a recipe or a command's own description shows is one that would run."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .command_check import problems
from .command_lines import commands
from .markdown import ROOT, Block, blocks, inline_code, pages

SHELLS = {"sh", "bash", "shell", "zsh", "console"}
OURS = re.compile(
    r"^\s*(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?"
    r"(?:python3? -m (?:launch|tests)\.|depthrank |make [a-z]|torchrun |accelerate launch |sh launch/|sbatch )"
)


def shell_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in SHELLS]


def shown(text: str, first_line: int, *, prompted: bool = False) -> Iterator[tuple[int, list[str]]]:
    for line, words in commands(text, prompted=prompted):
        yield first_line + line, words


def mistakes(found: Iterator[tuple[int, list[str]]], where: str, *, loose: bool = False) -> list[str]:
    return [
        f"{where}:{line}: {' '.join(words)}\n    {problem}"
        for line, words in found
        for problem in problems(words, loose=loose)
    ]


def our_lines(text: str) -> str:
    """The text with everything blanked that is no command of ours, but for lines that go on."""
    kept, goes_on = [], False
    for line in text.splitlines():
        mine = goes_on or bool(OURS.match(line))
        goes_on = mine and line.rstrip().endswith("\\")
        kept.append(line if mine else "")
    return "\n".join(kept)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page(page: Path) -> None:
    where = str(page.relative_to(ROOT))
    wrong = []
    for block in blocks(page):
        if "step" in block.marks:  # of a walk-through, which a test of its own carries out
            continue
        if block.language in SHELLS:
            prompted = block.language == "console"
            wrong += mistakes(shown(block.text, block.line, prompted=prompted), where)
        elif not block.language:
            wrong += mistakes(shown(our_lines(block.text), block.line), where)
    for line, code in inline_code(page):
        if OURS.match(code + " "):
            wrong += mistakes(shown(code, line), where, loose=True)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("recipe", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.name)
def test_commands_at_the_head_of_a_recipe(recipe: Path) -> None:
    lines = recipe.read_text().splitlines()
    head = lines[: next(at for at, line in enumerate(lines) if not line.startswith("#"))]
    text = "\n".join(re.sub(r"^#(?: [A-Z][A-Za-z ,0-9]*?)? {2,}", "", line).removeprefix("#") for line in head)
    found = list(shown(our_lines(text), 1))
    assert not (wrong := mistakes(iter(found), str(recipe.relative_to(ROOT)))), "\n".join(wrong)
    told = {words[words.index("-m") + 1] for _, words in found if "-m" in words}
    assert any(module.startswith("launch.") for module in told), "the head gives no command"


@pytest.mark.parametrize(
    "source",
    sorted([*(ROOT / "launch").rglob("*.py"), *(ROOT / "tests/bench").glob("*.py")]),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_commands_in_a_description(source: Path) -> None:
    described = ast.get_docstring(ast.parse(source.read_text()), clean=True) or ""
    wrong = mistakes(shown(our_lines(described), 1), str(source.relative_to(ROOT)))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "script",
    sorted(path for path in (ROOT / "launch").rglob("*") if path.suffix in {".sh", ".sbatch"}),
    ids=lambda path: path.name,
)
def test_commands_at_the_head_of_a_script(script: Path) -> None:
    head = "\n".join(line.removeprefix("#") for line in script.read_text().splitlines() if line.startswith("#"))
    wrong = mistakes(shown(our_lines(head), 1), str(script.relative_to(ROOT)))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("notebook", sorted((ROOT / "launch").rglob("*.ipynb")), ids=lambda path: path.name)
def test_commands_of_a_notebook(notebook: Path) -> None:
    wrong = []
    for number, cell in enumerate(json.loads(notebook.read_text())["cells"]):
        text = "".join(cell["source"])
        if text.startswith(("%%bash", "%%sh")):
            lines = text.partition("\n")[2]
        else:
            lines = "\n".join(
                line.lstrip()[1:].lstrip() if line.lstrip().startswith("!") else "" for line in text.splitlines()
            )
        if cell["cell_type"] == "code":
            wrong += mistakes(shown(our_lines(re.sub(r"\{\w+\}", "VALUE", lines)), 0), f"{notebook.name} cell {number}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("python -m launch.trian", "there is no module launch.trian"),
        ("python -m launch.train --config configs/demo.yaml --dryrun", "--dryrun"),
        ("python -m launch.train --config configs/demo.yaml optim.l=1", "unknown key"),
        ("python -m launch.train --config configs/none.yaml", "no such config file"),
        ("accelerate launch --multi_gpus -m launch.train --config configs/demo.yaml", "--multi_gpus"),
        ("accelerate launch -m launch.train --config configs/demo.yaml train.steps=-1", "train.steps"),
        ("torchrun --processes 2 -m launch.train --config configs/demo.yaml", "--processes"),
        ("depthrank trian", "no command 'trian'"),
        ("depthrank predict --checkpoint runs/x", "required"),
        ("make trian", "No rule to make target"),
        ("make train CONFIG=configs/none.yaml", "no such config file"),
        ('pip install "depthrank[s4]"', "no extra 's4'"),
        ("sh launch/until_finished.sh runs/x -- python -m launch.train --config configs/none.yaml", "no such config"),
        ("sbatch launch/slurm/train.sbatch configs/demo.yaml runs/x optim.l=1", "unknown key"),
        ("frobnicate", "is not known"),
        ("python -m tests.bench --worst", "--worst"),
    ],
)
def test_a_wrong_command_is_found(line: str, says: str) -> None:
    ((_, words),) = commands(line)
    assert says in "\n".join(problems(words))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("make demo && cd runs  # look", [["make", "demo"], ["cd", "runs"]]),
        ("a 'b c' \\\n  d | e 2>/dev/null > f", [["a", "b c", "d"], ["e"]]),
        ("X=1 Y='2 3' a b", [["a", "b"]]),
        ("for x in 1 2; do a $x; done", [["a", "$x"]]),
        ("cat > x <<EOF\nmake nothing\nEOF\nb", [["cat"], ["b"]]),
    ],
)
def test_shell_text_is_taken_apart(text: str, expected: list[list[str]]) -> None:
    assert [words for _, words in commands(text)] == expected
