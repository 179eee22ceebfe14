import hashlib
import pickle

import pytest

from pipeline.data.shard_table import ShardTable
from shards.manifest import ShardEntry


def entries(count: int) -> list[ShardEntry]:
    return [
        ShardEntry(
            name=f"{'train' if number % 2 else 'of-another-length'}-{number:06d}.tar",
            bytes=(1 << 40) + number,
            samples=1 + number,
            sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        )
        for number in range(count)
    ]


def test_it_is_the_list_also_in_another_process() -> None:
    shards = entries(7)
    for table in (ShardTable(shards), pickle.loads(pickle.dumps(ShardTable(shards)))):
        assert list(table) == shards
        assert table[-1] == shards[-1] and table[2:5] == shards[2:5] and table.index(shards[4]) == 4
        assert table[3].model_dump_json() == shards[3].model_dump_json()
        with pytest.raises(IndexError):
            table[7]


def test_an_empty_list_is_one() -> None:
    assert not ShardTable([]) and list(ShardTable([])) == []


def test_a_shard_takes_some_bytes() -> None:
    shards = [
        entry.model_copy(update={"name": f"train-{number:06d}.tar"}) for number, entry in enumerate(entries(1000))
    ]
    assert len(pickle.dumps(ShardTable(shards))) < 70 * len(shards)
