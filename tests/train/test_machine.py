import multiprocessing
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed import fake_pg

from pipeline.train.config import RunConfig, TrainConfig
from pipeline.train.machine import (
    Machine,
    choose_precision,
    choose_threads,
    describe_workers,
    environment_conflicts,
    group_timeout,
    is_lost_process,
)
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
    ("device", "capability", "allowed", "said"),
    [
        ("cpu", None, True, "exact"),
        ("cuda", (7, 5), True, "exact"),
        ("cuda", (8, 0), True, "convolutions in TF32 on this GPU"),
        ("cuda", (9, 0), False, "exact"),
    ],
)
def test_fp32_is_called_exact_only_where_its_convolutions_are(monkeypatch, device, capability, allowed, said):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    assert choose_precision("fp32", device, capability).reason == f"train.precision; {said}"


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


def ask_main(rank: int, store: str, answers) -> None:
    """In a job whose device group carries nothing, as where its GPUs are busy."""
    assert fake_pg
    dist.init_process_group("fake", store=dist.FileStore(store, 2), rank=rank, world_size=2)
    process = SimpleNamespace(process_index=rank, num_processes=2, is_main_process=rank == 0)
    machine = Machine(process, dist.new_group(backend="gloo"), (), 2)
    answers.put((rank, machine.on_main(lambda: {"asked": rank})))
    machine.wait()


def test_what_the_main_process_says_does_not_pass_through_devices(tmp_path):
    context = multiprocessing.get_context("forkserver")
    answers = context.Queue()
    children = [context.Process(target=ask_main, args=(rank, str(tmp_path / "store"), answers)) for rank in range(2)]
    for child in children:
        child.start()
    try:
        assert dict(answers.get(timeout=60) for _ in children) == {0: {"asked": 0}, 1: {"asked": 0}}
    finally:
        for child in children:
            child.join(10)
            child.kill()


@pytest.mark.parametrize(("hang_minutes", "retry_minutes"), [(0.2, 120.0), (30.0, 10.0)])
def test_operations_of_all_processes_outlast_the_watchdog_and_a_slow_fetch(hang_minutes, retry_minutes):
    config = RunConfig.model_validate(
        {
            "run": "x",
            "data": {"train": "x", "retry_minutes": retry_minutes},
            "train": {"steps": 1},
            "session": {"hang_minutes": hang_minutes},
        }
    )
    assert group_timeout(config).total_seconds() / 60 > hang_minutes + retry_minutes


def test_loader_processes_and_threads_are_told_beside_the_cores_they_share():
    said = str(describe_workers(2, 4, 2, "cpu"))
    assert said.startswith(
        "loader processes: 2 (data.num_workers; with 4 thread(s) in each of 2 process(es), 12 share "
    )
    assert str(describe_workers(8, 4, 2, "cuda")) == "loader processes: 8 (data.num_workers)"
