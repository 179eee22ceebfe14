"""docs/configuration.md is what the schema says today."""

import pytest
from pydantic import Field

from launch.config.manual import manual
from launch.config.schema import keys
from launch.recipe import Recipe
from launch.reference import main, page
from model.config import Section
from shards.errors import ConfigError

from .markdown import ROOT


def test_the_page_is_current():
    assert (ROOT / "docs/configuration.md").read_text() == page(), "write it anew: make reference"


def test_every_setting_is_on_the_page():
    text = page()
    sections = {key.rpartition(".")[0] for key in keys(Recipe)} | {"source", "data", "train"}
    absent = [key for key in keys(Recipe) if key not in sections and f"| `{key}` |" not in text]
    assert absent == ["source.kind"]  # the headings of its kinds say it


def test_every_setting_is_explained():
    unexplained = [line for line in page().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert unexplained == []


def test_a_row_tells_default_values_and_meaning():
    class Inner(Section):
        """Inner words."""

        size: int | None = Field(3, ge=1, le=9)
        """A size | in px; None switches it off."""

    class Outer(Section):
        """Outer words."""

        inner: Inner = Inner()

    assert manual(Outer).splitlines() == [
        "## inner",
        "",
        "Inner words.",
        "",
        "| key | default | values | meaning |",
        "|---|---|---|---|",
        "| `inner.size` | `3` | a whole number, ≥ 1, ≤ 9, or `null` | A size \\| in px; `null` switches it off. |",
    ]


def test_the_command_writes_the_page(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == page()
    with pytest.raises(ConfigError, match="cannot write there"):
        main(["--out", str(tmp_path / "none" / "page.md")])
