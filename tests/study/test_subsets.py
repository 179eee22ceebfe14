import pytest

from pipeline.data.store import ShardStore
from pipeline.study.subsets import is_drawn, left_out, write_subset
from shards.errors import ShardError

from ..data.small_dataset import write_dataset

KEYS = [f"k{n:03d}" for n in range(40)]


def kept(share, keys=KEYS):
    return set(keys) - set(left_out(keys, share))


def test_smaller_shares_are_parts_of_larger_ones():
    assert [len(kept(share)) for share in (0.1, 0.25, 0.5)] == [4, 10, 20]
    assert kept(0.1) < kept(0.25) < kept(0.5)
    assert kept(0.5) == kept(0.5, KEYS[::-1])


def test_a_share_takes_from_everywhere():
    assert kept(0.5) & set(KEYS[:10]) and kept(0.5) & set(KEYS[-10:])


def test_at_least_one_picture_stays_and_one_goes():
    assert len(kept(0.1, KEYS[:2])) == len(kept(0.99, KEYS[:2])) == 1
    with pytest.raises(ValueError, match="1 training pictures"):
        left_out(["a"], 0.5)


def test_a_subset_trains_on_its_share_alone(tmp_path):
    write_dataset(tmp_path / "all", samples=12, val=3)
    whole = ShardStore(str(tmp_path / "all"), "train")
    assert write_subset(str(tmp_path / "all"), str(tmp_path / "half"), 0.5) == 6
    half = ShardStore(str(tmp_path / "half"), "train")
    keys = [half.read(n).key for n in range(len(half))]
    everything = [whole.read(n).key for n in range(len(whole))]
    assert set(keys) == kept(0.5, everything)


def test_a_subset_of_another_dataset_is_refused(tmp_path):
    whole, half = str(tmp_path / "all"), str(tmp_path / "half")
    write_dataset(tmp_path / "all", samples=12, val=3)
    assert not is_drawn(whole, half)
    write_subset(whole, half, 0.5)
    assert is_drawn(whole, half)
    write_dataset(tmp_path / "other", samples=13, val=3)
    with pytest.raises(ShardError, match=r"half was drawn from another dataset than .*other now is"):
        is_drawn(str(tmp_path / "other"), half)
