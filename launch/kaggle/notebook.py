"""The notebook, made from one source, so that the file in the repository and what is pushed cannot differ.

    python -m launch.kaggle notebook --out launch/kaggle/depthrank.ipynb
    notebook_bytes(Settings(run="mine"))

The cells are thin: all they do is done by `launch.kaggle.cells`, which is tested.
"""

import json
from dataclasses import fields
from typing import Any

from launch.kaggle.settings import Settings

__all__ = ["NOTEBOOK_NAME", "code_cells", "notebook_bytes"]

NOTEBOOK_NAME = "depthrank.ipynb"
INTRODUCTION = """\
# DepthRank on Kaggle

Trains a network that orders the pixels of a photograph by depth, for as many sessions as it takes.

1. **Add Input**: the dataset with the program, a dataset of shards, and from the second version on the output of
   the version before (*Notebooks*, this one).
2. **Settings > Accelerator > GPU T4 x2**.
3. **Save Version > Save & Run All**. The run stops by itself before Kaggle's 12 hours are over and says what to do
   next.

docs/kaggle.md of the project has the steps one by one.
"""
CHECKS = """\
# 1. Settings and checks
SETTINGS = dict(
{settings}
)

import os, sys
from pathlib import Path

root = Path(os.environ.get("DEPTHRANK_KAGGLE_ROOT", "/kaggle"))
places = ["input/*/", "input/datasets/*/*/"]
program = [found for place in places for found in sorted(root.glob(place + "depthrank-*-none-any*"))]
if not program:
    raise SystemExit("No program: attach the dataset that `python -m launch.kaggle code` made (Add Input > Datasets)")
sys.path.insert(0, str(program[0]))
from launch.kaggle import cells

session = cells.check(SETTINGS)"""
INSTALL = """\
# 2. Install: the program and what the image lacks, from attached wheels or PyPI; never torch
session.install()"""
SHARDS = """\
# 3. Shards and checkpoints: what is attached, packed or unpacked, and where the run goes on
session.find_data()"""
TRAIN = """\
# 4. Train until the run is finished or the session's time is nearly over
session.train()"""
SUMMARY = """\
# 5. Curves, pictures, and what to do next
session.summary()"""
_COMMENT_COLUMN = 38


def code_cells(settings: Settings) -> list[str]:
    """The sources of the five cells."""
    return [CHECKS.format(settings=_settings_text(settings)), INSTALL, SHARDS, TRAIN, SUMMARY]


def notebook_bytes(settings: Settings) -> bytes:
    """The notebook as a file, nbformat 4.5."""
    cells: list[dict[str, Any]] = [_cell("markdown", "introduction", INTRODUCTION)]
    names = ("checks", "install", "shards", "train", "summary")
    for name, source in zip(names, code_cells(settings), strict=True):
        cells.append({**_cell("code", name, source), "execution_count": None, "outputs": []})
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return (json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _cell(kind: str, name: str, source: str) -> dict[str, Any]:
    return {"cell_type": kind, "id": name, "metadata": {}, "source": source.rstrip("\n").splitlines(keepends=True)}


def _settings_text(settings: Settings) -> str:
    lines = []
    for item in fields(settings):
        value = getattr(settings, item.name)
        shown = repr(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
        lines.append(f"    {f'{item.name}={shown},':<{_COMMENT_COLUMN}}  # {item.metadata['help']}")
    return "\n".join(lines)
