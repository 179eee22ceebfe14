"""What a run carries from session to session besides weights and optimizer.

history = History.from_state(found.state)
history.evaluated({"val/whdr": 0.21})
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["History"]


@dataclass
class History:
    """Where a run stands."""

    step: int = 0
    """Updates done."""
    hours: float = 0.0
    """Spent in earlier sessions."""
    best: dict[str, float] | None = None
    """Figures and `step` of the best evaluation so far."""
    latest: dict[str, float] = field(default_factory=dict)
    """Figures and `step` of the latest evaluation."""
    loss_sums: tuple[float, ...] = ()
    """Each term of the loss, summed over the steps since the last step line; empty before the first."""
    loss_steps: int = 0
    """How many steps those are."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What a checkpoint's state says."""
        names = ("step", "hours", "best", "latest", "loss_steps")
        return cls(**{name: state[name] for name in names}, loss_sums=tuple(state["loss_sums"]))

    @property
    def is_evaluated(self) -> bool:
        """Whether the latest evaluation is of the last step."""
        return self.latest.get("step") == self.step

    def evaluated(self, figures: Mapping[str, float]) -> None:
        """Take the figures of an evaluation of the last step."""
        self.latest = {**figures, "step": self.step}
        best = float("inf") if self.best is None else self.best["val/whdr"]
        if figures.get("val/whdr", float("inf")) < best:
            self.best = self.latest
