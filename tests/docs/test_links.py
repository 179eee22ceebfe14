"""Links within the project lead somewhere, and so do their anchors; pictures are there."""

from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from .markdown import ROOT, anchors, links, pages

PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}


def wrong_links(page: Path) -> list[str]:
    wrong = []
    for line, target in links(page):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = unquote(target).partition("#")
        path = (page.parent / name).resolve() if name else page
        here = f"{page.name}:{line}: {target}"
        if name.startswith("/") or not path.is_relative_to(ROOT):
            wrong.append(f"{here}: leads out of the project")
        elif not path.exists():
            wrong.append(f"{here}: no such file")
        elif anchor and path.suffix in {".md", ".txt"} and anchor not in anchors(path):
            wrong.append(f"{here}: no such heading; there are {', '.join(sorted(anchors(path)))}")
    return wrong


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not (wrong := wrong_links(page)), "\n".join(wrong)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_pictures_can_be_shown(page: Path) -> None:
    for _, target in links(page):
        path = page.parent / unquote(target).partition("#")[0]
        if "://" not in target and path.suffix.lower() in PICTURES:
            with Image.open(path) as picture:
                picture.load()


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / target.partition("#")[0]).resolve() for _, target in links(index) if "://" not in target}
    absent = [path.name for path in pages() if path.parent == index.parent and path != index and path not in listed]
    assert not absent, f"docs/README.md does not list {', '.join(absent)}"


def test_a_broken_link_is_found() -> None:
    wrong = wrong_links(ROOT / "tests" / "docs" / "links.txt")
    assert [problem.split(": ")[1] for problem in wrong] == ["none.md", "#none", "none.png"]
