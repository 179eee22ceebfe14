"""Plain-text tables for a terminal or a log.

print(format_table(["method", "nyu"], [["lower is nearer", "45.1"]]))
"""

from collections.abc import Sequence

__all__ = ["format_percent", "format_table"]


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns, the first to the left and the others to the right, with a rule below the headings."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    text = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(text)


def format_percent(value: float) -> str:
    """One decimal; `-` where there is no figure (NaN)."""
    return f"{value:.1f}" if value == value else "-"
