"""The walk-throughs of docs/extending.md, carried out on a copy of the project."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .command_lines import commands
from .markdown import ROOT, Block, blocks

PAGE = ROOT / "docs" / "extending.md"
PACKAGES = ("model", "shards", "pipeline", "launch", "configs")


def edit(path: Path, block: Block) -> None:
    """Put a change into a file: the lines with ` ` and `-` must stand there once."""
    lines = block.text.rstrip("\n").split("\n")
    before = "\n".join(line[1:] for line in lines if line[:1] in (" ", "-"))
    after = "\n".join(line[1:] for line in lines if line[:1] in (" ", "+"))
    text = path.read_text()
    assert text.count(f"\n{before}\n") == 1, (
        f"{block.where}: stands {text.count(before)} times in {path.name}:\n{before}"
    )
    path.write_text(text.replace(f"\n{before}\n", f"\n{after}\n"))


def marked(kind: str) -> list[tuple[str, Block]]:
    """The blocks of a kind, with what stands behind it in the mark."""
    return [
        (mark.partition(" ")[2], block)
        for block in blocks(PAGE)
        for mark in block.marks
        if mark.partition(" ")[0] == kind
    ]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with all the files and changes of the page."""
    root = tmp_path_factory.mktemp("extended")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for name, block in marked("file"):
        assert not (root / name).exists(), f"{block.where}: {name} is there already"
        (root / name).write_text(block.text)
    for name, block in marked("edit"):
        edit(root / name, block)
    return root


def run(root: Path, argv: list[str]) -> str:
    done = subprocess.run(
        argv,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_every_block_is_a_file_a_change_or_a_step() -> None:
    kinds = [mark.partition(" ")[0] for block in blocks(PAGE) for mark in block.marks]
    assert len(kinds) == len(blocks(PAGE))
    assert set(kinds) == {"file", "edit", "step"}


def test_the_style_of_the_code_is_that_of_the_project(extended: Path) -> None:
    changed = sorted({name for kind in ("file", "edit") for name, _ in marked(kind)})
    run(extended, [sys.executable, "-m", "ruff", "check", "--no-cache", *changed])
    run(extended, [sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *changed])


@pytest.mark.slow
def test_the_walk_through_works(extended: Path) -> None:
    said = ""
    for _, block in marked("step"):
        if block.language == "python":
            run(extended, [sys.executable, "-c", block.text])
        for _, words in commands(block.text) if block.language == "sh" else []:
            said += run(extended, [sys.executable if words[0] == "python" else words[0], *words[1:]])
    assert "runs/two-folders: " in said
    assert said.count("plan: ") == 2
    assert '"log10_aligned"' in said
