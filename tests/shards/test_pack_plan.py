"""What decides which pictures get into a dataset: near-duplicates, decisions, and what the manifest says of it."""

import json

import fsspec
import numpy as np
import pytest
from PIL import Image

from shards.config import PackConfig, PairsConfig, ShardsConfig
from shards.decisions import Decision, Decisions, write_decisions
from shards.errors import DataError, ShardError
from shards.pack import pack
from shards.sources.config import HrwsiSourceConfig

from .stereo_scene import stereo_pair
from .wild_pictures import BOXES, Remembering, contents, make_pictures, pack_config


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"), num=5)


@pytest.fixture(scope="module")
def once():
    return Remembering()


def verdicts(out):
    """Split or reason of each picture, as the review page reads them."""
    from shards.review_entries import read_previews

    return {entry.name: entry.split or entry.reason for entry in read_previews(str(out))}


@pytest.mark.parametrize("val_share", [0.2, 0.5, 0.8])
def test_a_copy_goes_where_its_original_goes(pictures, once, tmp_path, val_share):
    said = []
    pack(pack_config(pictures, tmp_path / "set", val_share=val_share), executor=once, notice=said.append)
    found = verdicts(tmp_path / "set")
    assert found["copy of p04_L.jpg"] == found["p04_L.jpg"] in ("train", "val")
    assert said == ["4 near-duplicates in 2 groups are kept on one side of the split"]  # p03 is there twice too


@pytest.mark.parametrize("settings", [{"near_duplicate_bits": 0}, {"val_share": 0.0}])
def test_nothing_is_compared_where_nothing_can_leak_or_nobody_wants_it(pictures, once, tmp_path, settings):
    stages = set()
    config = pack_config(pictures, tmp_path / "set", **settings)
    pack(config, executor=once, progress=lambda stage, *_: stages.add(stage))
    assert stages == {"packed"}


def test_a_training_picture_like_one_given_to_val_is_left_out(tmp_path):
    folder = tmp_path / "hrwsi"
    for split, name, seed, quality in (("train", "a", 1, 95), ("train", "b", 2, 95), ("val", "z", 1, 70)):
        for kind in ("imgs", "gts", "valid_masks"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        left, _, disparity = stereo_pair(128, 200, boxes=BOXES, seed=seed)
        Image.fromarray(left).save(folder / split / "imgs" / f"{name}.jpg", quality=quality)
        Image.fromarray((disparity * 10).astype(np.uint8)).save(folder / split / "gts" / f"{name}.png")
        Image.fromarray(np.full((128, 200), 255, np.uint8)).save(folder / split / "valid_masks" / f"{name}.png")
    config = PackConfig(
        out=str(tmp_path / "set"),
        source=HrwsiSourceConfig(kind="hrwsi", path=str(folder)),
        shards=ShardsConfig(workers=1, pairs=PairsConfig(num_pairs=50)),
    )
    report = pack(config)
    assert report.accepted == {"train": 1, "val": 1}
    assert report.rejected == {"near_duplicate_of_val": 1}
    line = json.loads((tmp_path / "set" / "rejects.jsonl").read_text())
    assert line == {
        "name": "train/imgs/a.jpg",
        "reason": "near_duplicate_of_val",
        "figures": {"like": "val/imgs/z.jpg"},
    }
    assert verdicts(tmp_path / "set") == {
        "train/imgs/a.jpg": "near_duplicate_of_val",
        "train/imgs/b.jpg": "train",
        "val/imgs/z.jpg": "val",
    }


def test_the_content_of_the_decisions_counts_and_not_their_place(pictures, once, tmp_path):
    decisions = Decisions(decisions=(Decision(name="p01_L.jpg", eyes="as_given"), Decision(name="gone.jpg")))
    for name in ("here.json", "there.json"):
        write_decisions(str(tmp_path / name), decisions)
    said = []
    report = pack(
        pack_config(pictures, tmp_path / "set", decisions=str(tmp_path / "here.json")),
        executor=once,
        notice=said.append,
    )
    assert report.manifest.config["shards"]["decisions"] == decisions.digest
    assert f"1 names in {tmp_path / 'here.json'} belong to no picture of the source (first: gone.jpg)" in said
    again = pack(pack_config(pictures, tmp_path / "set", decisions=str(tmp_path / "there.json")), executor=once)
    assert again.manifest == report.manifest
    write_decisions(str(tmp_path / "here.json"), Decisions(decisions=(Decision(name="p01_L.jpg", keep=False),)))
    with pytest.raises(ShardError, match=r"shards\.decisions"):
        pack(pack_config(pictures, tmp_path / "set", decisions=str(tmp_path / "here.json")), executor=once)
    with pytest.raises(DataError, match=r"missing\.json"):
        pack(pack_config(pictures, tmp_path / "other", decisions=str(tmp_path / "missing.json")), executor=once)
    assert not (tmp_path / "other").exists()


def test_no_credentials_of_a_source_are_written(pictures, tmp_path):
    url = "memory://me:secret@store/wild"
    fs = fsspec.filesystem("memory")
    for path in pictures.iterdir():
        if path.name.startswith(("p00", "p01")):
            fs.pipe_file(f"{url}/{path.name}", path.read_bytes())
    report = pack(pack_config(url, tmp_path / "set"))
    fs.store.clear()
    assert report.manifest.config["source"]["path"] == "wild"
    assert sum(report.accepted.values()) == 2
    assert len(contents(tmp_path / "set")) >= 6
    for path in (tmp_path / "set").iterdir():
        assert b"secret" not in path.read_bytes()
