import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

from shards.errors import ShardError
from shards.pack import pack

from .wild_pictures import Remembering, contents, flip_byte, make_pictures, noise, pack_config, save_pair

NUM_ITEMS = 12


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def once():
    return Remembering()


@pytest.fixture(scope="module")
def whole(pictures, once, tmp_path_factory):
    """Files of a run that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "set"
    report = pack(pack_config(pictures, out), executor=once)
    assert (sum(report.accepted.values()), report.carried_on) == (NUM_ITEMS - 2, 0)
    assert {len(split.shards) > 1 for split in report.manifest.splits.values()} == {True}
    assert not any(path.name.startswith(".") for path in out.iterdir())
    return contents(out)


def start(config, once, *, until=None):
    """Pack, or begin to and fail after `until` items; what was said and which items were prepared."""
    said, once.asked = [], []

    def progress(stage, done, *_):
        if stage == "packed" and done == until:
            raise Interrupted

    if until is None:
        pack(config, executor=once, progress=progress, notice=said.append)
    else:
        with pytest.raises(Interrupted):
            pack(config, executor=once, progress=progress, notice=said.append)
    return said, list(once.asked)


@pytest.mark.parametrize("until", [1, 2, 5, 6, 7, 9, 11, 12])
def test_an_interrupted_job_continues_and_ends_in_the_same_bytes(pictures, once, whole, tmp_path, until):
    config = pack_config(pictures, tmp_path / "set")
    _, before = start(config, once, until=until)
    assert not (tmp_path / "set" / "manifest.json").exists()
    said, after = start(config, once)
    assert contents(tmp_path / "set") == whole
    assert f"carried on: {until} of {NUM_ITEMS} items were done" in said
    assert len(after) == NUM_ITEMS - until
    assert set(before[:until]).isdisjoint(after)


def test_many_interruptions_are_as_good_as_none(pictures, once, whole, tmp_path):
    config = pack_config(pictures, tmp_path / "set")
    for until in (2, 5, 6, 11):
        start(config, once, until=until)
    start(config, once)
    assert contents(tmp_path / "set") == whole


def test_a_remote_job_continues_from_the_state_folder(pictures, once, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    url = "memory://carry-on/set"
    fs = fsspec.filesystem("memory")
    start(pack_config(pictures, url), once, until=9)
    said, after = start(pack_config(pictures, url), once)
    assert "carried on: 9 of 12 items were done" in said
    assert len(after) == 3
    found = {path.rpartition("/")[2]: fs.cat_file(path) for path in fs.ls(url, detail=False)}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in found.items()} == whole
    assert not list((tmp_path / "state").rglob("*.*"))
    fs.store.clear()


def damaged(folder, pattern):
    return sorted(folder.glob(pattern))[0]


@pytest.mark.parametrize("pattern", ["train-000000.tar", ".*.tar.part", ".previews.part", ".packing.jsonl"])
@pytest.mark.parametrize("place", [0.02, 0.5, 0.98])
def test_what_was_damaged_meanwhile_is_prepared_again(pictures, once, whole, tmp_path, pattern, place):
    out = tmp_path / "set"
    start(pack_config(pictures, out), once, until=11)
    path = damaged(out, pattern)
    flip_byte(path, int(place * (path.stat().st_size - 1)))
    _, after = start(pack_config(pictures, out), once)
    assert contents(out) == whole
    assert len(after) >= 1


@pytest.mark.parametrize("pattern", ["train-000000.tar", "val-000000.tar", ".*.tar.part", ".previews.part"])
def test_what_vanished_or_was_cut_short_is_prepared_again(pictures, once, whole, tmp_path, pattern):
    out = tmp_path / "set"
    for spoil in (Path.unlink, lambda path: os.truncate(path, path.stat().st_size - 700)):
        start(pack_config(pictures, out), once, until=11)
        spoil(damaged(out, pattern))
        start(pack_config(pictures, out), once)
        assert contents(out) == whole
        for path in out.iterdir():
            path.unlink()


def test_half_a_line_of_the_journal_is_cut_off(pictures, once, whole, tmp_path):
    out = tmp_path / "set"
    for lost in (1, 40, 300, 900):
        start(pack_config(pictures, out), once, until=8)
        os.truncate(out / ".packing.jsonl", (out / ".packing.jsonl").stat().st_size - lost)
        start(pack_config(pictures, out), once)
        assert contents(out) == whole
        for path in out.iterdir():
            path.unlink()


def test_a_changed_picture_is_not_taken_over(once, tmp_path):
    folder = make_pictures(tmp_path / "pictures", num=6)
    start(pack_config(folder, tmp_path / "set"), once, until=7)
    left, right = noise(128, 200, 1), noise(128, 200, 1)[:, ::-1]
    save_pair(folder, "p02", left, np.ascontiguousarray(right))
    _, after = start(pack_config(folder, tmp_path / "set"), once)
    assert after[0] == "p02_L.jpg"
    start(pack_config(folder, tmp_path / "fresh"), once)
    assert contents(tmp_path / "set") == contents(tmp_path / "fresh")


def test_pictures_that_came_or_went_move_the_place_where_it_continues(once, tmp_path):
    folder = make_pictures(tmp_path / "pictures", num=6)
    start(pack_config(folder, tmp_path / "set"), once, until=6)
    for side in "LR":
        (folder / f"p04_{side}.jpg").unlink()
        (folder / f"p02_{side}.jpg").rename(folder / f"p02b_{side}.jpg")
    said, after = start(pack_config(folder, tmp_path / "set"), once)
    assert "carried on: 3 of 7 items were done" in said
    assert len(after) == 4
    start(pack_config(folder, tmp_path / "fresh"), once)
    assert contents(tmp_path / "set") == contents(tmp_path / "fresh")


def test_other_settings_and_another_program_start_over_and_say_so(pictures, once, whole, tmp_path):
    out = tmp_path / "set"
    start(pack_config(pictures, out, jpeg_quality=70), once, until=5)
    said, after = start(pack_config(pictures, out), once, until=5)
    assert any("was begun with other settings: starting over" in line for line in said)
    assert len(after) >= 5
    head, _, rest = (out / ".packing.jsonl").read_text().partition("\n")
    other = json.dumps(json.loads(head) | {"program": "0" * 64})
    (out / ".packing.jsonl").write_text(f"{other}\n{rest}")
    said, after = start(pack_config(pictures, out), once)
    assert any("another program began" in line for line in said)
    assert len(after) == NUM_ITEMS
    assert contents(out) == whole


def test_a_job_that_was_killed_after_its_manifest_leaves_nothing_hidden(pictures, once, whole, tmp_path):
    out = tmp_path / "set"
    start(pack_config(pictures, out), once, until=NUM_ITEMS)
    left = {name: (out / name).read_bytes() for name in (".packing.jsonl", ".previews.part")}
    start(pack_config(pictures, out), once)
    for name, data in left.items():
        (out / name).write_bytes(data)
    _, after = start(pack_config(pictures, out), once)
    assert after == []
    assert contents(out) == whole


def test_a_finished_dataset_is_compared_and_never_continued(pictures, once, whole, tmp_path):
    out = tmp_path / "set"
    start(pack_config(pictures, out), once)
    said, after = start(pack_config(pictures, out), once)
    assert (len(after), [line for line in said if "carried" in line]) == (NUM_ITEMS, [])
    with pytest.raises(ShardError, match="other settings"):
        pack(pack_config(pictures, out, jpeg_quality=70), executor=once)
    assert contents(out) == whole


def check_killed(folder, tmp_path, shares):
    """`shares`: for each kill, after which share of the operations of a whole start it comes."""
    out = tmp_path / "set"
    config = pack_config(make_pictures(folder, num=5), out, shard_bytes=100_000)
    script = Path(__file__).with_name("killed_pack.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), config.model_dump_json(), str(tmp_path / "log"), *map(str, shares)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    starts = json.loads(done.stdout)
    assert contents(out) == contents(tmp_path / "set-whole")
    num_killed = sum(one["signal"] == signal.SIGKILL for one in starts)
    assert num_killed >= 1
    # Of each killed start the item at work, and the one that waited to be written, are prepared again.
    prepared = (tmp_path / "log").read_text().splitlines()
    assert set(prepared) == {f"{name}_L.jpg" for name in ("copy of p04", "twice3", *(f"p{n:02d}" for n in range(5)))}
    assert len(prepared) <= 7 + 2 * num_killed


def test_killed_for_good_it_ends_in_the_same_bytes(tmp_path):
    check_killed(tmp_path / "pictures", tmp_path, [0.5, 0.3, 0.4])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_killed_at_random_moments_it_ends_in_the_same_bytes(tmp_path, seed):
    check_killed(tmp_path / "pictures", tmp_path, np.random.default_rng(seed).uniform(0.01, 1.0, 8))
