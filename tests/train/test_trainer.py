import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from model import DepthNet
from pipeline.eval.network import load_network
from pipeline.train.checkpoint_folder import Loaded
from pipeline.train.config import RunConfig
from pipeline.train.machine import open_machine
from pipeline.train.metrics_log import read_metrics
from pipeline.train.parts import build_parts
from pipeline.train.plan import plan
from pipeline.train.rng import seed_generators
from pipeline.train.split import split_dependence
from pipeline.train.status import read_status
from pipeline.train.trainer import open_stream, train
from pipeline.train.validation import Validation
from shards.errors import CheckpointError, DivergedError
from shards.format import Sample
from shards.writer import DatasetWriter

COMMAND = "python -m launch.train --config x.yaml"
HEIGHT, WIDTH = 40, 56


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def make_sample(key, seed):
    """A tilted plane whose brightness follows its depth, with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    plane = rng.uniform(-1, 1) * y / HEIGHT + rng.uniform(-1, 1) * x / WIDTH
    nearness = (plane - plane.min()) / (plane.max() - plane.min())
    image = np.clip(255 * nearness[..., None] + rng.normal(0, 8, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    jpeg = BytesIO()
    Image.fromarray(image).save(jpeg, format="JPEG")
    disparity = (1 + 60000 * nearness).astype(np.uint16)
    points = np.stack([rng.integers(0, size, 64) for size in (HEIGHT, WIDTH, HEIGHT, WIDTH)], axis=1)
    a, b = (disparity[points[:, i], points[:, i + 1]].astype(int) for i in (0, 2))
    pairs = np.concatenate([points, np.sign(b - a)[:, None]], axis=1).astype(np.int16)
    meta = {"source": "test", "tolerance": {"kind": "range", "value": 0.02}}
    return Sample(key=key, image=jpeg.getvalue(), meta=meta, disparity=disparity, pairs=pairs)


def make_dataset(folder, num_train=11, seed=0):
    with DatasetWriter(str(folder), shard_bytes=20_000, config={"seed": seed}) as writer:
        for split, count in (("train", num_train), ("val", 3)):
            for index in range(count):
                writer.add(split, make_sample(f"{split}-{index:02d}", 100 * seed + index))
        writer.finish({})
    return str(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("shards") / "planes")


def make_config(run, dataset, **changes):
    """Settings of a run of 6 steps that takes seconds; `changes` are dotted with __."""
    settings = {
        "run": str(run),
        "data": {"train": dataset, "val": dataset, "num_workers": 0, "num_pairs": 64},
        "model": {"encoder": "resnet18", "decoder_channels": 8},
        "loss": {"name": "ranking"},
        "optim": {"lr": 1e-3, "encoder_lr_ratio": 1, "warmup_steps": 1},
        "train": {"steps": 6, "batch_size": 4, "micro_batch_size": 2, "size": 32, "threads": 1},
        "checkpoint": {"every_steps": 3},
        "monitor": {"log_every_steps": 2, "eval_every_steps": 4, "num_images": 2},
    }
    for name, value in changes.items():
        *path, last = name.split("__")
        section = settings
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return RunConfig.model_validate(settings)


class StopAt(logging.Handler):
    """Creates the stop file once the log says that this step is done."""

    def __init__(self, run, step):
        super().__init__()
        self.run, self.text = Path(run), f"step {step}/"

    def emit(self, record):
        if record.getMessage().startswith(self.text):
            (self.run / "STOP").touch()


def train_until(config, step):
    logger, handler = logging.getLogger("depthrank"), StopAt(config.run, step)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        return train(config, command=COMMAND)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, dataset):
    """A run that was never interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        assert train(make_config(run, dataset), command=COMMAND).state == "finished"
    return run


def test_a_run_that_was_stopped_twice_ends_bit_for_bit_as_one_that_was_not(tmp_path, dataset, finished):
    run = tmp_path / "whole"
    for step in (1, 4):
        # Step lines at every step, so that it can be stopped at any; what is monitored may change.
        status = train_until(make_config(run, dataset, monitor__log_every_steps=1), step)
        assert (status.state, status.step, status.samples_seen) == ("stopped", step, 4 * step)
        assert status.next_command == COMMAND
        assert read_status(run).state == "stopped"
        assert not (run / "STOP").exists()
        assert not (run / "model.safetensors").exists()
    assert train(make_config(run, dataset), command=COMMAND).state == "finished"
    last = "checkpoints/step_00000006"
    for name in ("model.safetensors", f"{last}/model.safetensors", f"{last}/optimizer.safetensors"):
        assert (run / name).read_bytes() == (finished / name).read_bytes(), name
    whole, resumed = ({line["step"]: line for line in read_metrics(path / "metrics.jsonl")} for path in (finished, run))
    assert resumed[6]["val/whdr"] == whole[6]["val/whdr"]
    sessions = [line["session"] for line in read_metrics(run / "metrics.jsonl")]
    assert sessions == sorted(sessions)
    assert sessions[-1] == 3


@pytest.mark.slow
def test_average_counts_and_figures_of_health_survive_a_stop(tmp_path, dataset):
    changes = {
        "train__steps": 4,
        "train__micro_batch_size": None,
        "checkpoint__every_steps": 2,
        "optim__ema_decay": 0.6,
        "optim__clip_grad_norm": 1e-3,
        "monitor__log_every_steps": 1,
        "monitor__eval_every_steps": None,
        "monitor__num_images": 0,
        "monitor__tensorboard": False,
    }
    whole, stopped = tmp_path / "a" / "run", tmp_path / "b" / "run"
    assert train(make_config(whole, dataset, **changes), command=COMMAND).state == "finished"
    assert train_until(make_config(stopped, dataset, **changes), 3).step == 3
    assert train(make_config(stopped, dataset, **changes), command=COMMAND).state == "finished"
    last = "checkpoints/step_00000004"
    for name in ("model.safetensors", *(f"{last}/{part}.safetensors" for part in ("model", "ema", "optimizer"))):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
    states = [json.loads((run / last / "state.json").read_text()) for run in (whole, stopped)]
    for state in states:
        del state["hours"], state["config"]["run"]
    assert states[0] == states[1]
    assert (states[0]["ema_updates"], states[0]["clipped_steps"]) == (4, 4)
    # The average is what was validated, is exported, and is what a checkpoint of the run gives.
    average, trained = (load_file(whole / last / f"{part}.safetensors") for part in ("ema", "model"))
    exported, given = load_file(whole / "model.safetensors"), load_network(whole / last, "cpu").net.state_dict()
    assert any(not torch.equal(average[name], trained[name]) for name in average)
    assert all(torch.equal(average[name], exported[name]) for name in average)
    assert all(torch.equal(average[name], given[name]) for name in average)
    config = make_config(whole, dataset, **changes)
    figures = Validation(config, open_machine(config), DepthNet.from_pretrained(whole)).evaluate(lambda: False).figures
    assert json.loads((whole / "metrics.json").read_text())["latest"] == {**figures, "step": 4}
    lines = [line for line in read_metrics(whole / "metrics.jsonl") if "train/loss" in line]
    assert [line["health/clipped_steps"] for line in lines] == [1, 2, 3, 4]
    assert all(0 < line["health/update_norm"] < line["health/param_norm"] for line in lines)
    assert "health/loss_scale" not in lines[0]


def test_a_finished_run_leaves_what_is_promised(finished, dataset):
    present = {path.name for path in finished.iterdir()}
    assert {"model.safetensors", "config.json", "config.yaml", "env.json", "metrics.json", "status.json"} <= present
    assert (finished / "pictures" / "latest.jpg").is_file()
    results = json.loads((finished / "metrics.json").read_text())
    assert (results["step"], results["samples_seen"]) == (6, 24)
    assert 0 <= results["best"]["val/whdr"] <= results["latest"]["val/whdr"] <= 1
    assert read_status(finished).next_command == (
        f"python -m launch.evaluate --checkpoint {finished} --data shards={dataset}"
    )
    environment = (finished / "env.json").read_text()
    assert os.uname().nodename not in environment
    assert str(Path.cwd()) not in environment


def test_starting_a_finished_run_again_does_nothing(finished, dataset, caplog):
    caplog.set_level(logging.INFO, logger="depthrank")
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    status = train(make_config(finished, dataset), command=COMMAND)
    assert (status.state, status.step) == ("finished", 6)
    assert "is finished after 6 steps" in caplog.text
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    assert {path for path in after if after[path] != before.get(path)} <= {finished}


def test_a_stop_that_is_wished_before_the_first_step_costs_no_step(tmp_path, dataset):
    run = tmp_path / "run"
    run.mkdir()
    (run / "STOP").touch()
    status = train(make_config(run, dataset), command=COMMAND)
    assert (status.state, status.step) == ("stopped", 0)
    assert not list((run / "checkpoints").glob("step_*"))


def test_a_run_that_diverges_is_failed_and_keeps_its_good_checkpoints(tmp_path, dataset):
    run = tmp_path / "run"
    config = make_config(run, dataset, optim__name="sgd", optim__lr=1e30, optim__warmup_steps=0)
    config = config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"every_steps": 1})})
    with pytest.raises(DivergedError, match=r"step 2 is not finite; its samples: train-\d\d.* checkpoint is of step 1"):
        train(config, command=COMMAND)
    status = read_status(run)
    assert (status.state, status.step) == ("failed", 1)
    assert [path.name for path in (run / "checkpoints").glob("step_*")] == ["step_00000001"]
    assert not (run / "model.safetensors").exists()


def test_weights_that_an_update_made_infinite_are_never_saved(tmp_path, dataset):
    # Loss and gradient of the first step are finite; rate times decay takes the weights out of float32.
    config = make_config(
        tmp_path / "run",
        dataset,
        optim__name="sgd",
        optim__lr=1e30,
        optim__weight_decay=1e10,
        optim__warmup_steps=0,
        checkpoint__every_steps=1,
    )
    with pytest.raises(DivergedError, match=r"update of step 1, .* left weights that are not finite: .* no checkpoint"):
        train(config, command=COMMAND)
    assert read_status(tmp_path / "run").state == "failed"
    assert not list((tmp_path / "run" / "checkpoints").glob("step_*"))


def test_a_config_that_contradicts_the_checkpoint_is_refused_and_leaves_the_run_alone(finished, dataset):
    config = make_config(finished, dataset, optim__lr=5.0, model__decoder_channels=16)
    with pytest.raises(CheckpointError) as error:
        train(config, command=COMMAND)
    assert "optim.lr: 0.001 in the checkpoint, 5.0 now" in str(error.value)
    assert "model.decoder_channels: 8 in the checkpoint, 16 now" in str(error.value)
    assert read_status(finished).state == "finished"


def test_another_dataset_is_refused_by_name(tmp_path, dataset):
    run = tmp_path / "run"
    assert train_until(make_config(run, dataset, monitor__log_every_steps=1), 1).step == 1
    other = make_dataset(tmp_path / "other", num_train=13, seed=1)
    with pytest.raises(CheckpointError, match=r"fingerprint: '\w+' in the checkpoint, '\w+' now"):
        train(make_config(run, other), command=COMMAND)
    assert read_status(run).state == "stopped"


def test_init_from_takes_the_weights_and_nothing_else(tmp_path, finished, dataset):
    config = make_config(tmp_path / "new", dataset, checkpoint__init_from=str(finished))
    parts = build_parts(config, open_machine(config), resumes=False)
    for name, value in load_file(finished / "model.safetensors").items():
        assert torch.equal(parts.net.state_dict()[name], value), name
    assert not parts.optimizer.state_dict()["state"]
    wider = make_config(tmp_path / "new", dataset, checkpoint__init_from=str(finished), model__decoder_channels=16)
    with pytest.raises(CheckpointError, match=r"holds another network: model\.decoder_channels is 8 there"):
        build_parts(wider, open_machine(wider), resumes=False)


def test_initial_weights_depend_on_the_seed_only(tmp_path, dataset):
    def weights(seed):
        torch.rand(int(torch.randint(100, ())))
        config = make_config(tmp_path / "run", dataset, train__seed=seed)
        return build_parts(config, open_machine(config), resumes=False).net.state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_evaluation_leaves_modes_weights_and_randomness_as_they_are(tmp_path, dataset):
    config = make_config(tmp_path / "run", dataset, model__freeze_bn=True)
    machine = open_machine(config)
    parts = build_parts(config, machine, resumes=False)
    validation = Validation(config, machine, parts.net)
    modes = [module.training for module in parts.net.modules()]
    weights = {name: value.clone() for name, value in parts.net.state_dict().items()}
    state = torch.get_rng_state()
    figures = validation.evaluate(lambda: False).figures
    shapes = {tag: picture.shape for tag, picture in validation.pictures(lambda: False).items()}
    assert shapes["val/pictures"] == (2 * 192, 1024, 3)
    assert shapes["val/pair_overlay"][1:] == (978, 3)
    assert figures == validation.evaluate(lambda: False).figures
    assert 0 < figures["val/pairs"] <= 3 * 64
    assert validation.evaluate(lambda: True) is None
    assert validation.pictures(lambda: True) is None
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in parts.net.modules()]
    assert True in modes
    assert False in modes
    assert all(torch.equal(value, weights[name]) for name, value in parts.net.state_dict().items())


def test_the_plan_takes_a_step_and_writes_nothing(tmp_path, dataset):
    config = make_config(
        tmp_path / "run",
        dataset,
        train__steps=None,
        train__epochs=100,
        train__precision="bf16",
        session__max_hours=1e-3,
    )
    result = plan(config)
    assert not (tmp_path / "run").exists()
    # 11 samples, 100 epochs, batches of 4.
    assert (result.steps, result.samples) == (275, 11)
    # Every 4 steps and after the last, which is no multiple of 4.
    assert result.evaluations == 69
    assert result.evaluation_seconds > 0
    seconds = 275 * result.step_seconds + 69 * result.evaluation_seconds
    assert result.hours == pytest.approx(seconds / 3600)
    assert result.sessions == np.ceil(result.hours / 1e-3)
    assert np.isfinite(result.loss)
    text = str(result)
    assert "275 steps = 100 epochs of 11 samples, batches of 4 = 1 process(es) x 4, 2 pass(es) each" in text
    assert f"sessions: {result.sessions} of 0.001 h (session.max_hours, counted from the start" in text
    assert "; 1 week(s) of Kaggle's 30 h of GPU" in text
    assert "precision: bf16" in text
    assert "threads: 1 (train.threads)" in text


def test_the_plan_counts_sessions_and_weeks_of_a_long_run(tmp_path, dataset):
    result = plan(make_config(tmp_path / "run", dataset))
    assert "sessions: 1 of 11 h (as on Kaggle; session.max_hours is not set); 1 week(s) of" in str(result)
    for hours, sessions, weeks in ((10.9, 1, 1), (11.1, 2, 1), (30.1, 3, 2), (61, 6, 3)):
        long = replace(result, hours=hours)
        assert (long.sessions, long.kaggle_weeks) == (sessions, weeks)


RANK_SCRIPT = """
import json, logging, sys
from itertools import islice
from pathlib import Path
from pipeline.train.config import RunConfig
from pipeline.train.machine import open_machine
from pipeline.train.trainer import open_stream, train

class StopAt(logging.Handler):
    def emit(self, record):
        if record.getMessage().startswith(f"step {sys.argv[3]}/"):
            (Path(config.run) / "STOP").touch()

logging.getLogger("depthrank").setLevel(logging.INFO)
logging.getLogger("depthrank").addHandler(StopAt())
config = RunConfig.model_validate_json(Path(sys.argv[1]).read_text())
machine = open_machine(config)
stream = open_stream(config, machine)
steps = []
for micro_batches in islice(stream.steps(0), 6):
    steps.append(sorted(machine.gather_lists([key for batch in micro_batches for key in batch["keys"]])))
stream.close()
if machine.is_main:
    Path(sys.argv[2]).write_text(json.dumps([machine.world_size, steps]))
train(config, command="x")
"""


def run_in_processes(tmp_path, config, processes, *, stop_after=0, **environment):
    """Train in a program of its own; returns its world size and the keys of its first global batches."""
    script = tmp_path / "rank.py"
    script.write_text(RANK_SCRIPT)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if processes == 2 else []
    subprocess.run(
        [sys.executable, *launcher, script, tmp_path / "config.json", tmp_path / "seen.json", str(stop_after)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])),
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        check=True,
        timeout=200,
    )
    return json.loads((tmp_path / "seen.json").read_text())


@pytest.mark.slow
def test_the_figure_of_two_processes_is_that_of_the_network_that_is_saved(tmp_path, dataset):
    config = make_config(tmp_path / "run", dataset, optim__lr=0.05, optim__name="sgd")
    assert run_in_processes(tmp_path, config, 2)[0] == 2
    saved = DepthNet.from_pretrained(tmp_path / "run")
    figures = Validation(config, open_machine(config), saved).evaluate(lambda: False).figures
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["latest"] == {**figures, "step": 6}


def losses(run):
    return [line["train/loss"] for line in read_metrics(run / "metrics.jsonl") if "train/loss" in line]


@pytest.mark.slow
def test_however_a_step_is_split_the_same_samples_teach_the_same(tmp_path, dataset):
    seen, weights, curves = {}, {}, {}
    for processes, micro_batch_size in ((1, None), (1, 1), (2, None), (2, 1)):
        split = (processes, micro_batch_size)
        config = make_config(
            tmp_path / f"run{processes}-{micro_batch_size}",
            dataset,
            model__freeze_bn=True,
            loss={"name": "improved_ranking", "scope": "image"},
            optim__name="sgd",
            train__size=64,
            train__micro_batch_size=micro_batch_size,
            monitor__log_every_steps=1,
        )
        assert split_dependence(config) == []
        world_size, seen[split] = run_in_processes(tmp_path, config, processes)
        assert world_size == processes
        weights[split] = load_file(Path(config.run) / "model.safetensors")
        curves[split] = losses(Path(config.run))
        assert read_status(Path(config.run)).state == "finished"
    start = build_parts(config, open_machine(config), resumes=False).net.state_dict()
    one = (1, None)
    moved = max(float((value - start[name]).abs().max()) for name, value in weights[one].items())
    assert len(curves[one]) == 6
    for split in curves:
        assert seen[split] == seen[one]
        # Rounding only: a wrong count would move the weights twice or half as far.
        apart = max(float((value - weights[split][name]).abs().max()) for name, value in weights[one].items())
        assert apart < 0.02 * moved
        assert curves[split] == pytest.approx(curves[one], rel=1e-5)


@pytest.mark.slow
def test_two_processes_with_dice_of_their_own_resume_bit_for_bit(tmp_path, dataset):
    changes = {
        "data__val": None,
        "model__encoder": "convnext_tiny",
        "optim__name": "sgd",
        "optim__momentum": 0,
        "train__steps": 4,
        "monitor__log_every_steps": 1,
    }
    whole, stopped = (make_config(tmp_path / name, dataset, **changes) for name in ("whole", "stopped"))
    assert any("at random" in line for line in split_dependence(whole))
    run_in_processes(tmp_path, whole, 2)
    run_in_processes(tmp_path, stopped, 2, stop_after=2)
    state = json.loads((Path(stopped.run) / "checkpoints" / "step_00000002" / "state.json").read_text())
    assert len({states["torch"] for states in state["rng"]}) == 2
    run_in_processes(tmp_path, stopped, 2)
    assert losses(Path(stopped.run)) == losses(Path(whole.run))
    for name in ("model.safetensors", "checkpoints/step_00000004/model.safetensors"):
        assert (Path(stopped.run) / name).read_bytes() == (Path(whole.run) / name).read_bytes(), name


def test_other_processes_than_before_get_generators_that_differ(tmp_path, dataset):
    config = make_config(tmp_path / "run", dataset)
    parts = build_parts(config, open_machine(config), resumes=False)
    state = {**json.loads(json.dumps(parts.state())), "step": 3}
    expected = torch.rand(4)
    drawn = []
    for captured in (state["rng"], state["rng"] * 2):
        tensors = parts.tensors()
        parts.restore(Loaded(tensors["model"], tensors["optimizer"], {**state, "rng": captured}))
        drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], expected)
    assert not torch.equal(drawn[1], expected)
    seed_generators(config.train.seed, 0, 3)
    assert torch.equal(drawn[1], torch.rand(4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("loss", ["improved_ranking", "ssi_mae"])
@pytest.mark.parametrize("decoder", ["redweb", "sgr"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_deterministic_run_on_a_gpu_resumes_bit_for_bit(tmp_path, dataset, loss, decoder, precision):
    """In programs of their own; they start CUDA before they train, so they are given the workspace from outside."""
    on_the_gpu = {"ACCELERATE_USE_CPU": "false", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    check_deterministic_run(tmp_path, dataset, loss, decoder, precision, **on_the_gpu)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("use_cpu", ["true", "false"])
def test_only_a_run_on_a_gpu_takes_its_batches_in_pinned_memory(tmp_path, dataset, monkeypatch, use_cpu):
    monkeypatch.setenv("ACCELERATE_USE_CPU", use_cpu)
    config = make_config(tmp_path / "run", dataset)
    stream = open_stream(config, open_machine(config))
    batch = next(stream.steps(0))[0]
    stream.close()
    assert batch["image"].is_pinned() == (use_cpu == "false")


def check_deterministic_run(tmp_path, dataset, loss, decoder, precision, **environment):
    changes = {
        "model__name": decoder,
        "loss": {"name": loss, "gradient_weight": 0.5},
        "optim__ema_decay": 0.9,
        "train__steps": 4,
        "train__size": 64,
        "train__precision": precision,
        "train__deterministic": True,
        "monitor__log_every_steps": 1,
    }
    whole, stopped = (make_config(tmp_path / name, dataset, **changes) for name in ("whole", "stopped"))
    run_in_processes(tmp_path, whole, 1, **environment)
    run_in_processes(tmp_path, stopped, 1, stop_after=2, **environment)
    assert read_status(Path(stopped.run)).step == 2
    run_in_processes(tmp_path, stopped, 1, **environment)
    assert losses(Path(stopped.run)) == losses(Path(whole.run))
    for name in ("model.safetensors", *(f"checkpoints/step_00000004/{part}.safetensors" for part in ("ema", "model"))):
        assert (Path(stopped.run) / name).read_bytes() == (Path(whole.run) / name).read_bytes(), name
