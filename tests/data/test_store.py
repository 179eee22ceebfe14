import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

from pipeline.data.cache import ShardCache
from pipeline.data.store import ShardStore
from shards.errors import ShardError
from shards.index import ROW, encode_index
from shards.manifest import Manifest, SplitEntry, publish_manifest, read_manifest

from .small_dataset import make_sample, write_dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "data"
    write_dataset(folder)
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def test_every_sample_is_read_as_written(whole: Path) -> None:
    for split, numbers in (("train", range(23)), ("val", range(23, 28))):
        store = ShardStore(str(whole), split)
        assert len(store) == len(numbers) == sum(store.shard_sizes)
        assert len(store.shard_sizes) > 1 or split == "val"
        for row, number in enumerate(numbers):
            read, wanted = store.read(row), make_sample(number)
            assert (read.key, read.image, read.meta) == (wanted.key, wanted.image, wanted.meta)
            np.testing.assert_array_equal(read.disparity, wanted.disparity)
            np.testing.assert_array_equal(read.pairs, wanted.pairs)


def test_a_limit_serves_the_first_samples_of_the_index(whole: Path) -> None:
    sizes = ShardStore(str(whole), "train").shard_sizes
    for limit in (1, sizes[0], sizes[0] + 1, 22, 23, 1000):
        store = ShardStore(str(whole), "train", limit=limit)
        assert len(store) == sum(store.shard_sizes) == min(limit, 23)
        assert all(0 < a <= b for a, b in zip(store.shard_sizes, sizes, strict=False))
        assert store.read(len(store) - 1).key == f"s{len(store) - 1:04d}"
        with pytest.raises(IndexError):
            store.read(len(store))


def test_a_store_travels_to_other_processes_and_holds_few_files(whole: Path) -> None:
    store = ShardStore(str(whole), "train")
    for sample in range(len(store)):
        store.read(sample)
    blob = pickle.dumps(store)
    assert len(blob) < 5000
    assert pickle.loads(blob).read(3).key == "s0003"
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before - len(store.shard_sizes)  # noqa: PTH208
    assert store.read(3).key == "s0003"


def test_any_flipped_byte_of_a_sample_is_noticed(copied: Path) -> None:
    manifest = read_manifest(str(copied))
    shard = manifest.splits["train"].shards[0]
    path = copied / shard.name
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    end = int(np.fromfile(copied / "train.index", dtype=ROW, offset=32)["length"][: shard.samples].sum())
    messages = []
    for at in rng.integers(0, end, 60).tolist():
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])
        messages.append(first_error(ShardStore(str(copied), "train"), shard.samples))
    noticed = [message for message in messages if message]
    assert len(noticed) >= 40  # the padding between members carries nothing and is not covered
    for message in noticed:
        assert shard.name in message
        assert "sha256sum" in message
        assert "\n" not in message


def first_error(store: ShardStore, samples: int) -> str | None:
    for sample in range(samples):
        try:
            store.read(sample)
        except ShardError as error:
            return str(error)
    return None


def test_a_damaged_picture_names_shard_and_sample(copied: Path) -> None:
    path = copied / "train-000001.tar"
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"\xff\xda") + 50] ^= 1
    path.write_bytes(raw)
    store = ShardStore(str(copied), "train")
    first = store.shard_sizes[0]
    with pytest.raises(
        ShardError, match=rf"train-000001\.tar: sample {first} \(s{first:04d}\): its bytes are not those"
    ):
        store.read(first)
    assert store.read(first + 1).key == f"s{first + 1:04d}"


def test_missing_and_cut_shards_are_found_at_the_start(copied: Path) -> None:
    (copied / "train-000001.tar").unlink()
    path = copied / "train-000002.tar"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        ShardError, match=r"2 of \d+ shards are missing or cut off: train-000001\.tar .*train-000002\.tar"
    ):
        ShardStore(str(copied), "train")
    sizes = ShardStore(str(copied), "train", limit=1).shard_sizes  # which needs the first shard only
    assert sizes == [1]


def test_a_shard_cut_while_it_is_read_is_an_error(copied: Path) -> None:
    store = ShardStore(str(copied), "train")
    os.truncate(copied / "train-000000.tar", 100)
    with pytest.raises(ShardError, match="the file ends before it"):
        store.read(0)
    (copied / "train-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"train-000001\.tar: sample \d+: No such file"):
        store.read(store.shard_sizes[0])


def test_an_incomplete_dataset_or_one_without_the_split_is_told(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no such dataset"):
        ShardStore(str(tmp_path / "gone"), "train")
    shutil.copyfile(copied / "val.index", copied / "train.index")
    with pytest.raises(ShardError, match="belongs to another dataset"):
        ShardStore(str(copied), "train")
    (copied / "train.index").unlink()
    with pytest.raises(ShardError, match="cannot read the index"):
        ShardStore(str(copied), "train")
    (copied / "manifest.json").unlink()
    with pytest.raises(ShardError, match=r"manifest\.json is missing"):
        ShardStore(str(copied), "val")
    with DatasetOf(tmp_path / "train-only") as url, pytest.raises(ShardError, match="no split 'val', only 'train'"):
        ShardStore(url, "val")


def test_a_split_without_samples_is_told(copied: Path) -> None:
    index = read_manifest(str(copied)).splits["train"].index
    empty = SplitEntry(samples=0, shards=[], index=index)
    publish_manifest(str(copied), Manifest(splits={"train": empty}, config={}, rejects={}))
    with pytest.raises(ShardError, match="its split 'train' has no samples"):
        ShardStore(str(copied), "train")


class DatasetOf:
    """A dataset without validation samples."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> str:
        write_dataset(self._folder, samples=2, val=0)
        return str(self._folder)

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder)


def with_rows(folder: Path, change) -> str:
    """Give a dataset a consistent manifest with a hostile index."""
    manifest = read_manifest(str(folder))
    rows = np.fromfile(folder / "train.index", dtype=ROW, offset=32)
    change(rows)
    data = encode_index(rows)
    (folder / "train.index").write_bytes(data)
    split = manifest.splits["train"]
    index = split.index.model_copy(update={"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)})
    splits = {**manifest.splits, "train": split.model_copy(update={"index": index})}
    publish_manifest(str(folder), Manifest(splits=splits, config={}, rejects={}))
    return str(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("offset", 2**63), ("offset", 2**20), ("length", 2**40), ("length", 2**27), ("shard", 1), ("shard", 10**6)],
)
def test_an_index_that_points_outside_of_its_shard_is_refused(copied: Path, field: str, value: int) -> None:
    def change(rows: np.ndarray) -> None:
        rows[field][0] = value

    with pytest.raises(ShardError, match="row 0 points outside"):
        ShardStore(with_rows(copied, change), "train").read(0)


@pytest.mark.parametrize(("field", "value"), [("length", 0), ("length", 512), ("offset", 512), ("digest", 7)])
def test_an_index_that_cuts_wrongly_is_refused(copied: Path, field: str, value: int) -> None:
    def change(rows: np.ndarray) -> None:
        rows[field][0] = value

    with pytest.raises(ShardError, match=r"train-000000\.tar: sample 0"):
        ShardStore(with_rows(copied, change), "train").read(0)


def test_a_remote_dataset_is_fetched_once_and_by_need(whole: Path, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/data"
    manifest = write_dataset(url)
    fs = fsspec.filesystem("memory")
    store = ShardStore(url, "train", cache_dir=str(tmp_path / "cache"))
    folder = tmp_path / "cache" / manifest.fingerprint[:16]
    assert store.fingerprint == ShardStore(str(whole), "train").fingerprint
    assert visible(folder) == ["train.index"]
    assert store.read(0).key == "s0000"
    assert visible(folder) == ["train-000000.tar", "train.index"]
    fs.rm(f"{url}/train-000000.tar")
    assert ShardStore(url, "train", cache_dir=str(tmp_path / "cache")).read(1).key == "s0001"
    fs.store.clear()


def test_a_damaged_copy_of_the_index_is_fetched_anew(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/data"
    write_dataset(url)
    fs = fsspec.filesystem("memory")
    ShardStore(url, "train", cache_dir=str(tmp_path / "cache"))
    copy = next((tmp_path / "cache").glob("*/train.index"))
    good = copy.read_bytes()
    for bad in (good[:36] + b"\xff" + good[37:], bytes(len(good))):
        copy.write_bytes(bad)
        store = ShardStore(url, "train", cache_dir=str(tmp_path / "cache"))
        assert store.fetched.files == 1
        assert store.read(0).key == "s0000"
        assert copy.read_bytes() == good
    assert ShardStore(url, "train", cache_dir=str(tmp_path / "cache")).fetched.files == 0
    copy.write_bytes(bad)
    fs.pipe_file(f"{url}/train.index", bad)
    with pytest.raises(ShardError, match=r"train\.index is not the file that its manifest lists"):
        ShardStore(url, "train", cache_dir=str(tmp_path / "cache"))
    fs.store.clear()


def test_shards_in_use_are_fetched_once_however_small_the_budget(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/data"
    shards = write_dataset(url).splits["train"].shards
    assert 3 < len(shards) <= 8
    store = ShardStore(url, "train", cache_dir=str(tmp_path / "cache"), cache_bytes=1)
    for sample in sorted(range(len(store)), key=lambda sample: sample % 4):  # through all shards, four times
        assert store.read(sample).key == f"s{sample:04d}"
    assert store.fetched.files == 1 + len(shards)
    store.close()
    fsspec.filesystem("memory").store.clear()


def test_a_remote_shard_that_is_not_the_listed_one_is_never_used(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/data"
    write_dataset(url)
    fs = fsspec.filesystem("memory")
    good = fs.cat_file(f"{url}/train-000000.tar")
    store = ShardStore(url, "train", cache_dir=str(tmp_path / "cache"))
    for bad in (good[:-1], good[:9] + b"?" + good[10:], b""):
        store = ShardStore(url, "train", cache_dir=str(tmp_path / "cache"))
        fs.pipe_file(f"{url}/train-000000.tar", bad)
        with pytest.raises(ShardError, match=r"train-000000\.tar is not the file that its manifest lists"):
            store.read(0)
        assert visible(next((tmp_path / "cache").iterdir())) == ["train.index"]
    fs.rm(f"{url}/train-000000.tar")
    store = ShardStore(url, "train", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ShardError, match="no such file"):
        store.read(0)
    fs.pipe_file(f"{url}/train-000000.tar", good)
    with pytest.raises(ShardError, match="no such file"):  # it is not asked for again with each sample
        store.read(1)
    store = ShardStore(url, "train", cache_dir=str(tmp_path / "cache"))
    assert store.read(0).key == "s0000"
    fs.store.clear()


def test_what_a_killed_fetch_left_is_replaced(whole: Path, tmp_path: Path) -> None:
    shard = read_manifest(str(whole)).splits["train"].shards[0]
    (tmp_path / f".{shard.name}.part").write_bytes(b"half")
    (tmp_path / f".{shard.name}.lock").touch()
    path = ShardCache(f"simplecache::{whole.as_uri()}", tmp_path, budget_bytes=10**9).fetch(
        shard.name, shard.bytes, shard.sha256
    )
    assert path.read_bytes() == (whole / shard.name).read_bytes()
    assert visible(tmp_path) == [shard.name]


FETCH = """
import os, sys, time, fsspec
from pathlib import Path
from fsspec.implementations.local import LocalFileSystem
from pipeline.data.cache import ShardCache

class Counting(LocalFileSystem):
    protocol = "counting"
    @classmethod
    def _strip_protocol(cls, path):  # older fsspec knows only its own protocols here
        return super()._strip_protocol(path.removeprefix("counting://"))
    def _open(self, path, *args, **kwargs):
        with open(sys.argv[3], "a") as log:
            log.write("opened\\n")
        time.sleep(0.3)
        return super()._open(path, *args, **kwargs)

fsspec.register_implementation("counting", Counting)
cache = ShardCache("counting://" + sys.argv[1], Path(sys.argv[2]), budget_bytes=10**9)
path = cache.fetch(sys.argv[4], int(sys.argv[5]), sys.argv[6])
print(path.stat().st_size)
"""


def test_processes_share_one_download(whole: Path, tmp_path: Path) -> None:
    shard = read_manifest(str(whole)).splits["train"].shards[0]
    log = tmp_path / "log"
    arguments = [str(whole), str(tmp_path / "cache"), str(log), shard.name, str(shard.bytes), shard.sha256]
    processes = [
        subprocess.Popen([sys.executable, "-c", FETCH, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == [f"{shard.bytes}\n"] * 3
    assert log.read_text() == "opened\n"


def test_a_full_or_closed_cache_folder_is_told(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match=r"cannot keep a copy.*data\.cache_dir"):
        ShardCache(f"simplecache::{whole.as_uri()}", tmp_path / "file" / "x", budget_bytes=1).fetch(
            "train.index", 1, ""
        )


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))
