from pathlib import Path

import pytest

from pipeline.data.store import ShardStore
from shards.errors import ShardError
from shards.manifest import read_manifest
from shards.reading import stored_samples
from shards.rearrange import ByList, ByShare, merge_datasets, split_dataset
from shards.split import draw_split
from shards.verify import verify
from shards.writer import DatasetWriter

from .small_dataset import small_sample, write_dataset

SHARD_BYTES = 40_000


def members_of(url: Path) -> dict[str, tuple[str, dict[str, bytes]]]:
    """Key to split and members."""
    return {
        stored.key: (stored.split, stored.members)
        for split, entry in read_manifest(str(url)).splits.items()
        for stored in stored_samples(str(url), split, entry)
    }


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "set", range(24), rejects={"flat": 2})
    return tmp_path / "set"


def test_carving_by_share_moves_samples_and_changes_none(dataset: Path, tmp_path: Path) -> None:
    parent = read_manifest(str(dataset))
    calls: list[tuple[str, int, int]] = []
    made = split_dataset(
        str(dataset), str(tmp_path / "new"), ByShare(0.4), shard_bytes=SHARD_BYTES, progress=lambda *c: calls.append(c)
    )
    before, after = members_of(dataset), members_of(tmp_path / "new")
    assert {key: members for key, (_, members) in after.items()} == {key: m for key, (_, m) in before.items()}
    for number in range(24):
        assert after[f"s{number:03d}"][0] == draw_split(f"beach/{number}.jpg", 0.4)
    assert {split for split, _ in after.values()} == {"train", "val"}
    assert made.manifest == read_manifest(str(tmp_path / "new"))
    assert made.straddling == []
    assert made.manifest.rejects == {"flat": 2}
    assert made.manifest.config == {
        "made_by": "split",
        "val_share": 0.4,
        "parents": [{"fingerprint": parent.fingerprint, "config": {"made": "here"}}],
    }
    assert verify(str(tmp_path / "new")).damage == []
    assert calls == [(what, done, 24) for what in ("looked at", "copied") for done in range(1, 25)]
    store = ShardStore(str(tmp_path / "new"), "val")
    assert store.read(0).meta["name"].startswith("beach/")
    store.close()


def test_carving_again_gives_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    for name in ("one", "two", "two"):
        split_dataset(str(dataset), str(tmp_path / name), ByShare(0.4), shard_bytes=SHARD_BYTES)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_carving_by_list_takes_keys_and_names(dataset: Path, tmp_path: Path) -> None:
    made = split_dataset(
        str(dataset), str(tmp_path / "new"), ByList(["s005", "beach/11.jpg", "s000"]), shard_bytes=SHARD_BYTES
    )
    after = members_of(tmp_path / "new")
    assert {key for key, (split, _) in after.items() if split == "val"} == {"s000", "s005", "s011"}
    assert made.manifest.config["val_listed"] == 3
    with pytest.raises(ShardError, match=r"2 of the 3 listed names .*: gone, s099"):
        split_dataset(str(dataset), str(tmp_path / "x"), ByList(["gone", "s099", "s001"]), shard_bytes=SHARD_BYTES)
    assert not (tmp_path / "x").exists()


def test_near_duplicates_go_together_and_are_told_where_a_list_parts_them(tmp_path: Path) -> None:
    with DatasetWriter(str(tmp_path / "set"), shard_bytes=1 << 20, config={}) as writer:
        for number in range(24):
            writer.add("train", small_sample(number, seed=number // 2 * 2))  # in pairs, of two sizes
        writer.finish({})
    made = split_dataset(str(tmp_path / "set"), str(tmp_path / "share"), ByShare(0.4), shard_bytes=SHARD_BYTES)
    after = members_of(tmp_path / "share")
    assert made.straddling == []
    for number in range(0, 24, 2):
        assert after[f"s{number:03d}"][0] == after[f"s{number + 1:03d}"][0]
    assert {split for split, _ in after.values()} == {"train", "val"}
    listed = split_dataset(str(tmp_path / "set"), str(tmp_path / "list"), ByList(["s004"]), shard_bytes=SHARD_BYTES)
    assert listed.straddling == [("beach/5.jpg", "beach/4.jpg")]


@pytest.mark.parametrize(("rule", "side"), [(ByShare(1e-9), "val"), (ByList([]), "val")])
def test_an_empty_split_is_refused(dataset: Path, tmp_path: Path, rule: ByShare, side: str) -> None:
    with pytest.raises(ShardError, match=f"no sample would go to {side}"):
        split_dataset(str(dataset), str(tmp_path / "new"), rule, shard_bytes=SHARD_BYTES)
    assert not (tmp_path / "new").exists()


def test_share_0_puts_all_into_train(dataset: Path, tmp_path: Path) -> None:
    made = split_dataset(str(dataset), str(tmp_path / "new"), ByShare(0.0), shard_bytes=SHARD_BYTES)
    assert {name: split.samples for name, split in made.manifest.splits.items()} == {"train": 24}


def test_merging_keeps_splits_order_and_bytes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a", range(8), rejects={"flat": 2, "far": 1})
    write_dataset(tmp_path / "b", range(8, 18), rejects={"flat": 5})
    made = merge_datasets([str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "ab"), shard_bytes=SHARD_BYTES)
    both = members_of(tmp_path / "a") | members_of(tmp_path / "b")
    merged = members_of(tmp_path / "ab")
    assert merged == both
    assert [key for key, (split, _) in merged.items() if split == "train"] == [
        key for key, (split, _) in both.items() if split == "train"
    ]
    assert made.manifest.rejects == {"flat": 7, "far": 1}
    assert [parent["fingerprint"] for parent in made.manifest.config["parents"]] == [
        read_manifest(str(tmp_path / name)).fingerprint for name in ("a", "b")
    ]
    assert verify(str(tmp_path / "ab")).damage == []


def test_common_keys_are_refused_before_anything_is_written_and_prefixes_help(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a", range(4))
    write_dataset(tmp_path / "b", range(3, 7))
    urls = [str(tmp_path / "a"), str(tmp_path / "b")]
    with pytest.raises(ShardError, match=r"sample s003 is in .*a and in .*b; .*--prefixes"):
        merge_datasets(urls, str(tmp_path / "ab"), shard_bytes=SHARD_BYTES)
    assert not (tmp_path / "ab").exists()
    made = merge_datasets(urls, str(tmp_path / "ab"), shard_bytes=SHARD_BYTES, prefixes=["", "b-"])
    merged = members_of(tmp_path / "ab")
    assert sorted(merged) == ["b-s003", "b-s004", "b-s005", "b-s006", "s000", "s001", "s002", "s003"]
    assert merged["b-s003"] == merged["s003"] == members_of(tmp_path / "b")["s003"]
    assert made.manifest.config["parents"][1]["prefix"] == "b-"
    assert made.straddling == []  # the picture that both have is in val both times
    for prefixes, message in ((["a-"], "1 prefixes for 2"), (["A/", "b"], "a-z 0-9"), (["x" * 78, "b"], "plain tar")):
        with pytest.raises(ShardError, match=message):
            merge_datasets(urls, str(tmp_path / "y"), shard_bytes=SHARD_BYTES, prefixes=prefixes)


def test_a_picture_in_train_of_one_and_val_of_the_other_is_told(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a", range(4))
    with DatasetWriter(str(tmp_path / "b"), shard_bytes=1 << 20, config={}) as writer:
        writer.add("train", small_sample(9, key="again", seed=3))
        writer.finish({})
    made = merge_datasets([str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "ab"), shard_bytes=SHARD_BYTES)
    assert made.straddling == [("beach/9.jpg", "beach/3.jpg")]


def test_damage_in_a_parent_stops_the_merge(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a", range(4))
    write_dataset(tmp_path / "b", range(4, 8))
    data = bytearray((tmp_path / "b" / "val-000000.tar").read_bytes())
    data[520] ^= 1
    (tmp_path / "b" / "val-000000.tar").write_bytes(data)
    with pytest.raises(ShardError, match=r"val-000000\.tar: sample 0 of val"):
        merge_datasets([str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "ab"), shard_bytes=SHARD_BYTES)
    assert not (tmp_path / "ab").exists()


def test_an_existing_dataset_is_left_alone(dataset: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "there", range(4))
    with pytest.raises(ShardError, match="holds a finished dataset"):
        split_dataset(str(dataset), str(tmp_path / "there"), ByShare(0.4), shard_bytes=SHARD_BYTES)
