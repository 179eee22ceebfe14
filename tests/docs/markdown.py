"""The parts of a Markdown page that can be checked: blocks of code, code within a line, links, headings.

for block in blocks(Path("README.md")):
    print(block.where, block.language, block.marks)

A comment before a block marks it for the tests: `<!-- test: run -->`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_OURS = {"runs", "build", "dist", "node_modules", "shared"}

_FENCE = re.compile(r"^( *)(`{3,}|~{3,})\s*([\w+-]*)")
_MARK = re.compile(r"^\s*<!--\s*test:\s*(.*?)\s*-->\s*$")
_LINK = re.compile(r"(?<!\\)\[[^\]\[]*(?:\[[^\]]*\][^\]\[]*)*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HTML_LINK = re.compile(r"""<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=["']([^"']+)["']""")
_INLINE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code: fenced, or indented by four spaces (its language is then empty)."""

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every Markdown page of the project."""
    found = [
        path
        for path in ROOT.rglob("*.md")
        if not NOT_OURS & set(path.relative_to(ROOT).parts)
        and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    return sorted(found)


def blocks(page: Path) -> list[Block]:
    """The blocks of code of a page, in order."""
    return _split(page)[0]


def prose(page: Path) -> list[tuple[int, str]]:
    """Paragraphs outside blocks of code, with the line on which each begins."""
    return _split(page)[1]


def inline_code(page: Path) -> list[tuple[int, str]]:
    """Code within paragraphs, with the line of its paragraph."""
    return [(line, " ".join(match.group(2).split())) for line, text in prose(page) for match in _INLINE.finditer(text)]


def links(page: Path) -> list[tuple[int, str]]:
    """Targets of links and pictures, with the line of their paragraph."""
    found = []
    for line, text in prose(page):
        without_code = _INLINE.sub("", text)
        found += [(line, match.group(1)) for match in _LINK.finditer(without_code)]
        found += [(line, match.group(1)) for match in _HTML_LINK.finditer(without_code)]
    return found


def anchors(page: Path) -> set[str]:
    """The anchors that a forge gives to the headings of a page."""
    found: dict[str, int] = {}
    for _, text in prose(page):
        for line in text.splitlines():
            heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
            if heading:
                words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1)).lower()
                slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
                number = found[slug] = found.get(slug, -1) + 1
                if number:
                    found[f"{slug}-{number}"] = 0
    explicit = {name for _, text in prose(page) for name in re.findall(r"""<a\s+(?:name|id)=["']([^"']+)["']""", text)}
    return set(found) | explicit


def _split(page: Path) -> tuple[list[Block], list[tuple[int, str]]]:
    """Blocks and paragraphs of a page."""
    found: list[Block] = []
    paragraphs: list[tuple[int, str]] = []
    marks: list[str] = []
    gathered: list[str] = []
    start = 0
    kind = "text"  # or "fence" or "indented"
    fence = ("", "", "")

    def end_paragraph() -> None:
        if any(line.strip() for line in gathered):
            paragraphs.append((start, "\n".join(gathered)))
        gathered.clear()

    def end_block(language: str) -> None:
        text = "\n".join(gathered).rstrip() + "\n"
        found.append(Block(page, start, language, text, tuple(marks)))
        gathered.clear()
        marks.clear()

    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        opened = _FENCE.match(line)
        if kind == "fence":
            if opened and line.strip().startswith(fence[1]) and not line.strip().strip(fence[1][0]):
                end_block(fence[2])
                kind = "text"
            else:
                gathered.append(line.removeprefix(fence[0]))
            continue
        if kind == "indented":
            if line.startswith("    ") or not line.strip():
                gathered.append(line[4:])
                continue
            end_block("")
            kind = "text"
        if opened:
            end_paragraph()
            fence = (opened.group(1), opened.group(2), opened.group(3).lower())
            kind, start = "fence", number + 1
        elif line.startswith("    ") and line.strip() and not gathered:
            kind, start = "indented", number
            gathered.append(line[4:])
        elif mark := _MARK.match(line):
            end_paragraph()
            marks.append(mark.group(1))
        elif not line.strip():
            end_paragraph()
        else:
            if not gathered:
                start = number
                marks.clear()
            gathered.append(line)
    if kind == "indented":
        end_block("")
    assert kind != "fence", f"{page}: a block of code is not closed"
    end_paragraph()
    return found, paragraphs
