"""A mirror in an object store: a local S3 server. Needs the extra `test-s3`."""

import hashlib
from pathlib import Path

import pytest
import torch

from pipeline.train import mirror_copy
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import CheckpointConfig
from shards.errors import CheckpointError

pytestmark = [
    pytest.mark.slow,
    # of botocore, aiobotocore and werkzeug, which are not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SECONDS = 60.0


def store_of(run_dir: Path, url: str) -> CheckpointStore:
    return CheckpointStore(run_dir, run_id="demo", config=CheckpointConfig(mirror=url))


def tensors(value: int) -> dict:
    state = {"state": {0: {"exp_avg": torch.full((9_000_000 // 4,), -float(value))}}}
    group = {"lr": 0.1 * value, "params": [0]}
    return {"model": {"weight": torch.full((64,), float(value))}, "optimizer": {**state, "param_groups": [group]}}


def stored(url: str) -> dict[str, str]:
    import s3fs

    s3 = s3fs.S3FileSystem()
    s3.invalidate_cache()
    root = f"{url}/demo/checkpoints".removeprefix("s3://")
    return {path[len(root) + 1 :]: hashlib.sha256(s3.cat_file(path)).hexdigest() for path in s3.find(root)}


def test_checkpoints_go_to_a_bucket_and_come_back_verified(tmp_path, bucket):
    import s3fs

    store = store_of(tmp_path / "demo", bucket)
    for step in (1, 2, 3):
        store.save(step, tensors(step), {"samples_seen": step})
        store.finish()
        store.wait_for_mirror(SECONDS)
        assert store.mirrored_step == step
    root = tmp_path / "demo" / "checkpoints"
    ours = {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.*")}
    assert stored(bucket) == ours
    assert {name.partition("/")[0] for name in ours} == {"step_00000002", "step_00000003"}

    other = store_of(tmp_path / "other" / "demo", bucket)
    other.meet_mirror()
    assert other.find().step == 3
    assert torch.equal(other.load(other.find().path).model["weight"], tensors(3)["model"]["weight"])

    s3fs.S3FileSystem().pipe_file(f"{bucket}/demo/checkpoints/step_00000003/optimizer.safetensors", b"damaged")
    third = store_of(tmp_path / "third" / "demo", bucket)
    third.meet_mirror()
    assert third.find().step == 2
    s3fs.S3FileSystem().rm(f"{bucket}/demo/checkpoints/step_00000003/optimizer.safetensors")
    fourth = store_of(tmp_path / "fourth" / "demo", bucket)
    fourth.meet_mirror()
    assert fourth.find().step == 2


def test_a_bucket_that_is_not_there_ends_no_run(tmp_path, bucket):
    new = store_of(tmp_path / "demo", "s3://nowhere/runs")
    new.meet_mirror()  # lists as an empty folder: nothing to continue, as in a bucket that will be made
    new.save(1, tensors(1), {})
    new.finish()
    new.wait_for_mirror(SECONDS)
    assert (new.last_error, new.mirrored_step) == (None, None)
    assert "step 1 is not verified there" in new.shortcomings[0]


def test_a_server_that_does_not_answer_stops_a_new_run(tmp_path, bucket, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(mirror_copy, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(CheckpointError, match="no checkpoint can be had from there"):
        store_of(tmp_path / "demo", bucket).meet_mirror()
