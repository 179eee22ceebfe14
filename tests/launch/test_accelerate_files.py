"""The files for `accelerate launch --config_file`, read by Accelerate's own loader."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

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


@pytest.mark.slow
def test_the_file_for_the_cpu_trains(tmp_path):
    run = LaunchedRun(tmp_path, make_dataset(tmp_path / "shards"), train__steps=2)
    launcher = ["accelerate.commands.launch", "--config_file", str(FOLDER / "cpu.yaml"), "-m"]
    del run.environment["ACCELERATE_USE_CPU"]
    life = run.start(launcher=launcher)
    assert life.process.wait(200) == 0, run.tail()
    assert run.says("device: cpu (ACCELERATE_USE_CPU asks for it)")
    assert read_status(run.path).state == "finished"
