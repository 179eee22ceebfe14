import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch.cli import main
from shards.format import Sample
from shards.manifest import read_manifest
from shards.writer import DatasetWriter


def write(out: Path, numbers: range) -> None:
    with DatasetWriter(str(out), shard_bytes=1 << 20, config={}) as writer:
        for number in numbers:
            coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(coarse).resize((64, 48)).save(buffer, "JPEG")
            pairs = np.array([[0, 0, 5, 5, 1]], dtype=np.int16)
            writer.add("train", Sample(f"k{number}", buffer.getvalue(), {"name": f"{number}.jpg"}, pairs=pairs))
        writer.finish({"flat": 1})


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    try:
        code = main(["inspect", *map(str, arguments)])
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write(tmp_path / "set", range(10))
    return tmp_path / "set"


def test_figures_and_the_contact_sheet(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, dataset)
    assert (code, err) == (0, "")
    assert "train " in out and "left out     flat: 1" in out
    sheet = dataset / "contact_sheet.jpg"
    assert out.splitlines()[-1].endswith(f" {sheet}")
    with Image.open(sheet) as picture:
        assert picture.format == "JPEG"
    sheet.write_bytes(b"made while packing")
    assert run(capsys, dataset)[0] == 0
    assert sheet.read_bytes() == b"made while packing"
    assert run(capsys, dataset, "--limit", "3", "--sheet", tmp_path / "own.jpg")[0] == 0
    assert (tmp_path / "own.jpg").stat().st_size > 1000


def test_a_sheet_that_cannot_be_written(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / ".contact_sheet.jpg.part").mkdir()  # stands for a folder that cannot be written
    code, out, err = run(capsys, dataset)
    assert code == 0 and "fingerprint" in out
    assert err.startswith("no contact sheet: ") and "--sheet FILE" in err
    assert run(capsys, dataset, "--sheet", dataset / "gone" / "x.jpg")[0] == 2


def test_verify_says_good_or_names_the_damage(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, dataset, "--verify")
    assert (code, err) == (0, "")
    assert f"{dataset}: good, 10 samples in 2 files" in out
    path = dataset / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 4
    path.write_bytes(data)
    code, out, err = run(capsys, dataset, "--verify")
    assert (code, err) == (1, "")
    assert out.startswith("damaged: train-000000.tar: sample 0 of this shard")
    assert "DAMAGED" in out.splitlines()[-1]
    (dataset / "manifest.json").unlink()
    code, out, err = run(capsys, dataset, "--verify")
    assert (code, out) == (2, "") and "manifest.json is missing" in err


def test_split_merge_and_reindex(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "val.txt").write_text("k3\n\n  7.jpg  \n")
    code, out, _ = run(capsys, dataset, "--split", "--val-list", tmp_path / "val.txt", "--out", tmp_path / "carved")
    assert (code, out) == (0, f"{tmp_path / 'carved'}: 8 train, 2 val samples\n")
    assert run(capsys, dataset, "--split", "--val-share", "0.3", "--out", tmp_path / "drawn")[0] == 0
    assert read_manifest(str(tmp_path / "drawn")).config["val_share"] == 0.3
    code, _, err = run(capsys, "--merge", dataset, tmp_path / "carved", "--out", tmp_path / "both")
    assert code == 2 and "--prefixes" in err
    code, out, _ = run(
        capsys, "--merge", dataset, tmp_path / "carved", "--out", tmp_path / "both", "--prefixes", "a-,b-"
    )
    assert code == 0 and "18 train, 2 val samples" in out
    assert "2 pictures of train look like one of val" in out and "3.jpg  like  3.jpg" in out
    for name in ("manifest.json", "train.index"):
        (dataset / name).unlink()
    code, out, _ = run(capsys, dataset, "--reindex")
    assert code == 0 and "train: 10 samples, 1 tar files" in out and "--val-share" in out
    assert run(capsys, dataset, "--verify")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A", "B"], "one DATASET, not 2"),
        (["A", "--merge"], "two datasets or more"),
        (["A", "B", "--merge"], "--merge needs --out"),
        (["A", "--split", "--out", "B"], "one of --val-share and --val-list"),
        (["A", "--split", "--out", "B", "--val-share", "0.1", "--val-list", "x"], "one of"),
        (["A", "--split", "--out", "B", "--val-share", "1"], "0 <= share < 1"),
        (["A", "--verify", "--limit", "3"], "--limit goes with no action"),
        (["A", "--out", "B"], "--out goes with --split or --merge"),
        (["A", "--merge", "B", "--out", "C", "--val-share", "0.1"], "--val-share goes with --split"),
        (["A", "--verify", "--reindex"], "not allowed with"),
        (["A", "--limit", "0"], "1 or more"),
        (["A", "--shard-bytes", "1"], "65536 or more"),
        ([], "required: DATASET"),
    ],
)
def test_options_that_contradict_each_other(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and message in err


def test_mistakes_end_with_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [tmp_path / "gone"],
        [tmp_path / "gone", "--verify"],
        [tmp_path / "gone", "--reindex"],
        [tmp_path / "gone", "--split", "--val-list", tmp_path / "gone.txt", "--out", tmp_path / "x"],
    ):
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "x").exists()
