import os
import shutil
import tarfile
from pathlib import Path

import pytest

from pipeline.data.store import ShardStore
from pipeline.data.unpacked import UnpackedShard
from shards.errors import ShardError
from shards.index import Row, member_span, members_digest
from shards.reindex import reindex

from .small_dataset import make_sample, write_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data")
    return tmp_path / "data"


def unpack(path: Path, into: Path) -> None:
    with tarfile.open(path) as tar:
        tar.extractall(into, filter="data")
    path.unlink()


def keys(folder: Path, split: str = "train") -> list[str]:
    store = ShardStore(str(folder), split)
    try:
        return [store.read(sample).key for sample in range(len(store))]
    finally:
        store.close()


ALL = [f"s{number:04d}" for number in range(23)]


def test_unpacked_and_packed_shards_are_read_alike(data: Path) -> None:
    tars = sorted(data.glob("train-*.tar"))
    unpack(tars[0], data / "train-000000")
    assert keys(data) == ALL
    tars[1].rename(data / "x")
    unpack(data / "x", data / tars[1].name)  # a folder that kept the archive's name
    assert keys(data) == ALL
    store = ShardStore(str(data), "train")
    read, wanted = store.read(1), make_sample(1)
    assert read.image == wanted.image and read.pairs.tolist() == wanted.pairs.tolist()


def test_members_side_by_side_are_read(data: Path) -> None:
    for tar in sorted(data.glob("*.tar")):
        unpack(tar, data)
    (data / ".DS_Store").touch()
    (data / "notes").mkdir()
    (data / "notes" / "read me").touch()
    assert keys(data) == ALL
    assert keys(data, "val") == [f"s{number:04d}" for number in range(23, 28)]


def test_foreign_names_and_headers_do_not_matter(data: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    source = sorted(data.glob("train-*.tar"))[0]
    with tarfile.open(source) as tar, tarfile.open(foreign / "web.tar", "w", format=tarfile.PAX_FORMAT) as out:
        members = tar.getmembers()
        groups = sorted({member.name.split(".")[0] for member in members}, reverse=True)  # not in the order of names
        for group in groups:
            for member in members:
                if member.name.split(".")[0] == group:
                    content = tar.extractfile(member)
                    member.name, member.mtime = f"Deep/{member.name}", 1.5  # which needs an extended header
                    out.addfile(member, content)
    reindex(str(foreign))
    packed = keys(foreign)
    unpack(foreign / "web.tar", foreign / "web")
    assert keys(foreign) == packed
    assert len(packed) == len(groups)


def test_a_damaged_or_missing_member_is_told(data: Path) -> None:
    tar = sorted(data.glob("train-*.tar"))[0]
    unpack(tar, data / "train-000000")
    victim = data / "train-000000" / "s0001.jpg"
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.write_bytes(raw)
    (data / "train-000000" / "s0002.json").unlink()
    store = ShardStore(str(data), "train")
    for sample in (1, 2):
        with pytest.raises(ShardError, match=rf"train-000000 \(unpacked train-000000\.tar\): sample {sample}: none of"):
            store.read(sample)
    assert store.read(0).key == "s0000"


def test_links_are_not_followed(data: Path, tmp_path: Path) -> None:
    tar = sorted(data.glob("train-*.tar"))[0]
    unpack(tar, data / "train-000000")
    member = data / "train-000000" / "s0000.jpg"
    shutil.move(member, tmp_path / "elsewhere.jpg")
    member.symlink_to(tmp_path / "elsewhere.jpg")
    with pytest.raises(ShardError, match="sample 0: none of the unpacked files"):
        ShardStore(str(data), "train").read(0)


def test_nothing_at_all_is_still_an_error(data: Path) -> None:
    (data / "train-000000.tar").unlink()
    with pytest.raises(ShardError, match=r"train-000000\.tar \(no such file"):
        ShardStore(str(data), "train")


def test_each_file_is_read_a_few_times_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number, rows = 120, []
    for sample in range(number):
        members = {"jpg": b"%d" % sample * 100, "json": b"{}"}
        for extension, content in members.items():
            (tmp_path / f"s{sample:04d}.{extension}").write_bytes(content)
        # Half as packed, half with longer headers.
        length = sum(member_span(len(content)) for content in members.values()) + sample % 2 * 1024
        rows.append(Row(0, members_digest(f"s{sample:04d}", members), 4096 * sample, length))
    (tmp_path / "s0007.jpg").write_bytes(b"damaged")
    opened: list[str] = []
    os_open = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *args, **more: opened.append(str(path)) or os_open(path, *args, **more)
    )
    shard = UnpackedShard(tmp_path)
    for _ in range(3):
        for sample, row in enumerate(rows):
            if sample == 7:
                with pytest.raises(ShardError, match="none of the unpacked files"):
                    shard.read(number - 1 - sample, row)
            else:
                assert shard.read(number - 1 - sample, row)[0] == f"s{sample:04d}"  # in another order than packed
    assert len(opened) <= 2 * number * 6  # its digest, what stands at its place, and itself in each round


def test_many_unpacked_folders_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    write_dataset(data, shard_bytes=1)
    tars = sorted(data.glob("train-*.tar"))
    assert len(tars) > 12
    for tar in tars:
        unpack(tar, tar.with_suffix(""))
    store = ShardStore(str(data), "train")
    walked: list[str] = []
    os_walk = os.walk
    monkeypatch.setattr(os, "walk", lambda folder, **more: walked.append(str(folder)) or os_walk(folder, **more))
    for _ in range(2):
        assert [store.read(sample).key for sample in range(len(store))] == ALL
    assert len(walked) == len(set(walked)) == len(tars)
