"""What a person sees of a run: step lines, `metrics.jsonl`, TensorBoard, pictures and, if asked, `samples.jsonl`.

docs/tensorboard.md lists the tags.

with Monitor(run_dir, config.monitor, total_steps=1200, resume_step=0) as monitor:
    monitor.step(record)

Only the main process has one. Nothing that fails to be written here ends a run: it is said once, and tried again.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from pipeline.train.config import MonitorConfig
from pipeline.train.dashboard import FINAL_METRICS, FIRST_COLUMNS, LAYOUT, as_text, columns
from pipeline.train.histograms import Histogram
from pipeline.train.metrics_log import MetricsLog
from pipeline.train.progress import StepRecord, format_step_line
from pipeline.train.samples_log import ConsumedSample, SamplesLog
from pipeline.train.tensorboard import TensorBoardLog

__all__ = ["METRICS_NAME", "PICTURE_NAME", "SAMPLES_NAME", "TENSORBOARD_NAME", "Monitor"]

METRICS_NAME = "metrics.jsonl"
PICTURE_NAME = "pictures/latest.jpg"
PICTURE_TAG = "val/pictures"
"""Of the pictures by tag, the one whose latest is a file in the run folder."""
SAMPLES_NAME = "samples.jsonl"
TENSORBOARD_NAME = "tb"

REOPEN_SECONDS = 30.0
"""Between two tries to open a log that could not be opened."""

logger = logging.getLogger("depthrank")


class Monitor:
    """Shows and stores the figures of one session."""

    def __init__(self, run_dir: Path, config: MonitorConfig, *, total_steps: int, resume_step: int) -> None:
        """Continue the logs of the run in `run_dir` after `resume_step`, 0 for a new run."""
        self._run_dir = run_dir
        self._failed: set[str] = set()
        self._config = config
        self._total_steps = total_steps
        self._resume_step = resume_step
        self._metrics: MetricsLog | None = None
        self._samples: SamplesLog | None = None
        self._tensorboard: TensorBoardLog | None = None
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._next_opening = 0.0
        self.session, self._reached_step = 1, 0
        self._open_missing()
        if self._reached_step > resume_step:
            logger.info(
                "steps %d–%d are done again, with the same samples: an earlier session had come so far when it ended",
                resume_step + 1,
                self._reached_step,
            )
        # Anywhere but on a terminal a bar is noise: the step lines say the same.
        self._bar = tqdm(
            total=total_steps, initial=resume_step, unit="step", leave=False, disable=not sys.stderr.isatty()
        )
        self._redirect = logging_redirect_tqdm() if not self._bar.disable else None

    def __enter__(self) -> Self:
        if self._redirect is not None:
            self._redirect.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._redirect is not None:
            self._redirect.__exit__(kind, error, trace)
        for log in (self._metrics, self._samples, self._tensorboard):
            if log is not None:
                log.close()

    def tick(self) -> None:
        """A step is done; moves the bar on a terminal."""
        self._bar.update()

    def step(self, record: StepRecord) -> None:
        """Print the step line and store its figures."""
        logger.info(format_step_line(record))
        self._store(record.scalars(), record.step, samples_seen=record.samples_seen)

    def samples(self, step: int, samples: Iterable[ConsumedSample]) -> None:
        """Store what a step consumed, where the config asks for it."""
        self._open_missing()
        if self._samples is not None:
            with self._forgiving(SAMPLES_NAME):
                self._samples.write(step, samples, again=step <= self._reached_step)

    def evaluation(self, figures: Mapping[str, float], histograms: Mapping[str, Histogram], step: int) -> None:
        """Print and store figures of an evaluation, by tag; histograms go to TensorBoard only."""
        shown = (
            f"{tag} {value:.0f}" if float(value).is_integer() else f"{tag} {value:.4f}"
            for tag, value in figures.items()
        )
        logger.info("step %d: %s", step, ", ".join(shown))
        self._store(figures, step)
        if self._tensorboard is not None:
            with self._forgiving(TENSORBOARD_NAME):
                for tag, histogram in histograms.items():
                    self._tensorboard.histogram(tag, histogram, step)

    def pictures(self, pictures: Mapping[str, NDArray[np.uint8]], step: int) -> None:
        """Store pictures (H, W, 3) by tag in TensorBoard; the run folder keeps the latest grid."""
        for tag, picture in pictures.items():
            encoded = BytesIO()
            Image.fromarray(picture).save(encoded, format="JPEG", quality=88)
            if tag == PICTURE_TAG:
                self._keep_picture(encoded.getvalue())
            if self._tensorboard is not None:
                with self._forgiving(TENSORBOARD_NAME):
                    self._tensorboard.picture(tag, encoded.getvalue(), picture.shape[:2], step)

    def describe(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Put the settings, the environment and the layout of the charts beside the curves."""
        self._facts = {"config": config, "environment": environment}
        self._write_facts()

    def complete(self) -> None:
        """The run has done all its steps, and all that belongs to them is stored."""
        if self._tensorboard is not None:
            with self._forgiving(TENSORBOARD_NAME):
                self._tensorboard.complete(self._total_steps)

    def _keep_picture(self, jpeg: bytes) -> None:
        with self._forgiving(PICTURE_NAME):
            path = self._run_dir / PICTURE_NAME
            path.parent.mkdir(exist_ok=True)
            partial = path.with_name(f".{path.name}.tmp")
            partial.write_bytes(jpeg)
            partial.replace(path)

    def _write_facts(self) -> None:
        """Write what a run has once; at its last step, where the next session replaces it."""
        # A session that begins at the last step replaces nothing, so the one before has written it.
        if self._tensorboard is None or not self._facts or self._resume_step == self._total_steps:
            return
        with self._forgiving(TENSORBOARD_NAME):
            for tag, facts in self._facts.items():
                self._tensorboard.text(tag, as_text(facts), self._total_steps)
            self._tensorboard.layout(LAYOUT, self._total_steps)
            settings = columns(self._facts["config"])
            self._tensorboard.settings_table(settings, FIRST_COLUMNS, FINAL_METRICS, self._total_steps)

    def _open_missing(self) -> None:
        """Open what is not open yet; a disk may have been full at the start. Rarely: a long log is read for it."""
        if time.monotonic() < self._next_opening:
            return
        self._next_opening = time.monotonic() + REOPEN_SECONDS
        if self._metrics is None:
            with self._forgiving(METRICS_NAME):
                self._metrics = MetricsLog(self._run_dir / METRICS_NAME, resume_step=self._resume_step)
                self._tell_damage(METRICS_NAME, self._metrics.damaged_lines)
        if self._config.log_samples and self._samples is None:
            with self._forgiving(SAMPLES_NAME):
                self._samples = SamplesLog(self._run_dir / SAMPLES_NAME)
                self._tell_damage(SAMPLES_NAME, self._samples.damaged_lines)
        self._count_sessions()
        if self._config.tensorboard and self._tensorboard is None:
            # The step that was resumed from is done and keeps its figures.
            purge_step = self._resume_step + 1 if self._resume_step else 0
            with self._forgiving(TENSORBOARD_NAME):
                self._tensorboard = TensorBoardLog(
                    self._run_dir / TENSORBOARD_NAME, session=self.session, purge_step=purge_step
                )
            self._write_facts()

    def _count_sessions(self) -> None:
        """Number this session by all that is left of earlier ones."""
        logs = [log for log in (self._metrics, self._samples) if log is not None]
        self.session = max([self.session, *(log.session for log in logs)])
        self._reached_step = max([self._reached_step, *(log.reached_step for log in logs)])
        for log in logs:
            log.session = self.session

    def _tell_damage(self, name: str, lines: int) -> None:
        if lines:
            logger.warning("%s: %d line(s) cannot be read and do not count", self._run_dir / name, lines)

    def _store(self, figures: Mapping[str, float], step: int, **facts: int) -> None:
        self._open_missing()
        if self._metrics is not None:
            with self._forgiving(METRICS_NAME):
                self._metrics.write({"step": step, **facts, **figures})
        if self._tensorboard is not None:
            with self._forgiving(TENSORBOARD_NAME):
                self._tensorboard.scalars(figures, step)

    def _forgiving(self, name: str) -> "_Forgiving":
        return _Forgiving(lambda error: self._warn_once(name, error))

    def _warn_once(self, name: str, error: OSError) -> None:
        if name not in self._failed:
            self._failed.add(name)
            logger.warning(
                "%s: cannot be read or written (%s); the run goes on, and what is not written is lost",
                self._run_dir / name,
                error.strerror or error,
            )


class _Forgiving:
    """Hands an OSError to `report` instead of raising it."""

    def __init__(self, report: Callable[[OSError], None]) -> None:
        self._report = report

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, OSError):
            self._report(error)
            return True
        return False
