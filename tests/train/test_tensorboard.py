"""Event files as TensorBoard's own readers see them."""

import getpass
import logging
import os
import re
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import api_pb2, metadata

from pipeline.train.config import MonitorConfig
from pipeline.train.dashboard import FINAL_METRICS, FIRST_COLUMNS, LAYOUT, as_text, columns
from pipeline.train.histograms import Histogram
from pipeline.train.metrics_log import read_metrics
from pipeline.train.monitor import Monitor
from pipeline.train.provenance import settings_to_keep
from pipeline.train.trainer import train

from .test_trainer import COMMAND, make_config, make_dataset, train_until

ONCE = {
    "config/text_summary",
    "environment/text_summary",
    "custom_scalars__config__",
    metadata.EXPERIMENT_TAG,
    metadata.SESSION_START_INFO_TAG,
    metadata.SESSION_END_INFO_TAG,
}
"""Tags of what a run has one of, however many sessions it took."""
HISTOGRAMS = {"val/inverse_depth", "val/target", "val/pair_margin"}
PICTURES = {"val/pictures", "val/pair_overlay"}


def read(folder, kind=EventAccumulator):
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    keep_all = dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)
    return kind(str(folder), size_guidance=keep_all).Reload()


def text_of(events, tag):
    (event,) = events.Tensors(tag)
    return event.tensor_proto.string_val[0].decode()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run in three sessions, of 6 steps; the third one goes back to step 3."""
    folder = tmp_path_factory.mktemp("home")
    dataset = make_dataset(folder / "shards" / "planes")
    config = make_config(folder / "runs" / "web", dataset, monitor__log_every_steps=1, monitor__eval_every_steps=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        assert train_until(config, 2).state == "stopped"
        assert train_until(config, 4).state == "stopped"
        lost = max((folder / "runs" / "web" / "checkpoints").iterdir())
        assert lost.name == "step_00000004"
        (lost / "manifest.json").unlink()
        assert train(config, command=COMMAND).state == "finished"
    assert len(list((folder / "runs" / "web" / "tb").iterdir())) == 3
    return folder / "runs" / "web"


def test_a_run_in_three_sessions_shows_each_point_once(run):
    events = read(run / "tb")
    tags = events.Tags()
    assert set(tags["histograms"]) == HISTOGRAMS
    assert set(tags["images"]) == PICTURES
    assert {"train/loss", "train/lr", "val/whdr", "val/best_whdr", "val/pairs", "perf/evaluation_s"} <= set(
        tags["scalars"]
    )
    lines = list(read_metrics(run / "metrics.jsonl"))
    for tag in tags["scalars"]:
        assert tag.split("/")[0] in ("train", "val", "perf", "health")
        points = [(point.step, pytest.approx(point.value)) for point in events.Scalars(tag)]
        assert points == [(line["step"], line[tag]) for line in lines if tag in line], tag
    assert [point.step for point in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    # The stop file was found before the evaluation of step 2 was through; that of step 4 is of the third session.
    evaluated = [1, 3, 4, 5, 6]
    for tag in HISTOGRAMS:
        assert [point.step for point in events.Histograms(tag)] == evaluated
    for tag in PICTURES:
        assert [point.step for point in events.Images(tag)] == evaluated


def test_what_a_run_has_once_is_there_once(run):
    assert [path.name for path in (run / "tb").iterdir() if path.is_dir()] == []
    events = read(run / "tb", PluginAccumulator)
    for tag in ONCE:
        assert [event.step for event in events.Tensors(tag)] == [6], tag


def test_the_table_of_settings_names_the_last_points_of_curves_that_are_there(run):
    events = read(run / "tb", PluginAccumulator)
    content = events.PluginTagToContent("hparams")
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    end = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG])
    assert end.status == api_pb2.STATUS_SUCCESS
    assert start.hparams["train.batch_size"].number_value == 4
    assert start.hparams["loss.name"].string_value == "ranking"
    assert start.hparams["model.freeze_bn"].bool_value is False
    assert start.hparams["optim.ema_decay"].string_value == "none"
    assert {info.name for info in experiment.hparam_infos} == set(start.hparams)
    assert {info.name for info in experiment.hparam_infos if info.differs} == set(FIRST_COLUMNS)
    assert not {name for name in start.hparams if re.match(r"run$|checkpoint|session|monitor|data\.train$", name)}
    curves = read(run / "tb")
    names = {info.name.tag for info in experiment.metric_infos}
    assert names == set(FINAL_METRICS)
    assert names - {"perf/images_per_s"} <= set(curves.Tags()["scalars"])
    evaluations = [line for line in read_metrics(run / "metrics.jsonl") if "val/whdr" in line]
    assert curves.Scalars("val/whdr")[-1].value == pytest.approx(evaluations[-1]["val/whdr"])
    assert curves.Scalars("val/best_whdr")[-1].value == pytest.approx(min(line["val/whdr"] for line in evaluations))


def test_each_chart_of_the_layout_has_a_curve(run):
    events = read(run / "tb", PluginAccumulator)
    (event,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == list(LAYOUT)
    known = {*read(run / "tb").Tags()["scalars"], "perf/images_per_s", "perf/data_wait"}
    for chart in (chart for category in layout.category for chart in category.chart):
        for pattern in chart.multiline.tag:
            assert any(re.fullmatch(pattern, tag) for tag in known), pattern


def test_histograms_count_all_pixels_and_pairs(run):
    events = read(run / "tb")
    last = {tag: events.Histograms(tag)[-1].histogram_value for tag in HISTOGRAMS}
    assert last["val/inverse_depth"].num == last["val/target"].num == 3 * 40 * 56
    assert 0 < last["val/target"].min < 0.01
    assert last["val/target"].max == pytest.approx(1, abs=0.1)
    pairs, whdr = (events.Scalars(tag)[-1].value for tag in ("val/pairs", "val/whdr"))
    margins = last["val/pair_margin"]
    assert margins.num == pairs
    right = sum(count for limit, count in zip(margins.bucket_limit, margins.bucket, strict=True) if limit <= 0)
    width = margins.bucket_limit[1] - margins.bucket_limit[0]
    near = sum(c for limit, c in zip(margins.bucket_limit, margins.bucket, strict=True) if 0 < limit <= width)
    # The bin around 0 holds pairs of both kinds.
    assert right <= (1 - whdr) * pairs <= right + near


def test_nothing_private_is_written(run):
    # Shorter words are found in any picture.
    private = [word.encode() for word in (os.uname().nodename, getpass.getuser()) if len(word) > 4]
    private += [str(run.parent.parent).encode(), str(Path.home()).encode() + b"/"]
    for path in (run / "tb").iterdir():
        content = path.read_bytes()
        assert [word for word in private if word in content] == []
        assert os.uname().nodename not in path.name
    events = read(run / "tb", PluginAccumulator)
    assert "run: …/web" in text_of(events, "config/text_summary")
    assert "torch:" in text_of(events, "environment/text_summary")


def test_texts_and_columns_hide_places_and_credentials(tmp_path):
    config = make_config(
        tmp_path / "web",
        [{"url": "s3://jane:secret@host/web-shards?token=1"}],
        data__val=None,
        model__encoder_weights="/home/jane/resnet50.safetensors",
        checkpoint__init_from="/home/jane/runs/stage1",
        checkpoint__mirror="s3://jane:secret@host/runs",
    )
    settings = settings_to_keep(config)
    written = as_text(settings) + str(columns(settings))
    assert "secret" not in written
    assert "jane" not in written
    assert str(tmp_path) not in written
    for shown in ("s3://host/web-shards", "…/stage1", "…/resnet50.safetensors"):
        assert shown in written
    assert as_text({"a": [1, {"b": "# * <b>"}]}) == "    a:\n    - 1\n    - b: '# * <b>'\n"


def test_a_stopped_run_is_not_marked_as_complete(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    config = make_config(tmp_path / "run", make_dataset(tmp_path / "planes"), monitor__log_every_steps=1)
    assert train_until(config, 2).state == "stopped"
    events = read(tmp_path / "run" / "tb", PluginAccumulator)
    assert metadata.SESSION_END_INFO_TAG not in events.Tags()["tensors"]
    assert metadata.SESSION_START_INFO_TAG in events.Tags()["tensors"]


def test_facts_reach_a_log_that_a_full_disk_kept_shut_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.train.monitor.REOPEN_SECONDS", 0.0)
    (tmp_path / "tb").write_bytes(b"")
    with Monitor(tmp_path, MonitorConfig(), total_steps=9, resume_step=0) as monitor:
        monitor.describe({"run": "x"}, {"python": "3"})
        (tmp_path / "tb").unlink()
        counts = Histogram(np.linspace(0, 1, 4), np.array([3.0, 0.0, 5.0]))
        monitor.evaluation({"val/whdr": 0.5}, {"val/target": counts}, 1)
        monitor.complete()
    events = read(tmp_path / "tb", PluginAccumulator)
    assert all(len(events.Tensors(tag)) == 1 for tag in ONCE)
    (histogram,) = read(tmp_path / "tb").Histograms("val/target")
    assert (histogram.histogram_value.num, histogram.histogram_value.bucket[-1]) == (8, 5)
