"""What a run runs on: processes, device, precision and threads, each choice with its reason.

Accelerate gives the process state, the device, autocast and DDP. Every setting has one owner, our config: where the
environment of a launcher contradicts it, that is an error which names both.

machine = open_machine(config); machine.accelerator.prepare(net, optimizer)
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from pipeline.train.config import RunConfig, TrainConfig
from pipeline.train.heap import keep_freed_memory
from shards.errors import ConfigError, DepthRankError
from shards.posix import num_cores, require_posix

__all__ = [
    "Choice",
    "Machine",
    "choose_precision",
    "choose_threads",
    "describe_workers",
    "device_type",
    "environment_conflicts",
    "group_timeout",
    "is_lost_process",
    "open_machine",
    "set_threads",
]

AMPERE = (8, 0)
"""Compute capability of the first GPUs with bf16 and TF32."""
SPARE_TIMEOUT_MINUTES = 10.0
ACCELERATE_PRECISION = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}
OWNED_SETTINGS = (
    ("train.micro_batch_size", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "gradient_accumulation_steps", ("1", "auto")),
    ("optim.clip_grad_norm", "ACCELERATE_GRADIENT_CLIPPING", "gradient_clipping", ("none", "auto")),
    ("train.compile", "ACCELERATE_DYNAMO_BACKEND", "dynamo_config", ("no",)),
)
"""Ours, the variable of a launcher that contradicts it, its name in an Accelerate config, values that claim nothing."""
OTHER_ENGINES = {
    "DEEPSPEED": "deepspeed_config",
    "FSDP": "fsdp_config",
    "MEGATRON_LM": "megatron_lm_config",
    "PARALLELISM_CONFIG": "parallelism_config",
}
T = TypeVar("T")


class Choice(NamedTuple):
    """Something that was decided for the user, and why."""

    name: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.value} ({self.reason})"


@dataclass(frozen=True)
class Machine:
    """The processes of a run, seen from one of them."""

    accelerator: Accelerator
    cpu_group: dist.ProcessGroup | None
    """Gloo group for flags that must not wait for the device; None for a process without a launcher."""
    choices: tuple[Choice, ...]
    local_processes: int
    """Processes on this node."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder."""
        return bool(self.accelerator.is_main_process)

    @property
    def rank(self) -> int:
        """Number of this process."""
        return int(self.accelerator.process_index)

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return int(self.accelerator.num_processes)

    @property
    def node_ranks(self) -> range:
        """Numbers of the processes of this machine; launchers number machine by machine."""
        first = self.rank - int(self.accelerator.local_process_index)
        return range(first, first + self.local_processes)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device(self.accelerator.device)

    def on_main(self, action: Callable[[], T]) -> T:
        """Run `action` on the main process and return its (picklable) result on all of them.

        A `DepthRankError` is raised on all processes alike, so none is left waiting for another. Where the main process
        leaves instead, the others notice: gloo raises when a connection ends, NCCL would wait on.
        """
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = action()
            except DepthRankError as error:
                outcome[1] = error
        if self.cpu_group is not None:
            dist.broadcast_object_list(outcome, src=0, group=self.cpu_group)
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    def any_process(self, flag: bool) -> bool:
        """Whether `flag` holds on any process; costs no wait for the device."""
        if self.cpu_group is None:
            return flag
        flags = torch.tensor([int(flag)])
        dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self.cpu_group)
        return bool(flags.item())

    def gather_max(self, values: list[float]) -> list[float]:
        """The largest of each value over the processes, so that a straggler shows."""
        if self.cpu_group is None:
            return values
        largest = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.cpu_group)
        return [float(value) for value in largest]

    def gather_sum(self, values: list[float]) -> list[float]:
        """The sum of each value over the processes, exact for counts up to 2 ** 53."""
        if self.cpu_group is None:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self.cpu_group)
        return [float(value) for value in total]

    def take_from_main(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite these tensors with those of the main process."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def gather_lists(self, values: list[str]) -> list[str]:
        """The lists of all processes, one after the other."""
        if self.cpu_group is None:
            return values
        lists: list[list[str]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(lists, values, group=self.cpu_group)
        return [value for part in lists for value in part]

    def gather_on_main(self, values: list[str]) -> list[str]:
        """The lists of all processes on the main one, nothing on the others: for what would be much on all of them."""
        if self.cpu_group is None:
            return values
        lists: list[list[str]] = [[] for _ in range(self.world_size if self.is_main else 0)]
        dist.gather_object(values, lists if self.is_main else None, dst=0, group=self.cpu_group)
        return [value for part in lists for value in part]

    def wait(self) -> None:
        """Meet all other processes."""
        if self.cpu_group is not None:
            dist.barrier(group=self.cpu_group)

    def close(self) -> None:
        """Leave the process group."""
        if self.cpu_group is not None and dist.is_initialized():
            dist.destroy_process_group()


def open_machine(config: RunConfig) -> Machine:
    """Join the other processes and settle device and precision; on a CPU the process keeps the memory it frees.

    Raises:
        ConfigError: The environment contradicts the config, the device lacks the precision, or the system file locks.
    """
    require_posix("training")
    conflicts = environment_conflicts(config.train, os.environ)
    if conflicts:
        raise ConfigError("\n".join(conflicts))
    device = device_type(os.environ)
    capability = torch.cuda.get_device_capability() if device == "cuda" else None
    precision = choose_precision(config.train.precision, device, capability)
    # Accelerate keeps its first settings for the life of a process; a program that trains twice may want others.
    AcceleratorState._reset_state(reset_partial_state=True)
    timeout = group_timeout(config)
    accelerator = Accelerator(
        mixed_precision=ACCELERATE_PRECISION[config.train.precision],
        cpu=device == "cpu",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timeout)],
    )
    # A launcher that starts a single process makes a process group as well.
    in_group = dist.is_available() and dist.is_initialized()
    group: Any = dist.new_group(backend="gloo", timeout=timeout) if in_group else None
    place = Choice("device", _device_name(accelerator.device), "the one that this process was given")
    if device == "cpu":
        keep_freed_memory()
        asked = _asks_for_cpu(os.environ)
        place = Choice("device", "cpu", "ACCELERATE_USE_CPU asks for it" if asked else _why_cpu())
    size = Choice("processes", str(accelerator.num_processes), "as launched")
    return Machine(
        accelerator=accelerator,
        cpu_group=group,
        choices=(size, place, precision),
        local_processes=int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes)),
    )


def group_timeout(config: RunConfig) -> timedelta:
    """How long an operation of all processes may take.

    Torch's own limit knows no names and no stacks, so it comes well after the watchdog's, which adds the time that a
    process may spend on fetching a shard.
    """
    return timedelta(minutes=2 * config.session.hang_minutes + config.data.retry_minutes + SPARE_TIMEOUT_MINUTES)


def is_lost_process(error: BaseException) -> bool:
    """Whether this is what a collective operation raises when another process has gone."""
    # Gloo raises plain RuntimeErrors, which name their place in its source.
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def device_type(environ: Mapping[str, str]) -> str:
    """What kind of device a run gets, `cuda` or `cpu`; CUDA is not started by this."""
    # Sums are kept in float64, which Apple's GPUs do not have: everything but CUDA computes on the CPU.
    return "cuda" if torch.cuda.is_available() and not _asks_for_cpu(environ) else "cpu"


def environment_conflicts(train: TrainConfig, environ: Mapping[str, str]) -> list[str]:
    """Settings of a launcher that contradict the config, a line each.

    `accelerate launch` exports `ACCELERATE_MIXED_PRECISION=no` when nobody chose anything, so `no` claims nothing.
    """
    conflicts = []
    precision = environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if precision not in {"", "no", ACCELERATE_PRECISION[train.precision]}:
        conflicts.append(
            f"train.precision: {train.precision}, but the launcher set ACCELERATE_MIXED_PRECISION={precision}; "
            "set train.precision to it, or drop mixed_precision from the Accelerate config or command"
        )
    for key, variable, name, idle in OWNED_SETTINGS:
        value = environ.get(variable, "")
        if value.lower() not in {"", *idle}:
            conflicts.append(
                f"{key}: it alone decides, but the launcher set {variable}={value}; drop {name} from the Accelerate "
                "config or command, or unset the variable"
            )
    device = environ.get("ACCELERATE_TORCH_DEVICE", "")
    if device and device.partition(":")[0] != device_type(environ):
        conflicts.append(
            f"train: computes on {device_type(environ)} here, but ACCELERATE_TORCH_DEVICE={device} is set; unset it"
        )
    for engine, name in OTHER_ENGINES.items():
        variable = f"ACCELERATE_USE_{engine}"
        if environ.get(variable, "false").lower() in {"1", "true"}:
            conflicts.append(
                f"train: runs on plain data parallelism, but the launcher set {variable}; drop {name} from the "
                "Accelerate config or command (distributed_type: MULTI_GPU, or 'NO'), or unset the variable"
            )
    return conflicts


def choose_precision(precision: str, device: str, capability: tuple[int, int] | None) -> Choice:
    """Accept the configured precision or say why this device cannot have it.

    Args:
        precision: `fp32`, `fp16` or `bf16`.
        device: Type of the device, such as `cpu` or `cuda`.
        capability: Compute capability of a CUDA device.

    Raises:
        ConfigError: The device lacks the precision.
    """
    if precision == "fp16" and device == "cpu":
        raise ConfigError("train.precision: fp16 needs a GPU and this run is on the CPU; use fp32")
    if precision == "bf16" and capability is not None and capability < AMPERE:
        raise ConfigError(
            f"train.precision: bf16 is only emulated, and slow, on this GPU of compute capability "
            f"{capability[0]}.{capability[1]} (it needs {AMPERE[0]}.{AMPERE[1]}); use fp16"
        )
    reason = {"fp32": "exact", "fp16": "the loss is scaled, overflowing steps are skipped", "bf16": "no loss scaling"}
    has_tf32 = capability is not None and capability >= AMPERE and torch.version.hip is None
    if has_tf32 and torch.backends.cudnn.allow_tf32:  # torch's default
        reason["fp32"] = "convolutions in TF32 on this GPU"
    return Choice("precision", precision, f"train.precision; {reason[precision]}")


def choose_threads(configured: int, recorded: int | None, cores: int, local_processes: int) -> Choice:
    """CPU threads of a process: the configured number, else the checkpoint's, else this process's share of the cores.

    Args:
        configured: `train.threads`, 0 where the choice is ours.
        recorded: What the checkpoint that is resumed was trained with, None for a new run.
        cores: CPU cores that this process may use.
        local_processes: Processes that share them.
    """
    if configured:
        changed = recorded not in (None, configured)
        note = f"; the checkpoint had {recorded}, so the last bits of results may differ" if changed else ""
        return Choice("threads", str(configured), f"train.threads{note}")
    if recorded:
        return Choice("threads", str(recorded), "as recorded in the checkpoint, for the same results bit for bit")
    return Choice("threads", str(max(1, cores // local_processes)), f"{cores} cores, {local_processes} process(es)")


def set_threads(configured: int, recorded: int | None, local_processes: int) -> Choice:
    """Settle the CPU threads of this process; see `choose_threads`. Launchers set them silently, so this comes last."""
    choice = choose_threads(configured, recorded, num_cores(), local_processes)
    torch.set_num_threads(int(choice.value))
    return choice


def describe_workers(num_workers: int, threads: int, local_processes: int, device: str) -> Choice:
    """Loader processes of a process, and on a CPU how they share its cores with the threads that compute."""
    if device != "cpu":
        return Choice("loader processes", str(num_workers), "data.num_workers")
    busy, cores = local_processes * (threads + num_workers), num_cores()
    shared = f"with {threads} thread(s) in each of {local_processes} process(es), {busy} share {cores} cores"
    return Choice("loader processes", str(num_workers), f"data.num_workers; {shared}")


def _asks_for_cpu(environ: Mapping[str, str]) -> bool:
    return environ.get("ACCELERATE_USE_CPU", "false").lower() in {"1", "true", "yes"}


def _why_cpu() -> str:
    if torch.backends.mps.is_available():
        return "an Apple GPU has no float64, in which losses and counts are summed; it serves prediction"
    return "no CUDA GPU was found"


def _device_name(device: torch.device) -> str:
    return f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
