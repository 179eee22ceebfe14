import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from launch.cli import main
from shards.format import Sample
from shards.images import encode_jpeg
from shards.manifest import read_manifest
from shards.preview import preview_strip
from shards.writer import DatasetWriter

PICTURE = np.full((48, 64, 3), 120, dtype=np.uint8)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    codes = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    config = {"shards": {"quality": {"min_known_share": 0.9}}}
    with DatasetWriter("the set", shard_bytes=1 << 20, config=config) as writer:
        for split, key in (("train", "a"), ("train", "b"), ("val", "c")):
            meta = {"name": f"{key}_L.jpg", "eyes": "as_given", "figures": {"consistent_share": 0.95}}
            writer.add(split, Sample(key, encode_jpeg(PICTURE, 90), meta, disparity=codes))
        writer.finish({"flat": 1})
    (tmp_path / "the set" / "rejects.jsonl").write_text('{"name": "d_L.jpg", "reason": "flat", "figures": {}}\n')
    return tmp_path / "the set"


def add_previews(dataset: Path) -> None:
    with tarfile.open(dataset / "previews.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, split in (("a", "train"), ("b", "train"), ("c", "val"), ("d", None)):
            reason = None if split else "flat"
            record = {"name": f"{name}_L.jpg", "split": split, "reason": reason, "eyes": None, "figures": {}}
            for extension, content in (
                ("jpg", preview_strip(PICTURE, PICTURE, None)),
                ("json", json.dumps(record).encode()),
            ):
                info = tarfile.TarInfo(f"{name}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def pairs(page: Path) -> list[dict]:
    data = json.loads((page / "data.js").read_text().partition(" = ")[2].rstrip(";\n"))
    assert data["dataset"] == read_manifest("the set").fingerprint and data["title"] == "the set"
    return data["pairs"]


def test_every_pair_is_on_the_page_with_its_preview(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_previews(dataset)
    assert main(["review", "the set"]) == 0
    said = capsys.readouterr()
    page = Path("review-the-set")
    assert (said.out, said.err) == (f"{page / 'index.html'}: 3 pairs accepted, 1 rejected; open it in a browser\n", "")
    assert [pair["reason"] for pair in pairs(page)] == [None, None, None, "flat"]
    assert len(list((page / "images").iterdir())) == 4


def test_without_previews_the_samples_are_shown(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", f"{dataset}/", "--out", "elsewhere/page"]) == 0
    said = capsys.readouterr()
    assert "3 pairs accepted, 1 rejected" in said.out and "1 of them have no picture" in said.out
    assert "the set/ has no previews.tar" in said.err
    found = pairs(Path("elsewhere/page"))
    assert [(pair["name"], pair["split"], pair["reason"], "image" in pair) for pair in found] == [
        ("a_L.jpg", "train", None, True),
        ("b_L.jpg", "train", None, True),
        ("c_L.jpg", "val", None, True),
        ("d_L.jpg", None, "flat", False),
    ]
    assert found[0]["doubt"] == 0.5  # by the threshold that the dataset was packed with


def test_mistakes_are_explained(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", "nowhere"]) == 2
    assert "nowhere: there is no such dataset of shards" in capsys.readouterr().err
    assert main(["review", "the set", "--out", "the set"]) == 2
    assert "the set: holds something that is no review page" in capsys.readouterr().err
    (dataset / "previews.tar").write_bytes(b"x" * 600)
    assert main(["review", "the set"]) == 2
    assert "previews.tar: " in capsys.readouterr().err
