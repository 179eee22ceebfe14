import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from shards.errors import ShardError
from shards.format import encode_sample
from shards.index import ROW, ShardIndex, encode_index
from shards.manifest import publish_manifest, read_manifest
from shards.verify import verify
from shards.writer import DatasetWriter

from .small_dataset import small_sample, write_dataset


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "set"
    manifest = write_dataset(folder)
    assert len(manifest.splits["train"].shards) > 1
    return folder


@pytest.fixture
def dataset(packed: Path, tmp_path: Path) -> Path:
    shutil.copytree(packed, tmp_path / "set")
    return tmp_path / "set"


def test_a_good_dataset_is_good(packed: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = verify(str(packed), lambda done, total: calls.append((done, total)))
    sizes = {path.name: path.stat().st_size for path in packed.iterdir() if path.name != "manifest.json"}
    assert report.damage == []
    assert (report.samples, report.files, report.bytes) == (12, len(sizes), sum(sizes.values()))
    assert len(calls) == 12 and calls == sorted(calls)


def test_a_dataset_at_a_url_is_verified_too(packed: Path) -> None:
    memory = fsspec.filesystem("memory")
    try:
        memory.put(str(packed), "/verify/set", recursive=True)
        assert verify("memory://verify/set").damage == []
        name = read_manifest(str(packed)).splits["val"].shards[0].name
        data = bytearray(memory.cat(f"/verify/set/{name}"))
        data[520] ^= 1
        memory.pipe_file(f"/verify/set/{name}", bytes(data))
        assert [line.partition(":")[0] for line in verify("memory://verify/set").damage] == [name, name]
    finally:
        memory.store.clear()


@pytest.mark.parametrize("seed", range(40))
def test_any_flipped_bit_of_any_file_is_found_and_named(dataset: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = sorted(path for path in dataset.iterdir() if path.name != "manifest.json")[seed % 4]
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)
    report = verify(str(dataset))
    assert report.damage
    assert {line.partition(":")[0] for line in report.damage} == {path.name}
    if path.suffix == ".index":
        assert report.samples == 12


def member_starts(dataset: Path, split: str = "train") -> list[tuple[str, int, int, int]]:
    """Shard, byte of the content, size and row of each member."""
    import tarfile

    found = []
    for shard in read_manifest(str(dataset)).splits[split].shards:
        with tarfile.open(dataset / shard.name) as tar:
            keys: list[str] = []
            for info in tar:
                key = info.name.partition(".")[0]
                keys += [key] if key not in keys else []
                found.append((shard.name, info.offset_data, info.size, len(keys) - 1))
    return found


def test_damage_inside_a_member_names_the_sample_and_spares_the_others(dataset: Path) -> None:
    rng = np.random.default_rng(0)
    for name, start, size, number in member_starts(dataset):
        path = dataset / name
        raw = path.read_bytes()
        data = bytearray(raw)
        data[start + rng.integers(size)] ^= 0x10
        path.write_bytes(data)
        report = verify(str(dataset))
        first, second = report.damage
        assert first.startswith(f"{name}: sample {number} of this shard")
        assert second.startswith(f"{name}: its sha256 is")
        assert report.samples == 11
        path.write_bytes(raw)


def test_damage_between_the_samples_is_told_apart(dataset: Path) -> None:
    entry = read_manifest(str(dataset)).splits["val"].shards[0]
    data = bytearray((dataset / entry.name).read_bytes())
    data[-1] = 7
    (dataset / entry.name).write_bytes(data)
    (line,) = verify(str(dataset)).damage
    assert "all its samples are good" in line


def test_missing_cut_and_grown_files_are_named(dataset: Path) -> None:
    train = read_manifest(str(dataset)).splits["train"].shards
    (dataset / train[0].name).unlink()
    cut = (dataset / train[1].name).read_bytes()
    (dataset / train[1].name).write_bytes(cut[:1500])
    with (dataset / train[2].name).open("ab") as file:
        file.write(bytes(512))
    (dataset / "val.index").unlink()
    report = verify(str(dataset))
    by_file: dict[str, list[str]] = {}
    for line in report.damage:
        by_file.setdefault(line.partition(":")[0], []).append(line)
    assert set(by_file) == {train[0].name, train[1].name, train[2].name, "val.index"}
    assert "no such file" in by_file[train[0].name][0]
    assert "the file ends at byte 1500" in by_file[train[1].name][0]
    assert "it has 1500 bytes" in "".join(by_file[train[1].name])
    assert f"it has {train[2].bytes + 512} bytes" in "".join(by_file[train[2].name])
    assert "no such file" in by_file["val.index"][0]
    assert report.samples == 3 + sum(shard.samples for shard in train[2:])


def republish(dataset: Path, split: str, rows: np.ndarray) -> None:
    """An index and a manifest that agree with each other, whatever the rows say."""
    import hashlib

    data = encode_index(rows)
    (dataset / f"{split}.index").write_bytes(data)
    manifest = read_manifest(str(dataset))
    entry = manifest.splits[split]
    index = entry.index.model_copy(update={"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    splits = manifest.splits | {split: entry.model_copy(update={"index": index})}
    publish_manifest(str(dataset), manifest.model_copy(update={"splits": splits}))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("offset", 2**63, "reach beyond"),
        ("offset", 512, "overlap"),
        ("length", 2**64 - 1, "reach beyond"),
        ("length", 2**64 - 512, "reach beyond"),
        ("length", 0, "reach beyond"),
        ("shard", 9, "order of the shards"),
    ],
)
def test_rows_that_cannot_be_true_are_refused_before_anything_is_read(
    dataset: Path, field: str, value: int, message: str
) -> None:
    rows = np.array(ShardIndex.open(dataset / "val.index").rows, dtype=ROW)
    rows[1][field] = value
    republish(dataset, "val", rows)
    (line,) = verify(str(dataset)).damage
    assert line.startswith("val.index: ") and message in line


def test_an_index_of_other_digests_is_told(dataset: Path) -> None:
    rows = np.array(ShardIndex.open(dataset / "val.index").rows, dtype=ROW)
    rows["digest"][0] += 1
    republish(dataset, "val", rows)
    (line,) = verify(str(dataset)).damage
    assert "sample 0 of this shard" in line and "not those that were packed" in line


def test_what_was_packed_broken_is_found_although_every_hash_is_right(tmp_path: Path) -> None:
    members = encode_sample(small_sample(5))
    with DatasetWriter(str(tmp_path / "set"), shard_bytes=1 << 20, config={}) as writer:
        writer.add("train", small_sample(4))
        writer.add_members("train", "cut", members | {"jpg": members["jpg"][:-300]})
        writer.finish({})
    (line,) = verify(str(tmp_path / "set")).damage
    assert line.startswith("train-000000.tar: sample 1 of this shard") and "cut off" in line


def test_a_key_in_two_places_is_found(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set")
    manifest = read_manifest(str(tmp_path / "set"))
    train = manifest.splits["train"]
    shutil.copy(tmp_path / "set" / train.shards[0].name, tmp_path / "set" / "twin.tar")
    rows = np.array(ShardIndex.open(tmp_path / "set" / "train.index").rows, dtype=ROW)
    twins = rows[rows["shard"] == 0]
    twins["shard"] = len(train.shards)
    shards = [*train.shards, train.shards[0].model_copy(update={"name": "twin.tar"})]
    entry = train.model_copy(update={"shards": shards, "samples": train.samples + len(twins)})
    publish_manifest(str(tmp_path / "set"), manifest.model_copy(update={"splits": manifest.splits | {"train": entry}}))
    republish(tmp_path / "set", "train", np.concatenate([rows, twins]))
    damage = verify(str(tmp_path / "set")).damage
    assert len(damage) == len(twins)
    assert all(line.startswith("twin.tar: sample s") and "comes twice" in line for line in damage)


def test_without_a_manifest_that_can_be_trusted_there_is_nothing_to_compare_with(dataset: Path) -> None:
    text = json.loads((dataset / "manifest.json").read_text())
    text["splits"]["val"]["shards"][0]["sha256"] = "0" * 64
    (dataset / "manifest.json").write_text(json.dumps(text))
    with pytest.raises(ShardError, match="was edited"):
        verify(str(dataset))
    with pytest.raises(ShardError, match="no such dataset"):
        verify(str(dataset / "gone"))
