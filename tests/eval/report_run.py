"""A small run folder with a dataset beside it, for the tests of the report."""

import json

import torch
import yaml

from model import DepthNet, ModelConfig
from pipeline.train.checkpoint_folder import Snapshot, write_folder
from pipeline.train.config import RunConfig
from pipeline.train.provenance import settings_to_keep
from pipeline.train.status import Status, write_status

from ..data.small_dataset import make_sample, write_dataset

__all__ = ["make_run", "make_sample"]

MODEL = {"encoder": "resnet18", "encoder_width": 8, "decoder_channels": 8}


def make_run(folder, *, state="stopped", finished=False, steps=(20, 40), val=5):
    """A run of 100 steps in two sessions, with a checkpoint at each of `steps`."""
    shards = folder / "shards"
    write_dataset(shards, samples=4, val=val)
    run = folder / "web"
    run.mkdir()
    config = RunConfig.model_validate(
        {
            "run": str(run),
            "data": {"train": str(shards), "val": str(shards) if val else None},
            "model": MODEL,
            "train": {"steps": 100, "size": [32, 64]},
        }
    )
    settings = settings_to_keep(config)
    (run / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (run / "env.json").write_text(json.dumps({"device": "cpu", "python": "3", "host": "jane-pc", "packages": {}}))
    lines = []
    for step in range(5, 45, 5):
        figures = {"samples_seen": 8 * step, "train/loss": 1 / step, "train/lr": 1e-3, "health/grad_norm": 2.0}
        lines.append(
            {"step": step, **figures, "perf/images_per_s": 20.0, "perf/data_wait": 0.1, "session": 1 + step // 25}
        )
    lines += [{"step": 20, "val/whdr": 0.31, "session": 1}, {"step": 40, "val/whdr": 0.27, "session": 2}]
    lines.sort(key=lambda entry: entry["step"])
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in lines))
    torch.manual_seed(0)
    net = DepthNet.from_config(ModelConfig(**MODEL))
    weights = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    for step in steps:
        snapshot = Snapshot(step, weights, {}, {}, {"config": settings})
        write_folder(run / "checkpoints" / f"step_{step:08d}", snapshot, run_id="web")
    if finished:
        net.save_pretrained(run, size_hw=(32, 64))
    command = f"python -m launch.train --config c.yaml run={run}"
    write_status(
        run,
        Status(
            state="finished" if finished else state,
            reason=f"received SIGTERM in {run}",
            step=40,
            total_steps=100,
            samples_seen=320,
            hours=0.5,
            next_command=command,
        ),
    )
    return run
