import io
import tarfile
from pathlib import Path

import fsspec
import pytest
import webdataset

from pipeline.data.store import ShardStore
from shards.errors import ShardError
from shards.format import encode_sample
from shards.manifest import read_manifest
from shards.names import sample_key
from shards.reindex import reindex, split_of_tar
from shards.verify import verify

from .small_dataset import small_sample


def foreign_tar(path: Path, numbers, *, name="{}", change=None, tar_format=tarfile.PAX_FORMAT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tar_format) as tar:
        for number in numbers:
            members = encode_sample(small_sample(number))
            for extension, content in (change or (lambda number, members: members))(number, members).items():
                info = tarfile.TarInfo(f"{name.format(f's{number:03d}')}.{extension}")
                info.size, info.mtime = len(content), 1.5
                tar.addfile(info, io.BytesIO(content))


def same(stored, number: int) -> None:
    expected = small_sample(number)
    assert stored.image == expected.image and stored.meta == expected.meta
    assert stored.pairs.tolist() == expected.pairs.tolist()
    assert (stored.disparity is None) == (expected.disparity is None)


def test_foreign_tars_train_like_our_own(tmp_path: Path) -> None:
    foreign_tar(tmp_path / "data-0001.tar", range(4), tar_format=tarfile.GNU_FORMAT)
    foreign_tar(tmp_path / "data-0000.tar", range(4, 7), name="./deep/{}")
    foreign_tar(tmp_path / "validation_x.tar", range(7, 9), name="./{}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    report = reindex(str(tmp_path))
    assert report.left_out == []
    train, val = ShardStore(str(tmp_path), "train"), ShardStore(str(tmp_path), "val")
    assert (len(train), len(val)) == (7, 2)
    for row, number in enumerate([4, 5, 6, 0, 1, 2, 3]):
        same(train.read(row), number)
    assert train.read(0).key == sample_key("deep/s004")
    assert [val.read(row).key for row in range(2)] == ["s007", "s008"]
    train.close()
    val.close()
    assert verify(str(tmp_path)).damage == []
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert sorted({path.name for path in tmp_path.iterdir()} - set(before)) == [
        "manifest.json",
        "train.index",
        "val.index",
    ]


def test_the_writer_of_webdataset_with_its_defaults(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "a.tar"), encoder=False) as writer:
        for number in (1, 2):
            members = encode_sample(small_sample(number))
            writer.write({"__key__": f"set/S{number}", "jpeg": members.pop("jpg"), **members})
    reindex(str(tmp_path))
    store = ShardStore(str(tmp_path), "train")
    same(store.read(1), 2)
    assert store.read(1).key == sample_key("set/S2")
    store.close()


def test_a_url_is_indexed_too(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    try:
        foreign_tar(tmp_path / "a.tar", range(3))
        memory.pipe_file("/foreign/a.tar", (tmp_path / "a.tar").read_bytes())
        assert reindex("memory://foreign").manifest.splits["train"].samples == 3
        assert verify("memory://foreign").damage == []
    finally:
        memory.store.clear()


def test_what_no_reader_would_take_is_left_out_counted_and_named(tmp_path: Path) -> None:
    def change(number, members):
        if number == 1:
            return {name: content for name, content in members.items() if name != "json"}
        if number == 2:
            return members | {"jpg": members["jpg"][:-200]}
        if number == 3:
            return {name: members[name] for name in ("jpg", "json")}
        if number == 4:
            return members | {"disparity.png": members["disparity.png"][:-30]}
        return members | {"cls": b"7"}  # what training does not need may be there

    foreign_tar(tmp_path / "a.tar", range(7), change=change)
    report = reindex(str(tmp_path))
    assert report.manifest.splits["train"].samples == 3
    assert report.manifest.rejects == {"unreadable": 4}
    assert [line.split(":")[:2] for line in report.left_out] == [["a.tar", f" sample s{n:03d}"] for n in (1, 2, 3, 4)]
    assert "no member json" in report.left_out[0] and "nothing can be learned" in report.left_out[2]
    assert verify(str(tmp_path)).damage == []
    store = ShardStore(str(tmp_path), "train")
    for row, number in enumerate((0, 5, 6)):
        same(store.read(row), number)
    store.close()


def test_a_tar_without_any_sample_is_no_shard(tmp_path: Path) -> None:
    foreign_tar(tmp_path / "a.tar", range(2))
    foreign_tar(tmp_path / "b.tar", range(5, 7), change=lambda number, members: {"txt": b"x"})
    report = reindex(str(tmp_path))
    assert [shard.name for shard in report.manifest.splits["train"].shards] == ["a.tar"]
    assert len(report.left_out) == 2
    assert verify(str(tmp_path)).damage == []


def test_mistakes_are_told_and_nothing_is_written(tmp_path: Path) -> None:
    def refuse(name: str, message: str) -> None:
        folder = tmp_path / name
        before = sorted(folder.iterdir())
        with pytest.raises(ShardError, match=message):
            reindex(str(folder))
        assert sorted(folder.iterdir()) == before

    (tmp_path / "empty").mkdir()
    refuse("empty", r"no \.tar file here")
    foreign_tar(tmp_path / "twice" / "a.tar", range(3))
    foreign_tar(tmp_path / "twice" / "b.tar", range(2, 5))
    refuse("twice", r"b\.tar: sample s002 is in a\.tar as well.*--prefixes")
    foreign_tar(tmp_path / "test" / "test-0.tar", range(3))
    refuse("test", "rename it to val")
    foreign_tar(tmp_path / "named" / "a b.tar", range(3))
    refuse("named", "rename it")
    foreign_tar(tmp_path / "cut" / "a.tar", range(3))
    data = (tmp_path / "cut" / "a.tar").read_bytes()
    (tmp_path / "cut" / "a.tar").write_bytes(data[:9000])
    refuse("cut", r"a\.tar: .*truncated")
    foreign_tar(tmp_path / "two" / "a.tar", range(3))
    (tmp_path / "two" / "a.tar").write_bytes(data + data)
    refuse("two", "behind its end mark")
    foreign_tar(tmp_path / "none" / "a.tar", range(3), change=lambda number, members: {"txt": b"x"})
    refuse("none", r"hold no sample that can be read; the first: a\.tar: sample s000: it has no member jpg")
    (tmp_path / "gz").mkdir()
    (tmp_path / "gz" / "a.tar.gz").write_bytes(b"\x1f\x8b")
    refuse("gz", "unpack it first")
    foreign_tar(tmp_path / "index" / "a.tar", range(3))
    (tmp_path / "index" / "val.index").write_text("my own")
    refuse("index", "which is no index")


def test_a_dataset_is_not_indexed_over(tmp_path: Path) -> None:
    foreign_tar(tmp_path / "a.tar", range(3))
    first = reindex(str(tmp_path)).manifest
    with pytest.raises(ShardError, match="has a manifest"):
        reindex(str(tmp_path))
    (tmp_path / "manifest.json").unlink()
    assert reindex(str(tmp_path)).manifest == first == read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "split"), [("val-0.tar", "val"), ("Validation.tar", "val"), ("train-0.tar", "train"), ("0.tar", "train")]
)
def test_the_split_of_a_tar(name: str, split: str) -> None:
    assert split_of_tar(name) == split
