import hashlib
import json
import logging
import random
import shutil
import threading
from pathlib import Path

import fsspec
import pytest
import torch

from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import CheckpointConfig
from pipeline.train.mirror import Mirror
from shards.errors import CheckpointError, ConfigError, RunError
from shards.storage import home_path

SECONDS = 20.0


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO, logger="depthrank")


@pytest.fixture(params=["folder", "memory"])
def url(request, tmp_path):
    """An empty mirror: a local folder, or a remote file system that has no folders to speak of."""
    if request.param == "folder":
        yield str(tmp_path / "mirror")
        return
    place = f"memory://{tmp_path.name}"
    yield place
    fs = fsspec.filesystem("memory")
    if fs.exists(place):
        fs.rm(place, recursive=True)


def tensors(value: int) -> dict:
    group = {"lr": 0.1 * value, "params": [0]}
    return {
        "model": {"weight": torch.full((64,), float(value))},
        "optimizer": {"state": {0: {"exp_avg": torch.full((64,), -float(value))}}, "param_groups": [group]},
        "ema": {"weight": torch.full((64,), value / 2)},
    }


def store_of(run_dir: Path, url: str | None, **settings) -> CheckpointStore:
    return CheckpointStore(run_dir, run_id="demo", config=CheckpointConfig(mirror=url, **settings))


def saved(run_dir: Path, url: str | None, *steps: int, **settings) -> CheckpointStore:
    """Saves with a pause after each, so that each is mirrored."""
    store = store_of(run_dir, url, **settings)
    for step in steps:
        store.save(step, tensors(step), {"samples_seen": 8 * step})
        store.wait()
        if store._mirror is not None:
            assert store._mirror.wait(SECONDS)
    return store


def files_at(url: str) -> dict[str, bytes]:
    """Every file of the mirror's checkpoints by its name below them."""
    fs, root = fsspec.core.url_to_fs(f"{url}/demo/checkpoints")
    fs.invalidate_cache()
    return {path[len(root) + 1 :]: fs.cat_file(path) for path in fs.find(root)} if fs.exists(root) else {}


def overwrite(url: str, name: str, data: bytes | None) -> None:
    fs, root = fsspec.core.url_to_fs(f"{url}/demo/checkpoints")
    if data is None:
        fs.rm_file(f"{root}/{name}")
    else:
        fs.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{root}/{name}", data)


def files_in(run_dir: Path) -> dict[str, bytes]:
    root = run_dir / "checkpoints"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def resumed_from(run_dir: Path, url: str, **settings) -> int | None:
    store = store_of(run_dir, url, **settings)
    store.clean()
    store.meet_mirror()
    found = store.find()
    store.finish()
    store.wait_for_mirror(SECONDS)
    return None if found is None else found.step


def test_every_checkpoint_is_copied_byte_for_byte_and_old_copies_go(tmp_path, url, caplog):
    store = saved(tmp_path / "demo", url, 1, 2, 3, 4, keep_last=2, keep_every_steps=2)
    assert store.mirrored_step == 4
    assert store.shortcomings == []
    assert files_at(url) == files_in(tmp_path / "demo")
    assert sorted({name.partition("/")[0] for name in files_at(url)}) == [
        "step_00000002",
        "step_00000003",
        "step_00000004",
    ]
    assert "checkpoint of step 4 is mirrored and verified" in caplog.text


def test_another_machine_goes_on_from_the_mirror(tmp_path, url, caplog):
    saved(tmp_path / "demo", url, 1, 2)
    other = tmp_path / "elsewhere" / "demo"
    assert resumed_from(other, url) == 2
    assert files_in(other).keys() == {name for name in files_at(url) if name.startswith("step_00000002/")}
    assert all(files_at(url)[name] == data for name, data in files_in(other).items())
    assert "checkpoint of step 2 fetched from the mirror" in caplog.text
    loaded = store_of(other, url).load(other / "checkpoints" / "step_00000002")
    assert torch.equal(loaded.ema["weight"], tensors(2)["ema"]["weight"])
    saved(other, url, 3)
    assert resumed_from(tmp_path / "demo", url) == 3


def test_the_run_folder_wins_a_tie_and_a_newer_one_of_its_own(tmp_path, url, caplog):
    saved(tmp_path / "demo", url, 1, 2)
    caplog.clear()
    assert resumed_from(tmp_path / "demo", url) == 2
    saved(tmp_path / "demo", None, 3)
    assert resumed_from(tmp_path / "demo", url) == 3
    assert "fetched" not in caplog.text
    assert "step_00000003/manifest.json" in files_at(url), "the mirror catches up at the next start"


def test_a_search_root_wins_a_tie_with_the_mirror(tmp_path, url, caplog):
    saved(tmp_path / "demo", url, 1, 2)
    other = tmp_path / "elsewhere" / "demo"
    assert resumed_from(other, url, search=(str(tmp_path / "demo"),)) == 2
    assert not other.exists()
    assert "fetched" not in caplog.text


def test_none_refuses_a_mirror_that_has_the_run(tmp_path, url):
    assert resumed_from(tmp_path / "new" / "demo", url, resume="none") is None
    saved(tmp_path / "demo", url, 1)
    before = files_at(url)
    with pytest.raises(RunError, match=r"up to step 1 and checkpoint\.resume is none"):
        resumed_from(tmp_path / "new" / "demo", url, resume="none")
    assert files_at(url) == before
    with pytest.raises(RunError, match="none"):
        resumed_from(tmp_path / "demo", url, resume="none")


def test_a_copy_without_its_manifest_is_no_checkpoint(tmp_path, url):
    saved(tmp_path / "demo", url, 1, 2)
    overwrite(url, "step_00000002/manifest.json", None)
    assert resumed_from(tmp_path / "a" / "demo", url) == 1
    overwrite(url, "step_00000001/manifest.json", None)
    assert resumed_from(tmp_path / "b" / "demo", url) is None


def test_a_step_that_is_done_again_replaces_its_copy(tmp_path, url):
    saved(tmp_path / "demo", url, 1, 2)
    store = store_of(tmp_path / "demo", url)
    store.save(2, tensors(20), {"samples_seen": 16})
    store.finish()
    store.wait_for_mirror(SECONDS)
    assert files_at(url) == files_in(tmp_path / "demo")
    assert resumed_from(tmp_path / "other" / "demo", url) == 2


def test_names_that_are_not_ours_are_neither_read_nor_removed(tmp_path, url):
    overwrite(url, "step_00000009.old/manifest.json", b"{}")
    overwrite(url, "step_9/manifest.json", b"{}")
    overwrite(url, "notes.txt", b"mine")
    saved(tmp_path / "demo", url, 1, 2, 3, keep_last=2)
    assert {"step_00000009.old/manifest.json", "step_9/manifest.json", "notes.txt"} <= files_at(url).keys()
    assert resumed_from(tmp_path / "other" / "demo", url) == 3


def test_of_another_run_nothing_is_taken(tmp_path, url):
    saved(tmp_path / "demo", url, 1)
    data = files_at(url)
    fs, root = fsspec.core.url_to_fs(f"{url}/other/checkpoints")
    fs.makedirs(f"{root}/step_00000001", exist_ok=True)
    for name, content in data.items():
        fs.pipe_file(f"{root}/{name}", content)
    config = CheckpointConfig(mirror=url)
    with pytest.raises(CheckpointError, match="is of the run 'demo'"):
        CheckpointStore(tmp_path / "x" / "other", run_id="other", config=config).meet_mirror()


# Damage of every kind on every file.


def flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def extend(data: bytes, draw: random.Random) -> bytes:
    return data + bytes(draw.randrange(1, 9))


def check_damage_is_seen(tmp_path: Path, url: str, rounds: int) -> int:
    saved(tmp_path / "demo", url, 1, 2)
    whole, draw, cases = files_at(url), random.Random(3), 0
    names = [name for name in whole if name.startswith("step_00000002/")]
    assert len(names) == 6
    for number in range(rounds):
        for name in names:
            former = whole[name.replace("step_00000002", "step_00000001")]
            kinds = {f"{kind.__name__} {name}": kind(whole[name], draw) for kind in (flip, truncate, extend)}
            kinds |= {f"swapped {name}": former, f"missing {name}": None}
            for case, data in kinds.items():
                overwrite(url, name, data)
                other = tmp_path / f"other-{number}" / "demo"
                assert resumed_from(other, url) == 1, case
                left = {path.name for path in (other / "checkpoints").iterdir()}
                assert left == {"step_00000001"}, case
                shutil.rmtree(other)
                overwrite(url, name, whole[name])
                cases += 1
    return cases


def test_every_damage_at_the_mirror_is_seen_and_an_older_copy_used(tmp_path, url):
    assert check_damage_is_seen(tmp_path, url, 1) == 30


@pytest.mark.slow
def test_every_damage_at_the_mirror_is_seen_a_thousand_times(tmp_path):
    assert check_damage_is_seen(tmp_path, str(tmp_path / "mirror"), 34) >= 1000


def test_copies_that_are_all_damaged_are_an_error_and_not_a_new_run(tmp_path, url):
    saved(tmp_path / "demo", url, 1)
    overwrite(url, "step_00000001/state.json", b"{}")
    with pytest.raises(
        CheckpointError, match=r"(?s)starting anew would throw the run away.*state\.json.*set checkpoint"
    ):
        resumed_from(tmp_path / "other" / "demo", url)


def test_a_manifest_that_asks_for_more_than_the_disk_has_is_refused_before_anything_is_read(tmp_path):
    mirror = tmp_path / "mirror"
    saved(tmp_path / "demo", str(mirror), 1)
    manifest = mirror / "demo" / "checkpoints" / "step_00000001" / "manifest.json"
    size = (manifest.parent / "model.safetensors").stat().st_size
    content = json.loads(manifest.read_text())
    del content["sha256"]
    content["files"]["model.safetensors"]["bytes"] = 1 << 60
    own = hashlib.sha256((json.dumps(content, indent=1) + "\n").encode()).hexdigest()
    manifest.write_text(json.dumps({**content, "sha256": own}, indent=1) + "\n")
    assert size < 1 << 20
    with pytest.raises(CheckpointError, match="needs 11529215046"):
        resumed_from(tmp_path / "other" / "demo", str(mirror))


def test_a_link_in_the_mirror_is_not_followed(tmp_path):
    mirror = tmp_path / "mirror"
    saved(tmp_path / "demo", str(mirror), 1)
    model = mirror / "demo" / "checkpoints" / "step_00000001" / "model.safetensors"
    model.symlink_to(model.rename(tmp_path / "elsewhere.safetensors"))
    with pytest.raises(CheckpointError, match="not a plain file"):
        resumed_from(tmp_path / "other" / "demo", str(mirror))


# A mirror that cannot be had.


def test_a_mirror_that_cannot_be_written_costs_one_warning_and_nothing_else(tmp_path, caplog):
    (tmp_path / "mirror").write_text("in the way")
    store = saved(tmp_path / "demo", str(tmp_path / "mirror"), 1, 2)
    assert caplog.text.count("is not mirrored") == 1
    assert (store.last_error, store.published_step, store.mirrored_step) == (None, 2, None)
    assert store.shortcomings == ["the mirror has no checkpoint of this session, step 2 is not verified there"]
    (tmp_path / "mirror").unlink()
    store.finish()
    store.wait_for_mirror(SECONDS)  # the end of a session tries again
    assert store.mirrored_step == 2
    assert store.shortcomings == []


def test_a_mirror_that_cannot_be_read_stops_a_new_run_and_not_one_that_has_checkpoints(tmp_path, caplog):
    saved(tmp_path / "demo", None, 1)
    url = "nosuch://bucket/runs"
    assert resumed_from(tmp_path / "demo", url) == 1
    assert "mirror not searched: nosuch://bucket/runs" in caplog.text
    with pytest.raises(CheckpointError, match="no checkpoint can be had from there"):
        resumed_from(tmp_path / "new" / "demo", url)


def test_credentials_in_the_url_are_refused_without_telling_them():
    for url in ("ftp://me:secret@host/runs", "https://host/runs?token=secret"):
        with pytest.raises(ConfigError) as error:
            Mirror(url, "demo", CheckpointConfig())
        assert "secret" not in str(error.value)
        assert "host/runs" in str(error.value)


def held_up(monkeypatch) -> threading.Event:
    """Makes every upload to memory:// wait for the event."""
    from fsspec.implementations.memory import MemoryFileSystem

    go, put = threading.Event(), MemoryFileSystem.put_file

    def waiting(self, *args, **kwargs):
        assert go.wait(SECONDS)
        return put(self, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "put_file", waiting)
    return go


def test_a_slow_mirror_holds_up_no_save_and_skips_to_the_newest(tmp_path, monkeypatch, caplog):
    go = held_up(monkeypatch)
    store = store_of(tmp_path / "demo", f"memory://{tmp_path.name}", keep_last=9)
    for step in (1, 2, 3, 4):
        store.save(step, tensors(step), {})
    store.wait()
    assert store.published_step == 4
    assert store.mirrored_step is None
    go.set()
    store.finish()
    store.wait_for_mirror(SECONDS)
    done = [step for step in (1, 2, 3, 4) if f"step {step} is mirrored" in caplog.text]
    assert done == [1, 4]
    assert sum(thread.name == "mirror" for thread in threading.enumerate()) == 0


def test_the_end_of_a_session_does_not_wait_longer_than_it_was_told(tmp_path, monkeypatch, caplog):
    go = held_up(monkeypatch)
    store = store_of(tmp_path / "demo", f"memory://{tmp_path.name}")
    store.save(1, tensors(1), {})
    store.finish()
    store.wait_for_mirror(0.05)
    assert "did not end within 0 s" in caplog.text
    assert "step 1 is not verified there" in store.shortcomings[0]
    go.set()
    assert store._mirror.wait(SECONDS)
    assert not [name for name in files_at(f"memory://{tmp_path.name}") if name.endswith("manifest.json")]


def test_what_the_mirror_changes_on_the_way_is_not_believed(tmp_path, monkeypatch, caplog):
    from fsspec.implementations.memory import MemoryFileSystem

    put = MemoryFileSystem.put_file

    def damaging(self, lpath, rpath, **kwargs):
        put(self, lpath, rpath, **kwargs)
        if rpath.endswith("optimizer.safetensors"):
            self.pipe_file(rpath, flip(self.cat_file(rpath), random.Random(1)))

    url = f"memory://{tmp_path.name}"
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", damaging)
        store = saved(tmp_path / "demo", url, 1)
    assert "what is read back is not what was written" in caplog.text
    assert store.mirrored_step is None
    assert "step_00000001/manifest.json" not in files_at(url)
    store.finish()
    store.wait_for_mirror(SECONDS)
    assert files_at(url) == files_in(tmp_path / "demo")


def test_the_mirror_keeps_what_it_has_until_a_newer_copy_is_verified(tmp_path, monkeypatch):
    url = str(tmp_path / "mirror")
    store = saved(tmp_path / "demo", url, 1, 2, keep_last=2)
    before = files_at(url)
    shutil.rmtree(Path(url) / "demo" / "checkpoints" / "step_00000003", ignore_errors=True)
    (Path(url) / "demo" / "checkpoints" / "step_00000003").write_text("in the way")
    store.save(3, tensors(3), {})
    store.finish()
    store.wait_for_mirror(SECONDS)
    assert store.mirrored_step == 2
    assert before.items() <= files_at(url).items()


def test_a_path_below_home_is_spelled_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path / "demo", "~/mirror", 1)
    assert (home_path("~/mirror") / "demo" / "checkpoints" / "step_00000001" / "manifest.json").is_file()
    assert [path.name for path in (tmp_path / "mirror").iterdir()] == ["demo"]


def test_a_path_elsewhere_starts_the_run_once_and_not_again_on_every_machine(tmp_path, url):
    saved(tmp_path / "other", None, 10)
    origin = str(tmp_path / "other")
    assert resumed_from(tmp_path / "a" / "demo", url, resume=origin) == 10
    saved(tmp_path / "a" / "demo", url, 4, resume=origin)
    assert resumed_from(tmp_path / "b" / "demo", url, resume=origin) == 4
    shutil.rmtree(tmp_path / "other")
    assert resumed_from(tmp_path / "c" / "demo", url, resume=origin) == 4


def test_the_checkpoint_that_is_being_copied_is_not_deleted_under_the_copy(tmp_path, monkeypatch, caplog):
    go = held_up(monkeypatch)
    store = store_of(tmp_path / "demo", f"memory://{tmp_path.name}", keep_last=2)
    for step in range(1, 7):
        store.save(step, tensors(step), {})
        store.wait()
        assert len(list((tmp_path / "demo" / "checkpoints").iterdir())) <= 3
    go.set()
    store.wait_for_mirror(SECONDS)
    assert "step 1 is mirrored" in caplog.text
    assert "not mirrored" not in caplog.text
    assert store.mirrored_step == 6


def test_a_foreign_state_is_refused_before_it_is_put_in_the_run(tmp_path, url):
    saved(tmp_path / "demo", url, 1, 2)
    store = store_of(tmp_path / "mine" / "demo", url)
    seen = []

    def refuse(state, place):
        seen.append((state["samples_seen"], place))
        raise RunError("of another run")

    with pytest.raises(RunError, match="of another run"):
        store.meet_mirror(refuse)
    assert len(seen) == 1
    assert seen[0][0] == 16
    assert seen[0][1].endswith("demo/checkpoints/step_00000002")
    assert files_in(tmp_path / "mine" / "demo") == {}


def test_a_copy_that_was_damaged_since_is_made_anew_by_the_next_session(tmp_path, url):
    saved(tmp_path / "demo", url, 1)
    overwrite(url, "step_00000001/model.safetensors", b"x")
    store = store_of(tmp_path / "demo", url)
    store.meet_mirror()
    store.wait_for_mirror(SECONDS)
    assert store.mirrored_step == 1
    assert files_at(url) == files_in(tmp_path / "demo")


def test_the_run_folder_is_no_mirror_of_itself(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    for url in (str(tmp_path), f"file://{tmp_path}", str(tmp_path / "link")):
        with pytest.raises(ConfigError, match="where the run itself lies"):
            store_of(tmp_path / "demo", url)
    store_of(tmp_path / "demo", str(tmp_path / "elsewhere"))


def test_a_mirror_where_nothing_may_be_removed_still_counts_as_one(tmp_path, monkeypatch, caplog):
    from fsspec.implementations.memory import MemoryFileSystem

    def refused(self, *args, **kwargs):
        raise PermissionError(13, "no right to delete")

    monkeypatch.setattr(MemoryFileSystem, "rm_file", refused)
    store = saved(tmp_path / "demo", f"memory://{tmp_path.name}", 1, 2, 3, 4)
    assert store.mirrored_step == 4
    assert caplog.text.count("old copies at the mirror are not removed") == 1
    assert "not mirrored" not in caplog.text


def test_a_thread_that_cannot_be_started_is_a_copy_that_failed(tmp_path, monkeypatch, caplog):
    store, start = store_of(tmp_path / "demo", str(tmp_path / "mirror")), threading.Thread.start

    def only_the_writer(thread):
        if thread.name == "mirror":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", only_the_writer)
        store.save(1, tensors(1), {})
        store.wait()
    assert "step_00000001 is not mirrored: can't start new thread" in caplog.text
    store.finish()
    store.wait_for_mirror(SECONDS)
    assert store.mirrored_step == 1


def test_of_two_trainers_at_one_mirror_the_one_that_came_last_has_the_say(tmp_path, url, caplog):
    first = saved(tmp_path / "a" / "demo", url, 1)
    second = saved(tmp_path / "b" / "demo", url, 2)
    before = files_at(url)
    first.save(3, tensors(3), {"samples_seen": 24})
    first.finish()
    first.wait_for_mirror(SECONDS)
    assert (first.mirrored_step, second.mirrored_step) == (1, 2)
    assert "another trainer mirrors a run of this name there" in caplog.text
    assert files_at(url) == before
    assert "step 3 is not verified there" in first.shortcomings[0]
