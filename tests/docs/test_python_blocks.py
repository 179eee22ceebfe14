"""Python on a page compiles, and what is marked `<!-- test: run -->` runs, in the order of the page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .markdown import ROOT, Block, blocks, pages

MAGIC = re.compile(r"^(\s*)[!%].*$", re.MULTILINE)


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in {"python", "py"}]


@pytest.mark.parametrize("page", [page for page in pages() if python_blocks(page)], ids=lambda page: page.name)
def test_python_compiles(page: Path) -> None:
    for block in python_blocks(page):
        compile(MAGIC.sub(r"\1pass", block.text), block.where, "exec")


@pytest.mark.parametrize(
    "page",
    [page for page in pages() if any("run" in block.marks for block in python_blocks(page))],
    ids=lambda page: page.name,
)
def test_marked_python_runs(page: Path, tmp_path: Path) -> None:
    code = "\n".join(block.text for block in python_blocks(page) if "run" in block.marks)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
