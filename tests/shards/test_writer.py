import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import webdataset
from PIL import Image

from shards.errors import ShardError
from shards.format import Sample, encode_sample, read_sample
from shards.index import ShardIndex, scan_tar, split_members
from shards.manifest import Manifest, read_manifest
from shards.writer import DatasetWriter


def sample(number: int, *, key: str | None = None) -> Sample:
    rng = np.random.default_rng(number)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(buffer, "JPEG")
    disparity = rng.integers(0, 65536, (16, 24)).astype(np.uint16) if number % 3 else None
    pairs = rng.integers(0, 16, (number % 5, 5)).astype(np.int16)
    pairs[:, 4] = 1
    return Sample(key or f"s{number:03d}", buffer.getvalue(), {"number": number}, disparity, None, pairs)


def write(out: str, numbers: range = range(30), *, config: dict | None = None, shard_bytes: int = 40_000) -> Manifest:
    with DatasetWriter(out, shard_bytes=shard_bytes, config=config or {"sides": (1, 2)}) as writer:
        for number in numbers:
            writer.add("val" if number % 4 == 3 else "train", sample(number))
        return writer.finish({"flat": 2})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://writer/data"
    fsspec.filesystem("memory").store.clear()


# webdataset leaves the files it iterates to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_itself_reads_the_same_samples(tmp_path: Path) -> None:
    manifest = write(str(tmp_path / "x"))
    for split, numbers in (("train", [n for n in range(30) if n % 4 != 3]), ("val", range(3, 30, 4))):
        shards = manifest.splits[split].shards
        assert len(shards) > 1
        urls = [str(tmp_path / "x" / shard.name) for shard in shards]
        found = list(webdataset.WebDataset(urls, shardshuffle=False))
        assert [item["__key__"] for item in found] == [f"s{number:03d}" for number in numbers]
        for item, number in zip(found, numbers, strict=True):
            members = {name: content for name, content in item.items() if not name.startswith("__")}
            assert members == encode_sample(sample(number))


def test_index_and_manifest_describe_the_files(tmp_path: Path) -> None:
    manifest = write(str(tmp_path))
    assert read_manifest(str(tmp_path)) == manifest
    assert manifest.config == {"sides": [1, 2]}
    assert manifest.rejects == {"flat": 2}
    listed = {"manifest.json"}
    for split in manifest.splits.values():
        index = ShardIndex.open(tmp_path / split.index.name)
        scanned = [scan_tar(tmp_path / shard.name, number) for number, shard in enumerate(split.shards)]
        np.testing.assert_array_equal(index.rows, np.concatenate(scanned))
        assert split.samples == len(index)
        for entry in (*split.shards, split.index):
            data = (tmp_path / entry.name).read_bytes()
            assert (entry.bytes, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
            listed.add(entry.name)
        for shard in split.shards:
            assert shard.bytes <= 40_000
    assert set(files(tmp_path)) == listed


def test_a_row_cuts_out_its_sample(tmp_path: Path) -> None:
    split = write(str(tmp_path)).splits["train"]
    row = ShardIndex.open(tmp_path / "train.index").row(5)
    raw = (tmp_path / split.shards[row.shard].name).read_bytes()[row.offset : row.offset + row.length]
    assert read_sample(*split_members(raw)).meta == {"number": 6}


def test_the_bytes_depend_on_samples_and_settings_only(tmp_path: Path) -> None:
    first, second = write(str(tmp_path / "a")), write(str(tmp_path / "b"))
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert first.fingerprint == second.fingerprint
    assert write(str(tmp_path / "c"), range(29)).fingerprint != first.fingerprint


def test_packing_the_same_again_changes_nothing(tmp_path: Path) -> None:
    manifest = write(str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert write(str(tmp_path)) == manifest
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("numbers", [range(29), range(31), range(1, 31), range(0)])
def test_a_finished_dataset_of_other_content_is_refused_and_kept(tmp_path: Path, numbers: range) -> None:
    write(str(tmp_path))
    before = files(tmp_path)
    with pytest.raises(ShardError, match=r"other content|no sample was added"):
        write(str(tmp_path), numbers)
    assert files(tmp_path) == before


def test_a_finished_dataset_of_other_settings_is_refused_at_once(tmp_path: Path) -> None:
    write(str(tmp_path), config={"pairs": {"seed": 0, "n": 1}})
    with pytest.raises(ShardError, match=r"other settings \(pairs\.seed\).*choose another"):
        DatasetWriter(str(tmp_path), shard_bytes=40_000, config={"pairs": {"seed": 1, "n": 1}})


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    write(str(tmp_path / "whole"))
    killed = tmp_path / "killed"
    writer = DatasetWriter(str(killed), shard_bytes=20_000, config={})
    for number in range(100, 140):
        writer.add("train", sample(number))
    assert any(path.suffix == ".tar" for path in killed.iterdir())
    assert any(path.suffix == ".part" for path in killed.iterdir())
    (killed / "notes.txt").write_text("mine")
    with pytest.raises(ShardError, match="another process packs into it"):
        write(str(killed))
    writer._lock.release()  # as the kernel does with the lock of a process that was killed
    write(str(killed))
    assert (killed / "notes.txt").read_text() == "mine"
    (killed / "notes.txt").unlink()
    assert files(killed) == files(tmp_path / "whole")
    writer.close()


def test_an_exception_leaves_no_half_written_file_and_no_manifest(tmp_path: Path) -> None:
    with DatasetWriter(str(tmp_path), shard_bytes=1, config={}) as writer:
        writer.add("train", sample(1))
        with pytest.raises(ShardError, match="comes twice"):
            writer.add("train", sample(2, key="s001"))
    assert files(tmp_path) == {}


def test_a_sample_larger_than_a_shard_gets_one_of_its_own(tmp_path: Path) -> None:
    manifest = write(str(tmp_path), range(3), shard_bytes=1)
    assert [shard.samples for shard in manifest.splits["train"].shards] == [1, 1, 1]


def test_a_remote_dataset_has_the_same_files(memory: str, tmp_path: Path) -> None:
    manifest = write(str(tmp_path))
    assert write(memory) == manifest
    fs = fsspec.filesystem("memory")
    assert {path.rpartition("/")[2]: fs.cat_file(path) for path in fs.ls(memory, detail=False)} == files(tmp_path)
    assert write(memory) == manifest
    with pytest.raises(ShardError, match="other content"):
        write(memory, range(1, 31))
    assert read_manifest(memory) == manifest
