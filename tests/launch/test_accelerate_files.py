"""The files for `accelerate launch --config_file`, read by Accelerate's own loader."""

import dataclasses
import os
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
)

from pipeline.train.config import TrainConfig
from pipeline.train.machine import environment_conflicts
from pipeline.train.status import read_status

from ..train.test_trainer import make_dataset
from .launched_run import LaunchedRun

FOLDER = Path(__file__).parents[2] / "launch" / "accelerate"
SHAPES = {  # processes, machines
    "cpu": (1, 1),
    "one_gpu": (1, 1),
    "two_t4": (2, 1),
    "eight_gpus": (8, 1),
    "two_nodes": (16, 2),
}


@pytest.mark.parametrize("name", SHAPES)
def test_accelerate_reads_the_file_as_it_is_meant(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert (config.num_processes, config.num_machines) == SHAPES[name]
    assert config.use_cpu == (name == "cpu")
    assert config.distributed_type == ("NO" if SHAPES[name][0] == 1 else "MULTI_GPU")
    environ = {"ACCELERATE_MIXED_PRECISION": config.mixed_precision}
    for precision in ("fp32", "fp16", "bf16"):
        assert environment_conflicts(TrainConfig(steps=1, precision=precision), environ) == []


def test_each_file_is_named_in_its_own_command_and_all_are_known():
    files = sorted(FOLDER.glob("*.yaml"))
    assert [path.stem for path in files] == sorted(SHAPES)
    for path in files:
        assert f"accelerate launch --config_file launch/accelerate/{path.name} " in path.read_text()


def exported(path: Path) -> dict[str, str]:
    """What `accelerate launch --config_file PATH` puts into the environment of a training process."""
    command = ["--config_file", str(path), "--main_process_ip", "localhost", "-m", "launch.train"]
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        _, environ = prepare_deepspeed_cmd_env(args)
    elif args.multi_gpu or args.use_fsdp or args.use_megatron_lm:
        environ = prepare_multi_gpu_env(args)
    else:
        _, environ = prepare_simple_launcher_cmd_env(args)
    return {name: value for name, value in environ.items() if name.startswith("ACCELERATE_")}


@pytest.fixture
def no_accelerate(monkeypatch):
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", SHAPES)
def test_what_a_file_exports_contradicts_no_setting(name, no_accelerate):
    environ = exported(FOLDER / f"{name}.yaml")
    assert environ.get("ACCELERATE_USE_CPU", "False") == str(name == "cpu")
    for precision in ("fp32", "fp16", "bf16"):
        assert environment_conflicts(TrainConfig(steps=1, precision=precision), environ) == []


DEEPSPEED = {"gradient_accumulation_steps": 4, "gradient_clipping": 1.0, "zero_stage": 2}


@pytest.mark.parametrize(
    ("change", "ours_and_theirs"),
    [
        ({"mixed_precision": "bf16"}, [("train.precision", "mixed_precision")]),
        ({"mixed_precision": "fp16"}, [("train.precision", "mixed_precision")]),
        ({"dynamo_config": {"dynamo_backend": "INDUCTOR"}}, [("train.compile", "dynamo_config")]),
        ({"distributed_type": "FSDP", "fsdp_config": {"fsdp_offload_params": False}}, [("train", "fsdp_config")]),
        ({"distributed_type": "MEGATRON_LM", "megatron_lm_config": {}}, [("train", "megatron_lm_config")]),
        ({"parallelism_config": {"parallelism_config_dp_shard_size": 2}}, [("train", "parallelism_config")]),
        (
            {"distributed_type": "DEEPSPEED", "deepspeed_config": DEEPSPEED},
            [
                ("train.micro_batch_size", "gradient_accumulation_steps"),
                ("optim.clip_grad_norm", "gradient_clipping"),
                ("train", "deepspeed_config"),
            ],
        ),
    ],
)
def test_what_our_config_owns_is_refused_by_both_names(change, ours_and_theirs, tmp_path, no_accelerate):
    if not change.keys() <= {field.name for field in dataclasses.fields(ClusterConfig)}:
        pytest.skip("this Accelerate does not know it")
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load((FOLDER / "two_t4.yaml").read_text()), **change}))
    lines = environment_conflicts(TrainConfig(steps=1), exported(file))
    assert len(lines) == len(ours_and_theirs)
    for line, (ours, theirs) in zip(lines, ours_and_theirs, strict=True):
        assert line.startswith(f"{ours}: ")
        assert f"drop {theirs} from the Accelerate config" in line


@pytest.mark.parametrize("key", ["dispatch_batches", "split_batches", "even_batches", "gradient_accumulation_steps"])
def test_what_accelerate_s_file_does_not_know_it_refuses_itself(key, tmp_path):
    file = tmp_path / "changed.yaml"
    file.write_text((FOLDER / "two_t4.yaml").read_text() + f"{key}: 2\n")
    with pytest.raises(ValueError, match=f"unknown keys .*{key}"):
        load_config_from_file(str(file))


def test_another_device_than_ours_is_refused():
    (line,) = environment_conflicts(TrainConfig(steps=1), {"ACCELERATE_TORCH_DEVICE": "mps"})
    assert line.startswith("train: computes on ") and "ACCELERATE_TORCH_DEVICE=mps" in line


@pytest.mark.slow
def test_the_file_for_the_cpu_trains(tmp_path):
    run = LaunchedRun(tmp_path, make_dataset(tmp_path / "shards"), train__steps=2)
    launcher = ["accelerate.commands.launch", "--config_file", str(FOLDER / "cpu.yaml"), "-m"]
    del run.environment["ACCELERATE_USE_CPU"]
    life = run.start(launcher=launcher)
    assert life.process.wait(200) == 0, run.tail()
    assert run.says("device: cpu (ACCELERATE_USE_CPU asks for it)")
    assert read_status(run.path).state == "finished"
