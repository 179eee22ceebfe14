from types import SimpleNamespace

import pytest
import torch.distributed as dist

from pipeline.train.config import TrainConfig
from pipeline.train.machine import Machine, choose_precision, choose_threads, environment_conflicts, is_lost_process
from shards.errors import ConfigError


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_what_a_plain_accelerate_launch_exports_is_no_conflict(precision):
    exported = {
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_USE_CPU": "True",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "OMP_NUM_THREADS": "1",
    }
    assert environment_conflicts(TrainConfig(steps=1, precision=precision), exported) == []


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", "train.precision"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "train.micro_batch_size"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "train.compile"),
        ("ACCELERATE_USE_FSDP", "true", "train"),
    ],
)
def test_a_contradiction_names_the_key_and_the_variable(variable, value, key):
    (line,) = environment_conflicts(TrainConfig(steps=1), {variable: value})
    assert line.startswith(f"{key}: ")
    assert variable in line


def test_all_contradictions_are_told_at_once():
    environ = {"ACCELERATE_MIXED_PRECISION": "fp16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"}
    assert len(environment_conflicts(TrainConfig(steps=1), environ)) == 2


def test_agreement_is_no_contradiction():
    assert environment_conflicts(TrainConfig(steps=1, precision="bf16"), {"ACCELERATE_MIXED_PRECISION": "bf16"}) == []


def test_precision_that_the_device_lacks_is_refused_with_the_cure():
    with pytest.raises(ConfigError, match=r"train\.precision: fp16 needs a GPU .* fp32"):
        choose_precision("fp16", "cpu", None)
    with pytest.raises(ConfigError, match=r"train\.precision: bf16 .* 7\.5 .* use fp16"):
        choose_precision("bf16", "cuda", (7, 5))
    assert choose_precision("bf16", "cuda", (8, 0)).value == "bf16"
    assert choose_precision("bf16", "cpu", None).value == "bf16"


@pytest.mark.parametrize(
    ("configured", "recorded", "cores", "processes", "threads"),
    [(0, None, 8, 2, "4"), (0, None, 1, 2, "1"), (0, 3, 8, 2, "3"), (5, 3, 8, 2, "5"), (5, None, 8, 2, "5")],
)
def test_threads_are_configured_else_recorded_else_shared(configured, recorded, cores, processes, threads):
    assert choose_threads(configured, recorded, cores, processes).value == threads


def test_other_threads_than_recorded_are_said():
    assert "checkpoint had 3" in choose_threads(5, 3, 8, 1).reason
    assert "checkpoint" not in choose_threads(3, 3, 8, 1).reason


@pytest.mark.parametrize(
    ("rank", "local_rank", "local_processes", "expected"),
    [(0, 0, 1, range(1)), (1, 1, 2, range(2)), (5, 1, 4, range(4, 8)), (4, 0, 4, range(4, 8)), (7, 3, 4, range(4, 8))],
)
def test_the_ranks_of_a_machine_are_its_neighbours(rank, local_rank, local_processes, expected):
    process = SimpleNamespace(process_index=rank, local_process_index=local_rank)
    assert Machine(process, None, (), local_processes).node_ranks == expected


def test_only_what_collective_operations_raise_tells_of_a_lost_process():
    closed = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234"
    assert is_lost_process(RuntimeError(closed))
    assert is_lost_process(dist.DistBackendError("NCCL error: remote process exited"))
    assert not is_lost_process(RuntimeError("CUDA out of memory"))
    assert not is_lost_process(ValueError(closed))
