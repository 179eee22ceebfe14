"""What every benchmark says in the end: figures beside their references, a row each, that two runs can be compared by.

Row("loader: stream", 71.0, "pictures/s", "decoding the JPEGs only", 372.0, "higher").ratio
"""

from typing import Any, Literal, NamedTuple, Self

__all__ = ["Row", "table"]


class Row(NamedTuple):
    """A figure and the reference that was measured beside it, in the same run."""

    name: str
    value: float
    unit: str
    reference: str
    """What it is held against: a peer's way, or the floor that the machine sets."""
    reference_value: float
    """In the same unit."""
    better: Literal["higher", "lower"]
    """Which way the ratio should go."""

    @property
    def ratio(self) -> float:
        """The figure beside its reference; of a reference that is zero, infinite or, where both are, 1."""
        if self.reference_value:
            return self.value / self.reference_value
        return float("inf") if self.value else 1.0

    def as_json(self) -> dict[str, Any]:
        """As it is stored; numbers keep five digits."""
        block = {**self._asdict(), "ratio": self.ratio}
        return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in block.items()}

    @classmethod
    def from_json(cls, block: dict[str, Any]) -> Self:
        """What `as_json` wrote."""
        return cls(**{name: block[name] for name in cls._fields})


def table(rows: list[Row]) -> str:
    """All rows as Markdown."""
    lines = ["| | | beside | | ratio | better |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.value:.4g} {row.unit} | {row.reference} | {row.reference_value:.4g} | "
        f"{row.ratio:.3g} | {row.better} |"
        for row in rows
    ]
    return "\n".join(lines)
