import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import stat
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.checkpoint_folder import read_folder, stamp_of, step_of, verify_folder
from pipeline.train.checkpoint_manifest import json_bytes
from pipeline.train.config import CheckpointConfig
from shards.errors import CheckpointError, RunError

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["pytest", "pipeline.train.checkpoint", "pipeline.train.session"])


def contents(value: int, size: int = 64) -> dict:
    model = {
        "weight": torch.full((size, 2), float(value)),
        "half": torch.tensor([value / 3], dtype=torch.bfloat16),
        "num_batches_tracked": torch.tensor(value),
        "mask": torch.tensor([[True], [False]]),
        "empty": torch.zeros(0, 3),
        "strided": torch.arange(6.0).view(2, 3).T,
    }
    moments = {"step": torch.tensor(float(value)), "exp_avg": torch.full((size,), -float(value))}
    group = {"lr": 0.1 * value, "betas": (0.9, 0.999), "fused": None, "params": [0]}
    ema = {"weight": torch.full((size, 2), value / 7), "num_batches_tracked": torch.tensor(value)}
    return {"model": model, "optimizer": {"state": {0: moments}, "param_groups": [group]}, "ema": ema}


def without_ema(value: int) -> dict:
    return {name: tensors for name, tensors in contents(value).items() if name != "ema"}


def store_of(run_dir: Path, run_id: str = "run", **settings) -> CheckpointStore:
    return CheckpointStore(run_dir, run_id=run_id, config=CheckpointConfig(**settings))


def saved(run_dir: Path, *steps: int, run_id: str = "run", **settings) -> CheckpointStore:
    store = store_of(run_dir, run_id, **settings)
    for step in steps:
        store.save(step, contents(step), {"samples_seen": 8 * step})
    store.wait()
    assert store.last_error is None
    return store


def steps_in(run_dir: Path) -> list[int]:
    names = [path.name for path in (run_dir / "checkpoints").iterdir()]
    assert all(step_of(name) is not None for name in names), names
    return sorted(step_of(name) for name in names)


def is_bit_equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        a[key].dtype == b[key].dtype and a[key].shape == b[key].shape and torch.equal(a[key], b[key]) for key in a
    )


def test_what_is_loaded_is_bit_equal_to_what_was_saved(tmp_path):
    saved(tmp_path, 7)
    store = store_of(tmp_path)
    found = store.find()
    assert (found.step, found.refused) == (7, [])
    assert found.state == {"samples_seen": 56, "format_version": 3, "run_id": "run", "step": 7}
    loaded = store.load(found.path)
    assert is_bit_equal(loaded.model, contents(7)["model"])
    assert is_bit_equal(loaded.ema, contents(7)["ema"])
    expected = contents(7)["optimizer"]
    assert is_bit_equal(loaded.optimizer["state"][0], expected["state"][0])
    assert loaded.optimizer["param_groups"] == expected["param_groups"]
    assert loaded.state == found.state


def test_a_run_without_a_moving_average_has_no_file_of_it(tmp_path):
    store = store_of(tmp_path)
    store.save(1, contents(1), {})
    store.save(2, without_ema(2), {})
    store.save(3, contents(3), {})
    store.wait()
    folders = [tmp_path / "checkpoints" / f"step_0000000{step}" for step in (2, 3)]
    assert [(folder / "ema.safetensors").exists() for folder in folders] == [False, True]
    assert store.load(folders[0]).ema is None
    assert is_bit_equal(store.load(folders[1]).ema, contents(3)["ema"])
    # One that was added by hand is not taken for part of the checkpoint.
    shutil.copy(folders[1] / "ema.safetensors", folders[0])
    assert store.load(folders[0]).ema is None


def test_a_checkpoint_is_a_few_plain_files_that_others_can_read(tmp_path):
    saved(tmp_path, 1200)
    folder = tmp_path / "checkpoints" / "step_00001200"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "ema.safetensors",
        "manifest.json",
        "model.safetensors",
        "optimizer.json",
        "optimizer.safetensors",
        "state.json",
    ]
    assert len({stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}) == 1
    assert is_bit_equal(load_file(folder / "model.safetensors"), contents(1200)["model"])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format_version"], manifest["run_id"], manifest["step"]) == (3, "run", 1200)
    assert manifest["files"]["state.json"]["bytes"] == (folder / "state.json").stat().st_size


def test_a_new_run_finds_nothing_and_writes_nothing(tmp_path):
    assert store_of(tmp_path / "new").find() is None
    assert not (tmp_path / "new").exists()


def test_training_may_change_the_tensors_while_they_are_written(tmp_path):
    store, tensors, state = store_of(tmp_path), contents(1, size=1 << 18), {"best": {"step": 1}}
    store.save(1, tensors, state)
    groups = (tensors["model"], tensors["ema"], tensors["optimizer"]["state"][0])
    for tensor in [tensor for group in groups for tensor in group.values()]:
        tensor.zero_()
    tensors["optimizer"]["param_groups"][0]["lr"] = state["best"]["step"] = 0
    store.wait()
    loaded = store.load(store.find().path)
    assert is_bit_equal(loaded.model, contents(1, size=1 << 18)["model"])
    assert is_bit_equal(loaded.ema, contents(1, size=1 << 18)["ema"])
    assert loaded.optimizer["param_groups"] == contents(1)["optimizer"]["param_groups"]
    assert loaded.state["best"] == {"step": 1}


def test_only_what_was_just_found_is_read_without_verifying_it_again(tmp_path):
    saved(tmp_path, 1, 2)
    store = store_of(tmp_path)
    found = store.find()
    older = found.path.with_name("step_00000001")
    assert is_bit_equal(store.load(found.path).model, contents(2)["model"])
    for folder in (older, found.path):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
        with pytest.raises(CheckpointError, match="sha256 does not agree"):
            store.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "optimizer.json", "state.json"])
@pytest.mark.parametrize("replaced", [True, False])
def test_what_is_damaged_between_finding_and_loading_is_seen(tmp_path, name, replaced):
    store = saved(tmp_path, 1)
    found = store.find()
    damaged = found.path / name
    content = damaged.read_bytes()[:-2] + b"7}"
    if replaced:
        damaged.unlink()
    damaged.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: damaged"):
        store.load(found.path)


def test_a_stamp_that_holds_spares_the_second_hashing(tmp_path):
    saved(tmp_path, 1)
    folder = tmp_path / "checkpoints" / "step_00000001"
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    assert read_folder(folder, verified=stamp_of(folder)).state["step"] == 1
    with pytest.raises(CheckpointError, match="sha256 does not agree"):
        read_folder(folder, verified={})


def test_one_write_is_in_flight_at_most(tmp_path):
    store = store_of(tmp_path, keep_last=10)
    for step in range(1, 6):
        store.save(step, contents(step), {})
        assert sum(thread.name == "checkpoint" for thread in threading.enumerate()) <= 1
        assert step == 1 or store.published_step == step - 1
    store.wait()
    assert steps_in(tmp_path) == [1, 2, 3, 4, 5]
    assert store.slowest_save_seconds > 0


@pytest.mark.parametrize(("state", "error"), [({"loss": float("nan")}, ValueError), ({"path": Path()}, TypeError)])
def test_a_state_that_is_not_json_is_told_at_once(tmp_path, state, error):
    with pytest.raises(error):
        store_of(tmp_path).save(1, contents(1), state)


def test_a_step_that_is_done_again_replaces_its_checkpoint(tmp_path):
    saved(tmp_path, 1, 2)
    store = store_of(tmp_path)
    store.save(2, contents(20), {"attempt": 2})
    store.wait()
    assert store.find().state["attempt"] == 2
    assert float(store.load(store.find().path).model["weight"][0, 0]) == 20
    assert steps_in(tmp_path) == [1, 2]


def test_the_newest_the_multiples_and_the_best_are_kept(tmp_path):
    store = store_of(tmp_path, keep_last=2, keep_every_steps=40)
    for step, metric in [(10, 0.5), (20, 0.2), (30, None), (40, 0.4), (50, float("nan")), (60, 0.3), (70, 0.3)]:
        store.save(step, contents(step), {}, metric=metric)
    store.wait()
    assert steps_in(tmp_path) == [20, 40, 60, 70]
    again = store_of(tmp_path, keep_last=2)
    again.save(80, contents(80), {}, metric=0.1)
    again.wait()
    assert steps_in(tmp_path) == [70, 80]


def test_damaged_checkpoints_do_not_count_among_those_kept(tmp_path):
    saved(tmp_path, 1, 2, 3, keep_last=3)
    damage = tmp_path / "checkpoints" / "step_00000003" / "model.safetensors"
    damage.write_bytes(damage.read_bytes()[:-1] + b"\xff")
    saved(tmp_path, 4, keep_last=2)
    assert steps_in(tmp_path) == [2, 4]


def test_steps_after_the_one_that_was_resumed_are_left_alone(tmp_path):
    saved(tmp_path, 1, 2, 9, keep_last=3)
    saved(tmp_path, 3, keep_last=2)
    assert steps_in(tmp_path) == [2, 3, 9]


# Damage: every kind on every file, at random places.


def flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def blank(path: Path, draw: random.Random) -> None:
    """Change the white space of a JSON file, and nothing that it says."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\n", b"\r", 1) if path.suffix == ".json" else data + b"\n")


def truncate(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def extend(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + bytes(draw.randrange(1, 9)))


def remove(path: Path, draw: random.Random) -> None:
    path.unlink()


def swap(path: Path, draw: random.Random) -> None:
    """The same file of the step before."""
    shutil.copy(path.parents[1] / "step_00000002" / path.name, path)


def link(path: Path, draw: random.Random) -> None:
    """Intact content, but elsewhere."""
    path.symlink_to(path.rename(path.parents[2] / path.name))


def folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def deep(path: Path, draw: random.Random) -> None:
    path.write_bytes(b"[" * 10_000)


KINDS = [flip, flip, flip, blank, truncate, truncate, extend, remove, swap, link, folder, deep]


def damaged_runs(tmp_path: Path, rounds: int):
    whole = tmp_path / "whole"
    saved(whole, 1, 2, 3, keep_last=3)
    names = sorted(path.name for path in (whole / "checkpoints" / "step_00000003").iterdir())
    draw = random.Random(5)
    for number in range(rounds):
        for kind in KINDS:
            for name in names:
                run_dir = tmp_path / f"run-{number}"
                shutil.copytree(whole, run_dir, symlinks=True)
                kind(run_dir / "checkpoints" / "step_00000003" / name, draw)
                yield run_dir, f"{kind.__name__} {name}"
                shutil.rmtree(run_dir)


def check_damage_is_seen(tmp_path: Path, rounds: int) -> int:
    cases = 0
    for run_dir, case in damaged_runs(tmp_path, rounds):
        # State and optimizer.json of step 3 would be equal to those of step 2 only if the swap changed nothing.
        found = store_of(run_dir).find()
        assert found.step == 2, case
        ((refused, why),) = found.refused
        assert refused.name == "step_00000003", case
        assert "step_00000003" in why, case
        with pytest.raises(CheckpointError):
            read_folder(refused)
        cases += 1
    return cases


def test_every_damage_is_seen_and_an_older_checkpoint_used(tmp_path):
    assert check_damage_is_seen(tmp_path, 2) == 144


@pytest.mark.slow
def test_every_damage_is_seen_and_an_older_checkpoint_used_a_thousand_times(tmp_path):
    assert check_damage_is_seen(tmp_path, 14) >= 1000


def test_checkpoints_that_are_all_damaged_are_an_error_and_not_a_new_run(tmp_path):
    saved(tmp_path, 1, 2)
    for step in (1, 2):
        (tmp_path / "checkpoints" / f"step_0000000{step}" / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)no checkpoint verifies.*step_00000002.*step_00000001.*move"):
        store_of(tmp_path).find()


def test_a_checkpoint_under_another_steps_name_is_refused(tmp_path):
    saved(tmp_path, 1, 2)
    (tmp_path / "checkpoints" / "step_00000002").rename(tmp_path / "checkpoints" / "step_00000009")
    found = store_of(tmp_path).find()
    assert (found.step, [path.name for path, _ in found.refused]) == (1, ["step_00000009"])
    assert "of step 2" in found.refused[0][1]


def test_a_later_format_is_named_as_such(tmp_path):
    saved(tmp_path, 1)
    manifest = tmp_path / "checkpoints" / "step_00000001" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 3', '"format_version": 2'))
    with pytest.raises(CheckpointError, match="format_version is 2, this program reads 3"):
        verify_folder(manifest.parent)


def test_a_huge_json_is_refused_before_it_is_read(tmp_path):
    saved(tmp_path, 1)
    manifest = tmp_path / "checkpoints" / "step_00000001" / "manifest.json"
    os.truncate(manifest, 1 << 40)  # sparse
    with pytest.raises(CheckpointError, match="at most 65536 are read"):
        verify_folder(manifest.parent)


# Where to resume from.


def test_auto_searches_other_places_for_the_same_run_and_writes_nothing_there(tmp_path):
    saved(tmp_path / "input" / "a" / "demo", 5, run_id="demo")
    saved(tmp_path / "input" / "b" / "demo", 6, run_id="demo")
    saved(tmp_path / "input" / "c" / "other", 9, run_id="other")
    (tmp_path / "input" / "a" / "demo" / "checkpoints" / ".step_00000007.tmp-1").mkdir()
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    run_dir = tmp_path / "runs" / "demo"
    store = store_of(run_dir, "demo", search=(str(tmp_path / "nowhere"), str(tmp_path / "input" / "*" / "*")))
    found = store.find()
    assert (found.step, found.path.parents[1]) == (6, tmp_path / "input" / "b" / "demo")
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before

    saved(run_dir, 6, run_id="demo")
    assert store.find().path.parents[1] == run_dir, "the run folder wins a tie"
    saved(tmp_path / "input" / "a" / "demo", 7, run_id="demo")
    assert store.find().step == 7
    damage = tmp_path / "input" / "a" / "demo" / "checkpoints" / "step_00000007" / "optimizer.json"
    damage.write_bytes(b"{}")
    found = store.find()
    assert (found.step, [path for path, _ in found.refused]) == (6, [damage.parent])


@pytest.mark.parametrize("below", ["", "checkpoints", "checkpoints/step_00000004"])
def test_a_search_root_may_be_a_run_its_checkpoints_or_one_of_them(tmp_path, below):
    saved(tmp_path / "X", 4)
    assert store_of(tmp_path / "run", search=(str(tmp_path / "X" / below),)).find().step == 4


def test_a_search_that_covers_the_run_itself_reports_a_refusal_once(tmp_path):
    saved(tmp_path / "runs" / "run", 1, 2)
    (tmp_path / "runs" / "run" / "checkpoints" / "step_00000002" / "manifest.json").unlink()
    found = store_of(tmp_path / "runs" / "run", search=(str(tmp_path / "runs" / "*"),)).find()
    assert (found.step, len(found.refused)) == (1, 1)


def test_a_renamed_run_goes_on(tmp_path):
    saved(tmp_path, 1, run_id="former name")
    assert store_of(tmp_path).find().step == 1


def test_none_refuses_to_touch_a_run_that_has_checkpoints(tmp_path):
    assert store_of(tmp_path, resume="none").find() is None
    saved(tmp_path, 3)
    with pytest.raises(RunError, match=r"up to step 3 and checkpoint.resume is none; set it to auto"):
        store_of(tmp_path, resume="none").find()


def test_a_path_inside_the_run_does_not_rewind_it_at_every_start(tmp_path):
    saved(tmp_path, 1, 2)
    assert store_of(tmp_path, resume=str(tmp_path)).find().step == 2
    assert store_of(tmp_path, resume=str(tmp_path / "checkpoints" / "step_00000002")).find().step == 2
    with pytest.raises(RunError, match=r"step_00000001 is older than step 2.*move the newer folders away"):
        store_of(tmp_path, resume=str(tmp_path / "checkpoints" / "step_00000001")).find()


def test_a_path_elsewhere_starts_the_run_and_its_own_checkpoints_continue_it(tmp_path):
    saved(tmp_path / "old", 5, 8, run_id="old")
    path = tmp_path / "old" / "checkpoints" / "step_00000005"
    store = store_of(tmp_path / "new", "new", resume=str(path))
    assert (store.find().step, store.find().state["run_id"]) == (5, "old")
    assert store_of(tmp_path / "new", "new", resume=str(tmp_path / "old")).find().step == 8
    saved(tmp_path / "new", 6, run_id="new")
    assert (store.find().step, store.find().state["run_id"]) == (6, "new")


def test_a_path_without_a_checkpoint_or_with_a_damaged_one_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        store_of(tmp_path, resume=str(tmp_path / "nothing")).find()
    saved(tmp_path / "old", 5, 8, run_id="old")
    damaged = tmp_path / "old" / "checkpoints" / "step_00000008"
    (damaged / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json: is missing"):
        store_of(tmp_path / "new", resume=str(damaged)).find()


# Killed, and full disks.


def save_for_ever(run_dir: Path) -> None:
    store = store_of(run_dir)
    store.clean()
    found = store.find()
    step = found.step if found else 0
    while True:
        step += 1
        for attempt in (0, 1):  # the second replaces the first
            store.save(step, contents(2 * step + attempt), {"attempt": attempt})


def survive_kills(run_dir: Path, kills: int) -> None:
    draw, last = random.Random(3), 0
    for _ in range(kills):
        child = FORKSERVER.Process(target=save_for_ever, args=(run_dir,))
        child.start()
        folders = run_dir / "checkpoints"
        while not folders.exists() or max(map(int, (p.name[5:] for p in folders.glob("step_*"))), default=0) <= last:
            assert child.is_alive()
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.05))
        child.kill()
        child.join()
        child.close()

        store = store_of(run_dir)
        store.clean()
        found = store.find()
        assert found.refused == []
        # A step can be lost with its folder set aside for the replacement, never more.
        assert found.step >= last
        last = found.step
        loaded = store.load(found.path)
        assert is_bit_equal(loaded.model, contents(2 * last + found.state["attempt"])["model"])
        assert loaded.state["step"] == last
    # A kill between a publication and the removal of older ones leaves one more each time; the next save catches up.
    saved(run_dir, last + 1)
    assert steps_in(run_dir)[-1] == last + 1
    assert len(steps_in(run_dir)) == 2


def test_kill_9_in_the_middle_of_saves_leaves_a_verified_checkpoint(tmp_path):
    survive_kills(tmp_path, 10)


@pytest.mark.slow
def test_kill_9_in_the_middle_of_saves_leaves_a_verified_checkpoint_300_times(tmp_path):
    survive_kills(tmp_path, 300)


def test_a_kill_between_the_two_renames_of_a_replacement_brings_the_former_back(tmp_path):
    saved(tmp_path, 1, 2)
    folder = tmp_path / "checkpoints"
    (folder / "step_00000002").rename(folder / ".step_00000002.old-99")
    shutil.copytree(folder / "step_00000001", folder / ".step_00000001.old-99")  # its successor did come
    (folder / ".step_00000003.tmp-99").mkdir()
    (folder / "mine.txt").write_text("not ours to remove")
    assert store_of(tmp_path).find().step == 1, "looking moves nothing"
    store_of(tmp_path).clean()
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["mine.txt", "step_00000001", "step_00000002"]
    assert store_of(tmp_path).find().step == 2


def test_the_first_save_removes_what_a_killed_writer_left(tmp_path):
    (tmp_path / "checkpoints" / ".step_00000003.tmp-99").mkdir(parents=True)
    saved(tmp_path, 1)
    assert steps_in(tmp_path) == [1]


def save_with_files_of_at_most(limit_bytes: int, run_dir: Path, results) -> None:
    store = saved(run_dir, 1, 2)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    store.save(3, contents(3, size=5000), {"note": "x" * 3000})
    store.wait()
    error = store.last_error
    left = steps_in(run_dir)  # nothing half done either
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    store.save(4, contents(4, size=5000), {})
    store.wait()
    results.put((error, left, store.last_error, store.find().step))


@pytest.mark.parametrize("limit_bytes", [0, 2000, 10_000, 30_000])  # state.json, then either of the tensor files
def test_a_write_that_fails_costs_no_older_checkpoint_and_is_tried_again(tmp_path, limit_bytes):
    results = FORKSERVER.Queue()
    child = FORKSERVER.Process(target=save_with_files_of_at_most, args=(limit_bytes, tmp_path, results))
    child.start()
    error, left, later_error, newest = results.get(timeout=60)
    child.join()
    assert "File too large" in error
    assert left == [1, 2]
    assert later_error is None
    assert newest == 4


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path, monkeypatch, caplog):
    store = saved(tmp_path, 1, 2)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    store.save(3, contents(3, size=2_000_000), {})
    store.wait()
    assert store.last_error == "disk full; it needs 44 MB, 10 MB are free"
    assert f"checkpoint of step 3 not saved in {tmp_path / 'checkpoints'}: disk full; it needs" in caplog.text
    assert steps_in(tmp_path) == [1, 2]
    store.require_space(9_000_000)
    with pytest.raises(RunError, match=r"need 33 MB more \(10 MB each\), 10 MB are free; free some space"):
        store_of(tmp_path / "new").require_space(10_000_000)


def test_a_folder_that_cannot_be_written_to_costs_nothing_but_a_warning(tmp_path, caplog):
    (tmp_path / "checkpoints").write_text("in the way")
    store = store_of(tmp_path)
    store.save(1, contents(1), {})
    store.wait()
    assert "checkpoint of step 1 not saved" in caplog.text
    assert (tmp_path / "checkpoints").read_text() == "in the way"


def test_a_manifest_that_vanishes_does_not_keep_old_checkpoints_for_ever(tmp_path):
    store = store_of(tmp_path, keep_last=2)
    for step in range(1, 8):
        store.save(step, contents(step), {}, metric=0.1 if step == 1 else 0.5)
        store.wait()
        if step == 3:
            (tmp_path / "checkpoints" / "step_00000001" / "manifest.json").unlink()
    # The best that is left is the newest of equals.
    assert steps_in(tmp_path) == [6, 7]


def test_a_figure_beyond_all_numbers_is_damage(tmp_path):
    saved(tmp_path, 1, 2)
    path = tmp_path / "checkpoints" / "step_00000002" / "manifest.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    content["metric"] = 10**400
    path.write_bytes(json_bytes({**content, "sha256": hashlib.sha256(json_bytes(content)).hexdigest()}))
    found = store_of(tmp_path).find()
    assert (found.step, len(found.refused)) == (1, 1)


def test_a_thread_that_cannot_be_started_is_a_save_that_failed(tmp_path, monkeypatch):
    store = saved(tmp_path, 1)

    def no_thread(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        store.save(2, contents(2), {})
    assert "can't start new thread" in store.last_error
    store.finish()
    assert (store.last_error, store.find().step) == (None, 2)


def test_a_folder_that_cannot_be_put_in_order_is_an_error_that_every_process_hears_of(tmp_path, monkeypatch):
    (tmp_path / "checkpoints" / ".step_00000003.old-9").mkdir(parents=True)

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(RunError, match="cannot be put in order"):
        store_of(tmp_path).clean()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        store_of(tmp_path / "file").require_space(1)
