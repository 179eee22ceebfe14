import gc
import hashlib
import json
import tarfile
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import pytest
import webdataset
from PIL import Image

from shards.config import PackConfig, PairsConfig, ShardsConfig
from shards.disparity import decode_disparity
from shards.errors import DataError, ShardError, SourceError
from shards.format import decode_jpeg, read_sample
from shards.names import sample_key
from shards.pack import pack
from shards.pairs import Tolerance, relations, robust_range
from shards.prepare import prepare
from shards.sources import Item
from shards.sources.config import FolderSourceConfig

from .stereo_scene import stereo_pair

BOXES = tuple((y, y + 36, x, x + 32, d) for y, x, d in ((8, 40, 11.0), (20, 120, 9.0), (70, 80, 13.0), (84, 150, 8.0)))


def save(folder, name, left, right, extension="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for side, picture in (("L", left), ("R", right)):
        Image.fromarray(picture).save(folder / f"{name}_{side}.{extension}", quality=95, subsampling=0)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Three good pairs (one swapped, one letterboxed) and one of each kind of trouble."""
    folder = tmp_path_factory.mktemp("pictures")
    scenes = [stereo_pair(128, 200, boxes=BOXES, lean_px=5, seed=seed)[:2] for seed in (11, 16, 17)]
    save(folder, "good one", *scenes[0], "jpg")
    save(folder / "sub", "swapped", scenes[1][1], scenes[1][0], "jpg")
    framed = np.zeros((2, 168, 200, 3), dtype=np.uint8)
    framed[:, 20:148] = scenes[2]
    save(folder, "framed", *framed)
    left, right = scenes[0]
    save(folder, "twice", left, left)
    save(folder, "unequal", left, right[:-20])
    save(folder, "small", left[:50], right[:50])
    save(folder, "unrelated", left, scenes[1][1])
    save(folder, "cut", left, right)
    whole = (folder / "cut_R.png").read_bytes()
    (folder / "cut_R.png").write_bytes(whole[: len(whole) // 2])
    (folder / "lonely_L.png").write_bytes(whole)
    return folder


def config(folder, out, **shards):
    source = FolderSourceConfig(kind="folder", path=str(folder), min_side_px=64)
    return PackConfig(out=str(out), source=source, shards=ShardsConfig(**({"workers": 1, "val_share": 0.3} | shards)))


@pytest.fixture(scope="session")
def packed(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "set"
    progress = []
    report = pack(config(pictures, out), progress=lambda *state: progress.append(state[:3]))
    assert progress == [(stage, done, 8) for stage in ("compared", "packed") for done in range(1, 9)]
    return out, report


def samples(out):
    members = {}
    for path in sorted(out.glob("[tv]*-*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                key, _, extension = info.name.partition(".")
                members.setdefault(key, {})[extension] = tar.extractfile(info).read()
    found = [read_sample(key, parts) for key, parts in members.items()]
    return {sample.meta["name"]: sample for sample in found}


def digests(out):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


def test_good_pairs_are_packed_and_trouble_is_counted_and_named(packed):
    out, report = packed
    assert sum(report.accepted.values()) == 3
    assert set(report.accepted) == {"train", "val"}
    assert report.rejected == {
        "no_partner": 1,
        "unreadable": 1,
        "identical": 1,
        "size_mismatch": 1,
        "too_small": 1,
        "inconsistent": 1,
    }
    assert dict(report.manifest.rejects) == report.rejected
    lines = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    assert {line["name"]: line["reason"] for line in lines} == {
        "lonely_L.png": "no_partner",
        "cut_L.png": "unreadable",
        "twice_L.png": "identical",
        "unequal_L.png": "size_mismatch",
        "small_L.png": "too_small",
        "unrelated_L.png": "inconsistent",
    }
    figures = {line["name"]: line["figures"] for line in lines}
    assert "cut_R.png" in figures["cut_L.png"]["error"]
    assert figures["unrelated_L.png"]["consistent_share"] < 0.55
    assert report.examples["unreadable"] == ["cut_L.png"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
def test_webdataset_itself_reads_the_shards(packed):
    out, _ = packed
    names = [
        json.loads(raw["json"])["name"]
        for tar in sorted(out.glob("[tv]*-*.tar"))
        for raw in webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False)
    ]
    gc.collect()
    assert sorted(names) == sorted(samples(out))


def test_samples_say_how_they_were_made(packed):
    found = samples(packed[0])
    assert set(found) == {"good one_L.jpg", "sub/swapped_L.jpg", "framed_L.png"}
    for sample in found.values():
        meta = sample.meta
        assert meta["source"] == "folder"
        assert meta["tolerance"] == {"kind": "range", "value": 0.02}
        assert (meta["sampler"]["num_pairs"], meta["sampler"]["seed"]) == (3000, 0)
        assert meta["matcher"]["name"] == "fusion"
        assert meta["size_hw"] == [*sample.disparity.shape] == [*decode_jpeg(sample.image).shape[:2]]
        figures = {"consistent_share", "agreement", "vertical_share", "layer_share", "eyes_z", "sky_share"}
        assert figures <= meta["figures"].keys()


def test_the_stored_picture_is_the_true_left_eye_unchanged(pictures, packed):
    found = samples(packed[0])
    good, swapped, framed = (found[name] for name in ("good one_L.jpg", "sub/swapped_L.jpg", "framed_L.png"))
    assert good.image == (pictures / "good one_L.jpg").read_bytes()
    assert (good.meta["eyes"], good.meta["crop_yxhw"]) == ("as_given", [0, 0, 128, 200])
    assert swapped.image == (pictures / "sub" / "swapped_R.jpg").read_bytes()
    assert swapped.meta["eyes"] == "swapped"
    y, x, height, width = framed.meta["crop_yxhw"]
    assert (y, x, height, width) == (22, 0, 124, 200)
    shown = np.asarray(Image.open(pictures / "framed_L.png"))[y : y + height]
    assert np.abs(decode_jpeg(framed.image).astype(int) - shown).mean() < 5


@pytest.mark.parametrize(("name", "seed"), [("good one_L.jpg", 11), ("sub/swapped_L.jpg", 12)])
def test_labels_are_right_whichever_eye_came_first(packed, name, seed):
    sample = samples(packed[0])[name]
    truth = stereo_pair(128, 200, boxes=BOXES, lean_px=5, seed=seed)[2]
    disparity, known = decode_disparity(sample.disparity, sample.meta["coding"])
    assert known.mean() > 0.7
    off = np.abs(disparity - truth)[known]
    assert (off < 1).mean() > 0.95
    y_a, x_a, y_b, x_b, relation = sample.pairs.T
    span = robust_range(truth, np.ones_like(truth, bool))
    true_relation = relations(truth[y_a, x_a], truth[y_b, x_b], Tolerance("range", 0.05), value_range=span)
    unequal = true_relation != 0
    assert (relation[unequal] == true_relation[unequal]).mean() > 0.95


def test_stored_pairs_are_those_of_the_stored_disparity(packed):
    for sample in samples(packed[0]).values():
        codes = sample.disparity
        y_a, x_a, y_b, x_b, relation = sample.pairs.T
        assert len(relation) == 3000
        assert (codes[y_a, x_a] > 0).all()
        assert (codes[y_b, x_b] > 0).all()
        span = robust_range(codes, codes > 0)
        expected = relations(codes[y_a, x_a], codes[y_b, x_b], Tolerance("range", 0.02), value_range=span)
        np.testing.assert_array_equal(relation, expected)


def test_pictures_are_bounded(pictures, tmp_path):
    pack(config(pictures, tmp_path / "set", long_side_px=100, pairs=PairsConfig(num_pairs=50)))
    for sample in samples(tmp_path / "set").values():
        assert max(sample.disparity.shape) == 100
        assert sample.disparity.shape == decode_jpeg(sample.image).shape[:2]
        assert sample.pairs.shape == (50, 5)


def test_the_bytes_do_not_depend_on_the_processes(pictures, packed, tmp_path):
    out, report = packed
    two = pack(config(pictures, tmp_path / "two", workers=2))
    assert digests(tmp_path / "two") == digests(out)
    assert two.manifest == report.manifest


def test_any_executor_will_do(pictures, packed, tmp_path):
    with ThreadPoolExecutor(2) as threads:
        pack(config(pictures, tmp_path / "threads"), executor=threads)
    assert digests(tmp_path / "threads") == digests(packed[0])


def test_packing_again_changes_nothing_and_other_settings_are_refused(pictures, packed, once):
    out, report = packed
    before = digests(out)
    assert pack(config(pictures, out), executor=once).manifest == report.manifest
    assert digests(out) == before
    with pytest.raises(ShardError, match=r"shards\.jpeg_quality"):
        pack(config(pictures, out, jpeg_quality=80))
    assert digests(out) == before


def test_nothing_written_tells_where_it_was_made(pictures, packed):
    for path in packed[0].iterdir():
        assert str(pictures.parent).encode() not in path.read_bytes()


def test_when_all_are_rejected_the_reasons_are_said(pictures, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    for name in ("twice", "cut"):
        for side in "LR":
            (folder / f"{name}_{side}.png").write_bytes((pictures / f"{name}_{side}.png").read_bytes())
    with pytest.raises(
        SourceError, match=r"all 2 pairs were rejected: .*identical 1 \(first: twice_L\.png\)"
    ) as caught:
        pack(config(folder, tmp_path / "out"))
    assert "unreadable 1" in str(caught.value)
    assert len((tmp_path / "out" / "rejects.jsonl").read_text().splitlines()) == 2
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_trusted_and_swapped_eyes_are_not_decided(pictures, tmp_path):
    for eyes, stored in (("as_given", "good one_L.jpg"), ("swapped", "good one_R.jpg")):
        settings = config(pictures, tmp_path / eyes)
        settings = settings.model_copy(update={"source": settings.source.model_copy(update={"eyes": eyes})})
        prepared = prepare(Item("good one_L.jpg", partner="good one_R.jpg"), settings)
        assert prepared.sample is not None
        assert prepared.sample.meta["eyes"] == eyes
        assert prepared.sample.image == (pictures / stored).read_bytes()
        assert "eyes_z" not in prepared.figures


class Once(Executor):
    """Prepares each item a single time, whatever the dataset that asks."""

    def __init__(self):
        self.results = {}

    def submit(self, function, /, item, settings):
        call = (function, item)
        if call not in self.results:
            self.results[call] = function(item, settings)
        future = Future()
        future.set_result(self.results[call])
        return future


@pytest.fixture(scope="module")
def once():
    return Once()


@pytest.mark.parametrize("val_share", [0.0, 1e-9, 0.999_999])
def test_both_splits_exist_if_one_is_wanted(pictures, tmp_path, once, val_share):
    report = pack(config(pictures, tmp_path / "set", val_share=val_share), executor=once)
    expected = {0.0: {"train": 3}, 1e-9: {"train": 2, "val": 1}, 0.999_999: {"train": 1, "val": 2}}
    assert report.accepted == expected[val_share]


def test_keys_are_plain_readable_and_unique():
    names = [
        "a/b c_L.jpg",
        "a/b-c_L.jpg",
        "a/b_c_L.jpg",
        "Ü_L.jpg",
        "日本_L.png",
        "caf\udce9_L.jpg",
        "x" * 300 + "_L.jpg",
        "A_L.jpg",
        "a_L.jpg",
    ]
    keys = [sample_key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") and 1 <= len(key) <= 80 for key in keys)
    assert keys[0].startswith("a-b-c-l-")


class LastFirst(Executor):
    """Runs what it is given when a result is asked for, and counts how much waits."""

    def __init__(self):
        self.most = self.waiting = 0

    def submit(self, function, /, *arguments):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        executor = self

        class Late(Future):
            def result(self, timeout=None):
                executor.waiting -= 1
                return function(*arguments)

        return Late()


def test_no_more_than_a_few_results_wait(pictures, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(30):
        for side in "LR":
            (folder / f"{i:02d}_{side}.png").write_bytes(b"broken")
    executor = LastFirst()
    with pytest.raises(SourceError, match="unreadable 30"):
        pack(config(folder, tmp_path / "out", workers=2), executor=executor)
    assert executor.most == 8


class Dying(Executor):
    def submit(self, function, /, *arguments):
        from concurrent.futures.process import BrokenProcessPool

        future = Future()
        future.set_exception(BrokenProcessPool("killed"))
        return future


def test_a_dead_process_is_one_clear_line(pictures, tmp_path):
    with pytest.raises(DataError, match=r"a packing process died near cut_L\.png"):
        pack(config(pictures, tmp_path / "out"), executor=Dying())
