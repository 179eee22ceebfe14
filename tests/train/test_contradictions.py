import copy
import json

import pytest

from pipeline.data.config import DataConfig
from pipeline.train.config import RunConfig, TrainConfig
from pipeline.train.contradictions import MAY_CHANGE, contradictions, reported_changes

CONFIG = RunConfig(run="runs/a", data=DataConfig(train="shards"), train=TrainConfig(steps=100)).model_dump(mode="json")


def changed(key: str, value: object) -> dict:
    config = copy.deepcopy(CONFIG)
    *blocks, name = key.split(".")
    block = config
    for part in blocks:
        block = block[part]
    assert name in block
    block[name] = value
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run", "elsewhere"),
        ("data.train", "s3://bucket/shards"),
        ("data.val", "shards"),
        ("data.train", [{"url": "shards", "weight": 1.0}, {"url": "more", "weight": 2.0}]),
        ("data.on_bad_shard", "skip"),
        ("data.num_workers", 0),
        ("data.cache_dir", "/tmp"),
        ("model.encoder_weights", "imagenet"),
        ("checkpoint.every_steps", 3),
        ("checkpoint.search", ["x"]),
        ("session.max_hours", 2.0),
        ("monitor.log_every_steps", 1),
        ("train.threads", 7),
        ("train.micro_batch_size", 2),
        ("train.deterministic", True),
        ("train.compile", True),
        ("optim.fused", True),
        ("checkpoint.mirror", "s3://bucket/runs"),
        ("session.hang_minutes", 1.0),
        ("monitor.log_samples", True),
    ],
)
def test_what_may_change_is_reported_with_both_values(key, value):
    new = changed(key, value)
    assert contradictions(CONFIG, new) == []
    (line,) = reported_changes(CONFIG, new)
    before = CONFIG
    for name in key.split("."):
        before = before[name]
    assert line.endswith(f": {key} {before!r} -> {value!r}")


def test_changes_are_reported_by_what_they_do():
    new = changed("train.threads", 3)
    new["run"], new["monitor"]["num_images"], new["optim"]["fused"] = "b", 0, True
    new["train"]["seed"] = 9  # a contradiction, told elsewhere
    assert reported_changes(CONFIG, new) == [
        "changed since the checkpoint (without influence on the weights): "
        "monitor.num_images 4 -> 0; run 'runs/a' -> 'b'",
        "changed since the checkpoint (the samples and their order stay the same, results agree within rounding): "
        "optim.fused None -> True; train.threads 0 -> 3",
    ]
    assert reported_changes(CONFIG, CONFIG) == []


def test_what_may_change_are_settings_that_exist():
    for key in (key for keys in MAY_CHANGE.values() for key in keys):
        block = CONFIG
        for name in key.split("."):
            assert name in block, key
            block = block[name]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("train.steps", 200, "train.steps: 100 in the checkpoint, 200 now"),
        ("train.batch_size", 16, "train.batch_size: 8 in the checkpoint, 16 now"),
        ("train.size", [32, 64], "train.size: [384, 384] in the checkpoint, [32, 64] now"),
        ("train.seed", 1, "train.seed: 0 in the checkpoint, 1 now"),
        ("data.limit", 5, "data.limit: None in the checkpoint, 5 now"),
        ("data.augment.flip_probability", 0.0, "data.augment.flip_probability: 0.5 in the checkpoint, 0.0 now"),
        ("model.encoder", "resnet18", "model.encoder: 'resnet50' in the checkpoint, 'resnet18' now"),
        ("optim.ema_decay", 0.9, "optim.ema_decay: None in the checkpoint, 0.9 now"),
        ("optim.lr", 0.1, "optim.lr: 0.0001 in the checkpoint, 0.1 now"),
        ("loss.name", "mae", "loss.name: 'improved_ranking' in the checkpoint, 'mae' now"),
    ],
)
def test_what_must_agree_is_told_with_both_values(key, value, text):
    assert contradictions(CONFIG, changed(key, value)) == [text]


def test_every_difference_is_told_and_a_missing_setting_is_one():
    new = changed("train.seed", 3)
    del new["loss"]["scope"]
    new["train"]["steps"], new["train"]["epochs"] = None, 2.0
    assert contradictions(CONFIG, new) == [
        "loss.scope: 'image' in the checkpoint, absent now",
        "train.epochs: None in the checkpoint, 2.0 now",
        "train.seed: 0 in the checkpoint, 3 now",
        "train.steps: 100 in the checkpoint, None now",
    ]


def test_a_config_agrees_with_itself_through_json_whether_it_has_tuples_or_lists():
    config = RunConfig(run="runs/a", data=DataConfig(train="shards"), train=TrainConfig(steps=100))
    assert contradictions(json.loads(json.dumps(CONFIG)), config.model_dump()) == []
