"""The plan of a run: everything built, one real step taken, nothing written.

print(plan(config))
"""

import math
import os
import time
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from model import DepthNet
from pipeline.data.loader import TrainStream
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import RunConfig
from pipeline.train.determinism import deterministic_algorithms
from pipeline.train.machine import Choice, Machine, device_type, open_machine, set_threads
from pipeline.train.parts import Parts, build_parts
from pipeline.train.resume import announce_start, check_order, find_start, recorded_threads
from pipeline.train.schedule import learning_rate, run_length
from pipeline.train.session import Session
from pipeline.train.trainer import open_stream, run_folder, run_id
from pipeline.train.validation import Validation

__all__ = ["Plan", "giga_macs", "plan"]

CHEAP_SECONDS = 10.0
"""Steps are measured as long as all of them stay below this; the first one, which warms up, does not count."""
MAX_MEASURED_STEPS = 3


@dataclass(frozen=True)
class Plan:
    """What a run would do. Times leave out evaluation and saving."""

    steps: int
    """Optimizer steps of the whole run."""
    start_step: int
    """Steps that are done already."""
    epochs: float
    samples: int
    """Training samples in the dataset."""
    batch: str
    """How the samples of a step are split."""
    parameters: int
    giga_macs: float
    """Of one picture through the network, in billions of multiply-adds."""
    loss: float
    """Of the step that was taken."""
    step_seconds: float
    images_per_s: float
    hours: float
    """Expected for the steps that are left."""
    sessions: int | None
    """How many budgets that is; None without a budget."""
    choices: tuple[Choice, ...]
    """What was decided for the user, and why."""

    def __str__(self) -> str:
        sessions = "" if self.sessions is None else f", {self.sessions} session(s)"
        done = f", {self.start_step} of them done" if self.start_step else ""
        lines = [
            f"plan: {self.steps} steps{done} = {self.epochs:.4g} epochs of {self.samples} samples, {self.batch}",
            f"network: {self.parameters / 1e6:.2f} million weights, {self.giga_macs:.3g} GMAC a picture",
            f"pace: {self.step_seconds:.3g} s a step, {self.images_per_s:.3g} images/s "
            f"-> {self.hours:.3g} h{sessions}, without evaluation and saving (loss of the step taken: {self.loss:.4f})",
            *map(str, self.choices),
        ]
        return "\n".join(lines)


def plan(config: RunConfig) -> Plan:
    """Build the run, take one real step, and say what it will take; the run folder is not touched.

    On several processes all must call it; each gets the plan.

    Raises:
        DepthRankError: As `train`; a run that cannot start is found out here.
    """
    with deterministic_algorithms(config.train.deterministic, device_type(os.environ)):
        return _plan(config)


def _plan(config: RunConfig) -> Plan:
    machine = open_machine(config)
    try:
        store = CheckpointStore(run_folder(config), run_id=run_id(config), config=config.checkpoint)
        found = find_start(config, machine, store)
        threads = set_threads(config.train.threads, recorded_threads(found, machine), machine.local_processes)
        stream = open_stream(config, machine)
        try:
            if found is not None:
                check_order(found, stream.identity)
                if machine.is_main:
                    announce_start(found, config, machine)
            steps = run_length(config.train, config.optim, stream.num_samples)
            parts = build_parts(config, machine, resumes=found is not None)
            if found is not None:
                parts.restore(store.load(found.path))
            start_step = 0 if found is None else found.step
            Validation(config, machine, parts.net)
            step_seconds, loss = _measure(config, machine, parts, stream, start_step, steps)
        finally:
            stream.close()
        hours = max(0, steps - start_step) * step_seconds / 3600
        budget = Session(config.session, run_folder(config))
        max_hours = None if budget.hours_left is None else budget.hours_left + budget.hours
        return Plan(
            steps=steps,
            start_step=start_step,
            epochs=steps * config.train.batch_size / stream.num_samples,
            samples=stream.num_samples,
            batch=_batch_text(config, machine),
            parameters=sum(parameter.numel() for parameter in parts.net.parameters()),
            giga_macs=giga_macs(config),
            loss=loss,
            step_seconds=step_seconds,
            images_per_s=config.train.batch_size / step_seconds,
            hours=hours,
            sessions=None if max_hours is None else max(1, math.ceil(hours / max_hours)),
            choices=(*machine.choices, threads),
        )
    finally:
        machine.close()


def giga_macs(config: RunConfig) -> float:
    """Billions of multiply-adds of one training picture, counted without computing anything."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        net = DepthNet(config.model).eval()
        net(torch.empty(1, 3, *config.train.size))
    return float(counter.get_total_flops()) / 2e9


def _measure(
    config: RunConfig, machine: Machine, parts: Parts, stream: TrainStream, start_step: int, steps: int
) -> tuple[float, float]:
    """Seconds of a step, data included, of the slowest process; and the loss of the first one."""
    batches = stream.steps(start_step)
    seconds: list[float] = []
    loss = float("nan")
    is_cheap = True
    while is_cheap and len(seconds) < 1 + MAX_MEASURED_STEPS:
        step = start_step + len(seconds)
        begin = time.perf_counter()
        figures = parts.optimizer_step.run(
            next(batches), learning_rate(min(step, steps - 1), steps, config.optim), step + 1
        )
        parts.optimizer_step.settle()
        if figures is not None:
            loss = loss if seconds else float(figures.terms.sum())
        seconds.append(time.perf_counter() - begin)
        is_cheap = not machine.any_process(sum(seconds) + seconds[-1] > CHEAP_SECONDS)
    measured = seconds[1:] or seconds
    return machine.gather_max([sum(measured) / len(measured)])[0], loss


def _batch_text(config: RunConfig, machine: Machine) -> str:
    share = config.train.batch_size // machine.world_size
    micro = min(config.train.micro_batch_size or share, share)
    passes = math.ceil(share / micro)
    return f"batches of {config.train.batch_size} = {machine.world_size} process(es) x {share}, {passes} pass(es) each"
