"""The loop of a run: next batch, forward and backward, step, log, evaluate, save, stop?

reason = TrainingLoop(...).run()        # why it stopped early, or None: it is complete
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from model import DepthNet
from pipeline.data.loader import Batch, TrainStream
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import RunConfig
from pipeline.train.evaluations import Evaluations
from pipeline.train.history import History
from pipeline.train.machine import Machine
from pipeline.train.parts import Parts
from pipeline.train.progress import Pace, StepRecord, Stopwatch
from pipeline.train.provenance import settings_to_keep
from pipeline.train.samples_log import in_slot_order, own_samples
from pipeline.train.schedule import is_due, learning_rate
from pipeline.train.session import Interrupted, Session, agree, agree_to_stop
from pipeline.train.step import StepFigures
from pipeline.train.watchdog import Watchdog
from shards.errors import DataError

if TYPE_CHECKING:
    from pipeline.train.monitor import Monitor

__all__ = ["TrainingLoop"]


class TrainingLoop:
    """One session of a run, in one of its processes; only the main one has a monitor and uses the store.

    Attributes:
        history: Where the run stands.
        total_steps: Length of the run.
        first_step: Step at which this session began, that of the checkpoint it resumed from; 0 for a new run.
        on_progress: Called on the main process after each step line and each save.
    """

    def __init__(
        self,
        config: RunConfig,
        machine: Machine,
        parts: Parts,
        stream: TrainStream,
        session: Session,
        watchdog: Watchdog,
        store: CheckpointStore,
        monitor: "Monitor | None",
        *,
        history: History,
        total_steps: int,
        threads: int,
    ) -> None:
        """Take parts that are built and restored to the state after step `history.step`."""
        self.history = history
        self.total_steps = total_steps
        self.first_step = self._saved_step = history.step
        self.on_progress: Callable[[], None] = _nothing
        self._config = config
        self._machine = machine
        self._parts = parts
        self._stream = stream
        self._session = session
        self._watchdog = watchdog
        self._store = store
        self._monitor = monitor
        self._threads = threads
        self._evaluations = Evaluations(config, machine, parts, session, watchdog, store, monitor, history)
        self._watch = Stopwatch()
        self._begin = time.monotonic()
        sums = history.loss_sums or (0.0,) * len(parts.loss.terms)
        self._loss_sums = torch.tensor(sums, dtype=torch.float64, device=machine.device)

    def run(self) -> str | None:
        """Train to the end, or until something asks to stop.

        Returns:
            Why it stopped early, saved and in order; None when the last step and its evaluation are done.

        Raises:
            DivergedError: Loss or gradients are not finite; nothing is saved then.
            DataError: A sample cannot be read.
            Interrupted: This process, the only one, was asked to stop in the first step of the session, which loses
                nothing.
        """
        step, total, config = self.history.step, self.total_steps, self._config
        batches = self._stream.steps(step)
        reason = self._stop_reason()
        while step < total and reason is None:
            with self._watch.waiting():
                micro_batches = self._next_batches(batches)
            if micro_batches is None:
                reason = self._stop_reason()
                self._save()
                break
            lr = learning_rate(step, total, config.optim)
            step += 1
            is_logged = is_due(step, config.monitor.log_every_steps, total)
            with_norms = is_logged and self._monitor is not None
            with self._loses_nothing(step):
                figures = self._parts.optimizer_step.run(micro_batches, lr, step, with_norms=with_norms)
            self._watch.step_done()
            self.history.step = step
            self._watchdog.progress(f"step {step}")
            self._count(figures)
            self._note_samples(micro_batches)
            del micro_batches  # their memory serves the next ones
            if is_logged:
                self._log(figures, lr)
            if is_due(step, config.monitor.eval_every_steps, total):
                self._evaluations.evaluate()
            if is_due(step, config.monitor.image_every_steps or config.monitor.eval_every_steps, total):
                self._evaluations.show_pictures()
            reason, owes_save = self._agree_after_step()
            if reason is not None or is_due(step, config.checkpoint.every_steps, total) or owes_save:
                self._save()
        while step == total and self._evaluations.are_owed and reason is None:
            # An earlier session was stopped during the evaluation of the last step.
            self._evaluations.evaluate()
            reason = self._stop_reason()
        if step < total or self._evaluations.are_owed:
            return reason
        if self._monitor is not None:
            self._monitor.complete()
        return None

    @property
    def net(self) -> DepthNet:
        """What the run is for: the network that is evaluated and exported."""
        return self._parts.result

    @property
    def samples_seen(self) -> int:
        """Samples taken from the stream so far."""
        return self.history.step * self._config.train.batch_size

    def results(self) -> dict[str, Any]:
        """Figures of the run, as JSON values."""
        return {
            "step": self.history.step,
            "samples_seen": self.samples_seen,
            "hours": self.hours,
            "latest": self.history.latest,
            "best": self.history.best,
        }

    @property
    def hours(self) -> float:
        """Hours of training in all sessions."""
        return self.history.hours + (time.monotonic() - self._begin) / 3600

    def _next_batches(self, batches: Iterator[list[Batch]]) -> list[Batch] | None:
        """This process's part of the next step; None where some process was asked to stop while it waited.

        What one process cannot read ends all of them with its message.
        """
        micro_batches: list[Batch] = []
        said: list[str] = []
        was_asked = False
        # What comes next may take as long as a fetch is tried.
        self._watchdog.progress(f"step {self.history.step}", leave_seconds=60 * self._config.data.retry_minutes)
        try:
            with self._session.interruptible(self._reserve_seconds):
                micro_batches = next(batches)
        except DataError as error:
            said = [str(error)]
        except Interrupted:
            was_asked = True
        failed, stopped = self._machine.gather_max([float(bool(said)), float(was_asked)])
        if failed:
            raise DataError(self._machine.gather_lists(said)[0])
        return None if stopped else micro_batches

    def _loses_nothing(self, step: int) -> AbstractContextManager[None]:
        """Around the first step of a session, in which networks are compiled for minutes.

        Not with several processes: the one that left would leave the others in a step that nobody else takes part in.
        """
        is_first = step == self.first_step + 1
        return self._session.interruptible() if is_first and self._machine.world_size == 1 else nullcontext()

    def _stop_reason(self) -> str | None:
        """The same on all processes."""
        return agree_to_stop(self._session.stop_reason(self._reserve_seconds), self._machine.cpu_group)

    def _agree_after_step(self) -> tuple[str | None, bool]:
        """The stop reason, and whether a save has failed and it is time to try again: the same on all processes."""
        reason = self._session.stop_reason(self._reserve_seconds)
        return agree(reason, self._store.wants_retry(), self._machine.cpu_group)

    @property
    def _reserve_seconds(self) -> float:
        """Time for the slowest evaluation and save seen so far."""
        return self._evaluations.slowest_seconds + self._store.slowest_save_seconds

    def _count(self, figures: StepFigures | None) -> None:
        if figures is not None and figures.applied:
            self._loss_sums += figures.terms
            self.history.loss_steps += 1
        if self._monitor is not None:
            self._monitor.tick()

    def _note_samples(self, micro_batches: list[Batch]) -> None:
        """Tell the monitor what the step consumed on all processes."""
        if self._config.monitor.log_samples:
            texts = self._machine.gather_lists(own_samples(micro_batches))
            if self._monitor is not None:
                self._monitor.samples(self.history.step, in_slot_order(texts, self._stream.locate))

    def _log(self, figures: StepFigures | None, lr: float) -> None:
        self._parts.optimizer_step.settle()
        terms = _by_name(self._parts.loss.terms, self._loss_sums.tolist(), self.history.loss_steps)
        self._loss_sums.zero_()
        self.history.loss_steps = 0
        lap, overall = self._watch.lap(), self._watch.overall
        seconds, wait_share, overall_seconds = self._machine.gather_max(
            [_per_step(lap), lap.wait_seconds / lap.seconds if lap.steps else 0.0, _per_step(overall)]
        )
        (fetched_gb,) = self._machine.gather_sum([self._stream.fetched_bytes / 1e9])
        if self._monitor is None:
            return
        step, batch_size = self.history.step, self._config.train.batch_size
        scaler, optimizer_step = self._machine.accelerator.scaler, self._parts.optimizer_step
        self._monitor.step(
            StepRecord(
                step=step,
                total_steps=self.total_steps,
                samples_seen=self.samples_seen,
                loss=sum(terms.values()),
                loss_terms=terms,
                lr=lr,
                grad_norm=float("nan") if figures is None else float(figures.grad_norm),
                images_per_s=batch_size / seconds if seconds else None,
                data_wait_share=wait_share if seconds else None,
                eta_seconds=(self.total_steps - step) * overall_seconds if overall_seconds else None,
                hours_left=self._session.hours_left,
                memory_gib=_peak_memory_gib(self._machine.device),
                empty_steps=optimizer_step.empty_steps,
                overflowed_steps=optimizer_step.overflowed_steps,
                replaced_samples=optimizer_step.replaced_samples,
                param_norm=_number(figures and figures.param_norm),
                update_norm=_number(figures and figures.update_norm),
                clipped_steps=optimizer_step.clipped_steps if self._config.optim.clip_grad_norm else None,
                fetched_gb=fetched_gb or None,
                loss_scale=None if scaler is None else scaler.get_scale(),
            )
        )
        self.on_progress()

    def _save(self) -> None:
        """Save from the main process; all take part, as each has random generators of its own."""
        if self._saved_step == self.history.step:
            return
        self._parts.settle(self.history.step)
        state = self._state()
        self._saved_step = self.history.step
        if not self._machine.is_main:
            return
        self._watchdog.progress(f"step {self.history.step}, to save it")
        self._store.save(
            self.history.step,
            self._parts.tensors(),
            state,
            metric=self.history.latest.get("val/whdr") if self.history.is_evaluated else None,
        )
        self.on_progress()

    def _state(self) -> dict[str, Any]:
        """What a resume needs besides tensors, as JSON values; all processes must call it."""
        machine, history = self._machine, self.history
        return {
            "samples_seen": self.samples_seen,
            "order": self._stream.identity,
            "config": settings_to_keep(self._config),
            "world_size": machine.world_size,
            "device": machine.device.type,
            "threads": self._threads,
            "hours": self.hours,
            "best": history.best,
            "latest": history.latest,
            "loss_sums": self._loss_sums.tolist(),
            "loss_steps": history.loss_steps,
            **self._parts.state(),
        }


def _nothing() -> None:
    """Nobody listens."""


def _by_name(names: Sequence[str], sums: Sequence[float], steps: int) -> dict[str, float]:
    """Mean of each term over the steps, terms of one name (scales of the gradient term) added; NaN without steps."""
    means: dict[str, float] = {}
    for name, total in zip(names, sums, strict=True):
        means[name] = means.get(name, 0.0) + (total / steps if steps else float("nan"))
    return means


def _number(value: torch.Tensor | None) -> float | None:
    return None if value is None else float(value)


def _per_step(pace: Pace) -> float:
    """Seconds; 0 where nothing was measured."""
    return pace.seconds / pace.steps if pace.steps else 0.0


def _peak_memory_gib(device: torch.device) -> float | None:
    return torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else None
