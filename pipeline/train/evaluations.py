"""The evaluations and pictures of a session: when the loop asks for one, in the time that is left, and into the logs.

evaluations = Evaluations(config, machine, parts, session, watchdog, store, monitor, history)
evaluations.evaluate(); evaluations.show_pictures()
"""

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import RunConfig
from pipeline.train.history import History
from pipeline.train.machine import Machine
from pipeline.train.parts import Parts
from pipeline.train.session import Session
from pipeline.train.validation import Validation
from pipeline.train.watchdog import Watchdog

if TYPE_CHECKING:
    from pipeline.train.monitor import Monitor

__all__ = ["Evaluations"]


class Evaluations:
    """Evaluates the network as it is; all processes must ask alike, as each has its part.

    Attributes:
        slowest_seconds: Of the evaluations of this session; 0 before the first.
    """

    def __init__(
        self,
        config: RunConfig,
        machine: Machine,
        parts: Parts,
        session: Session,
        watchdog: Watchdog,
        store: CheckpointStore,
        monitor: "Monitor | None",
        history: History,
    ) -> None:
        """Take what the loop has; only the main process has a monitor.

        Raises:
            DataError: The validation set cannot be read.
        """
        self.slowest_seconds = 0.0
        self._parts = parts
        self._session = session
        self._watchdog = watchdog
        self._store = store
        self._monitor = monitor
        self._history = history
        self._fetch_seconds = 60 * config.data.retry_minutes
        self._validation = Validation(config, machine, parts.result)

    @property
    def are_owed(self) -> bool:
        """Whether the last step has not been evaluated."""
        return self._validation.has_data and not self._history.is_evaluated

    def evaluate(self) -> None:
        """Evaluate the network after the last step; leaves no figures when it was asked to stop meanwhile."""
        if not self._validation.has_data:
            return
        history = self._history
        self._parts.settle(history.step)
        self._progress(f"step {history.step}, to evaluate it")
        begin = time.monotonic()
        evaluation = self._validation.evaluate(self._stops_between_pictures, self._interruptible)
        seconds = time.monotonic() - begin
        self.slowest_seconds = max(self.slowest_seconds, seconds)
        if evaluation is None:
            return
        history.evaluated(evaluation.figures)
        if self._monitor is not None:
            best = {} if history.best is None else {"val/best_whdr": history.best["val/whdr"]}
            figures = {**evaluation.figures, **best, "perf/evaluation_s": seconds}
            self._monitor.evaluation(figures, evaluation.histograms, history.step)

    def show_pictures(self) -> None:
        """Put pictures of the fixed validation samples into the logs."""
        if not self._validation.has_data:
            return
        self._parts.settle(self._history.step)
        if self._monitor is None:
            return
        self._progress(f"step {self._history.step}, to show pictures")
        pictures = self._validation.pictures(self._stops_between_pictures)
        if pictures is not None:
            self._monitor.pictures(pictures, self._history.step)

    def _interruptible(self) -> AbstractContextManager[None]:
        return self._session.interruptible(self._store.slowest_save_seconds)

    def _stops_between_pictures(self) -> bool:
        """Asked before each picture of an evaluation or a grid, of which what is left is given up then."""
        self._progress(f"a picture after step {self._history.step}")
        return self._session.stop_reason(self._store.slowest_save_seconds) is not None

    def _progress(self, what: str) -> None:
        """Tell the watchdog what is done, and that what comes next may take as long as a fetch is tried."""
        self._watchdog.progress(what, leave_seconds=self._fetch_seconds)
