"""The plan of a run: everything built, one real step taken, nothing written.

print(plan(config))
"""

import math
import os
import time
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from model import DepthNet
from pipeline.data.loader import TrainStream, count_validation_samples
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import RunConfig
from pipeline.train.determinism import deterministic_algorithms
from pipeline.train.machine import Choice, Machine, describe_workers, device_type, open_machine, set_threads
from pipeline.train.parts import Parts, build_parts
from pipeline.train.resume import announce_start, check_order, find_start, recorded_threads
from pipeline.train.schedule import learning_rate, run_length
from pipeline.train.surroundings import KAGGLE_GPU_HOURS_A_WEEK, KAGGLE_HOURS, budget_of
from pipeline.train.trainer import open_stream, run_folder, run_id
from pipeline.train.validation import Validation

__all__ = ["Plan", "giga_macs", "plan"]

CHEAP_SECONDS = 10.0
"""Steps are measured as long as all of them stay below this; the first one, which warms up, does not count."""
MAX_MEASURED_STEPS = 3
MEASURED_PICTURES = 4
"""Of an evaluation; the first one, which warms up, does not count."""


@dataclass(frozen=True)
class Plan:
    """What a run would do. Times leave out saving, starting and drawing pictures."""

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
    """Expected for what is left, evaluations included."""
    evaluations: int
    """How many are left."""
    evaluation_seconds: float
    """Of one."""
    session_hours: float
    """Budget of a session, or where there is none what Kaggle allows."""
    budget: str
    """Where that is from."""
    choices: tuple[Choice, ...]
    """What was decided for the user, and why."""

    @property
    def sessions(self) -> int:
        """How many sessions the hours are."""
        return max(1, math.ceil(self.hours / self.session_hours))

    @property
    def kaggle_weeks(self) -> int:
        """How many weeks of Kaggle's quota of GPU time the hours are."""
        return max(1, math.ceil(self.hours / KAGGLE_GPU_HOURS_A_WEEK))

    def __str__(self) -> str:
        done = f", {self.start_step} of them done" if self.start_step else ""
        lines = [
            f"plan: {self.steps} steps{done} = {self.epochs:.4g} epochs of {self.samples} samples, {self.batch}",
            f"network: {self.parameters / 1e6:.2f} million weights, {self.giga_macs:.3g} GMAC a picture",
            f"pace: {self.step_seconds:.3g} s a step, {self.images_per_s:.3g} images/s, "
            f"{self.evaluations} evaluation(s) of {self.evaluation_seconds:.3g} s "
            f"-> {self.hours:.3g} h, without saving (loss of the step taken: {self.loss:.4f})",
            f"sessions: {self.sessions} of {self.session_hours:g} h ({self.budget}); "
            f"{self.kaggle_weeks} week(s) of Kaggle's {KAGGLE_GPU_HOURS_A_WEEK:g} h of GPU",
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
            validation = Validation(config, machine, parts.net)
            step_seconds, loss = _measure(config, machine, parts, stream, start_step, steps)
            evaluation_seconds = _evaluation_seconds(config, machine, validation)
        finally:
            stream.close()
        workers = describe_workers(
            config.data.num_workers, int(threads.value), machine.local_processes, machine.device.type
        )
        evaluations = _evaluations_left(config, start_step, steps)
        seconds = max(0, steps - start_step) * step_seconds + evaluations * evaluation_seconds
        budget = budget_of(config.session.max_hours, os.environ)
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
            hours=seconds / 3600,
            evaluations=evaluations,
            evaluation_seconds=evaluation_seconds,
            session_hours=KAGGLE_HOURS if budget.max_hours is None else budget.max_hours,
            budget=budget.reason if budget.max_hours else f"as on Kaggle; {budget.reason}",
            choices=(*machine.choices, threads, workers),
        )
    finally:
        machine.close()


def giga_macs(config: RunConfig) -> float:
    """Billions of multiply-adds of one training picture, counted without computing anything.

    Those of convolutions and linear layers, which is where all products are; torch's counter of operations finds as
    many and takes longer to import than this to run.
    """
    counts: list[int] = []

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        counts.append(output.numel() * weight[0].numel())

    with torch.device("meta"), torch.no_grad():
        net = DepthNet(config.model).eval()
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(count)
        net(torch.empty(1, 3, *config.train.size))
    return sum(counts) / 1e9


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


def _evaluation_seconds(config: RunConfig, machine: Machine, validation: Validation) -> float:
    """Seconds of an evaluation by those of its first pictures, of the slowest process; 0 without a validation set."""
    if not validation.has_data:
        return 0.0
    stamps: list[float] = []

    def enough() -> bool:
        stamps.append(time.perf_counter())
        return len(stamps) > 1 + MEASURED_PICTURES or stamps[-1] - stamps[0] > CHEAP_SECONDS

    begin = time.perf_counter()
    validation.evaluate(enough)
    stamps = stamps or [begin]
    measured = [later - former for former, later in pairwise(stamps)]
    measured = measured[1:] or measured or [time.perf_counter() - begin]
    pictures = math.ceil(count_validation_samples(config.data, config.monitor.max_val_samples) / machine.world_size)
    return machine.gather_max([pictures * sum(measured) / len(measured)])[0]


def _evaluations_left(config: RunConfig, start_step: int, steps: int) -> int:
    """Those between two steps, the one after the last step included."""
    if config.data.val is None or start_step >= steps:
        return 0
    every = config.monitor.eval_every_steps or steps
    return steps // every - start_step // every + (steps % every > 0)


def _batch_text(config: RunConfig, machine: Machine) -> str:
    share = config.train.batch_size // machine.world_size
    micro = min(config.train.micro_batch_size or share, share)
    passes = math.ceil(share / micro)
    return f"batches of {config.train.batch_size} = {machine.world_size} process(es) x {share}, {passes} pass(es) each"
