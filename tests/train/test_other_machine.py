"""A run that goes on where nothing of it was: from its mirror, or from a read-only copy of its folder."""

import logging

import pytest
from safetensors.torch import load_file
from torch import equal

from pipeline.train.metrics_log import read_metrics
from pipeline.train.trainer import train

from .test_trainer import COMMAND, make_config, make_dataset, train_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("place", ["mirror", "search"])
def test_a_run_goes_on_elsewhere_to_the_same_weights(tmp_path, monkeypatch, caplog, place):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    caplog.set_level(logging.INFO, logger="depthrank")
    dataset = make_dataset(tmp_path / "shards")
    settings = {"model__encoder_width": 8, "monitor__log_every_steps": 1}
    whole, first, second = (tmp_path / name / "run" for name in ("whole", "first", "second"))
    train(make_config(whole, dataset, **settings), command=COMMAND)
    if place == "mirror":
        settings["checkpoint__mirror"] = f"memory://{tmp_path.name}"
    stopped = train_until(make_config(first, dataset, **settings), 3)
    assert (stopped.state, stopped.step) == ("stopped", 3)
    assert "not verified there" not in stopped.reason
    if place == "search":
        settings["checkpoint__search"] = [str(tmp_path / "fir*" / "run")]
    caplog.clear()
    status = train(make_config(second, dataset, **settings), command=COMMAND)
    assert (status.state, status.reason) == ("finished", "all steps are done")
    assert ("fetched from the mirror" in caplog.text) == (place == "mirror")
    assert "changed since the checkpoint (without influence on the weights)" in caplog.text
    ours, theirs = load_file(second / "model.safetensors"), load_file(whole / "model.safetensors")
    assert all(equal(ours[name], theirs[name]) for name in theirs)
    steps = sorted({entry["step"] for entry in read_metrics(second / "metrics.jsonl")})
    assert steps == ([1, 2, 3, 4, 5, 6] if place == "search" else [4, 5, 6])
