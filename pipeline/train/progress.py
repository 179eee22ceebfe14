"""How fast a run goes and how long it takes: the stopwatch and the step line.

print(format_step_line(StepRecord(step=150, total_steps=1200, ...)))
# step 150/1200 | loss 0.4312 | lr 9.6e-05 | grad 1.32 | 21.4 img/s | data 3.1% | ETA 0:41:12 | budget left 10.2 h
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

__all__ = ["Pace", "StepRecord", "Stopwatch", "format_step_line"]

WARM_UP_SECONDS = 5.0
"""Workers, allocators and autotuning are still starting; steps begun before this say nothing about the run's pace."""


@dataclass(frozen=True)
class Pace:
    """Time that steps took; evaluation and saving are not in it."""

    steps: int
    seconds: float
    wait_seconds: float
    """The part spent waiting for data."""


class Stopwatch:
    """Adds up the time of steps, apart from those of the warm-up."""

    def __init__(
        self, *, warm_up_seconds: float = WARM_UP_SECONDS, now: Callable[[], float] = time.perf_counter
    ) -> None:
        """Start now."""
        self._now = now
        self._warm_until = now() + warm_up_seconds
        self._step_begin = 0.0
        self._step_wait = 0.0
        self._is_first = True
        self._since_lap = Pace(0, 0.0, 0.0)
        self.overall = self._since_lap

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for the next batch, with which a step begins."""
        self._step_begin = self._now()
        yield
        self._step_wait = self._now() - self._step_begin

    def step_done(self) -> None:
        """A step has ended."""
        warm = not self._is_first and self._step_begin >= self._warm_until
        self._is_first = False
        if warm:
            seconds = self._now() - self._step_begin
            self._since_lap = _add(self._since_lap, seconds, self._step_wait)
            self.overall = _add(self.overall, seconds, self._step_wait)

    def lap(self) -> Pace:
        """Pace since the last lap; `overall` has that since the start."""
        lap, self._since_lap = self._since_lap, Pace(0, 0.0, 0.0)
        return lap


@dataclass(frozen=True)
class StepRecord:
    """What a step line shows. None: not known yet, or not there."""

    step: int
    """Updates done."""
    total_steps: int
    samples_seen: int
    loss: float
    """Mean over the steps since the last line."""
    lr: float
    grad_norm: float
    """l2 norm before clipping, of the last step."""
    images_per_s: float | None
    """Over all processes."""
    data_wait_share: float | None
    """Share of the time spent waiting for data, of the slowest process."""
    eta_seconds: float | None
    hours_left: float | None
    """Of this session's budget."""
    memory_gib: float | None = None
    """Largest GPU memory in use so far."""
    empty_steps: int = 0
    overflowed_steps: int = 0
    replaced_samples: int = 0
    """Samples that stood in for unreadable ones."""
    loss_terms: Mapping[str, float] = field(default_factory=dict)
    """What each term adds to the loss."""
    param_norm: float | None = None
    """l2 norm of all trained parameters."""
    update_norm: float | None = None
    """l2 norm of what the last step changed in them; a thousandth of `param_norm` or so is common."""
    clipped_steps: int | None = None
    """Steps whose gradient was shortened."""
    fetched_gb: float | None = None
    """What this session's processes have fetched from remote stores."""
    loss_scale: float | None = None
    """fp16: factor of the loss; halved at each overflow."""

    def scalars(self) -> dict[str, float]:
        """Figures by their tags in TensorBoard and `metrics.jsonl`."""
        known = {
            "train/loss": self.loss,
            "train/lr": self.lr,
            "health/grad_norm": self.grad_norm,
            "health/param_norm": self.param_norm,
            "health/update_norm": self.update_norm,
            "health/loss_scale": self.loss_scale,
            "health/clipped_steps": self.clipped_steps,
            "health/empty_steps": self.empty_steps,
            "health/overflowed_steps": self.overflowed_steps,
            "health/replaced_samples": self.replaced_samples,
            "perf/images_per_s": self.images_per_s,
            "perf/data_wait": self.data_wait_share,
            "perf/memory_gib": self.memory_gib,
            "perf/fetched_gb": self.fetched_gb,
        }
        if len(self.loss_terms) > 1:
            known |= {f"train/loss_{name}": value for name, value in self.loss_terms.items()}
        return {tag: value for tag, value in known.items() if value is not None}


def format_step_line(record: StepRecord) -> str:
    """One line that answers: how far, how good, how fast, how long."""
    parts = [
        f"step {record.step}/{record.total_steps}",
        f"loss {_number(record.loss, '.4f')}",
        f"lr {record.lr:.1e}",
        f"grad {_number(record.grad_norm, '.3g')}",
        f"{_number(record.images_per_s, '.1f')} img/s",
        f"data {_number(record.data_wait_share, '.1%')}",
        f"ETA {'-' if record.eta_seconds is None else timedelta(seconds=round(record.eta_seconds))}",
    ]
    if record.memory_gib is not None:
        parts.append(f"GPU {record.memory_gib:.1f} GiB")
    if record.hours_left is not None:
        parts.append(f"budget left {record.hours_left:.1f} h")
    if record.empty_steps:
        parts.append(f"{record.empty_steps} steps without pairs")
    if record.overflowed_steps:
        parts.append(f"{record.overflowed_steps} steps overflowed")
    if record.replaced_samples:
        parts.append(f"{record.replaced_samples} samples replaced")
    return " | ".join(parts)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


def _add(pace: Pace, seconds: float, wait_seconds: float) -> Pace:
    return Pace(pace.steps + 1, pace.seconds + seconds, pace.wait_seconds + wait_seconds)
