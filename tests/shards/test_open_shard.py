import hashlib
import io

import numpy as np
import pytest
import webdataset

from shards.errors import ShardError
from shards.open_shard import OpenShard, members_span, tar_end


def random_samples(seed, num=12):
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0, 1, 511, 512, 513, 3000, 9000], (num, 2))
    return [(f"s{k:02d}", {"jpg": rng.bytes(a), "pairs.npy": rng.bytes(b)}) for k, (a, b) in enumerate(sizes)]


def whole_tar(samples):
    """What webdataset writes when it writes everything at once."""
    buffer = io.BytesIO()
    with webdataset.TarWriter(
        buffer, encoder=False, mtime=0, user="depthrank", group="depthrank", mode=0o644
    ) as writer:
        for key, members in samples:
            writer.write({"__key__": key, **members})
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(6))
def test_a_tar_left_and_taken_up_anywhere_is_the_one_that_webdataset_writes(tmp_path, seed):
    samples = random_samples(seed)
    expected = whole_tar(samples)
    for cut in range(len(samples) + 1):
        path = tmp_path / f"{cut}.tar"
        shard = OpenShard(path)
        for key, members in samples[:cut]:
            shard.append(key, members)
        length, sha256 = shard.length, shard.sha256
        assert length == sum(members_span(members) for _, members in samples[:cut])
        shard.leave()
        with path.open("ab") as file:  # what a killed process had begun to write
            file.write(b"half a sample")
        shard = OpenShard(path, length=length, samples=cut)
        assert shard.sha256 == sha256
        for key, members in samples[cut:]:
            shard.append(key, members)
        assert shard.samples == len(samples)
        assert shard.close() == (hashlib.sha256(expected).hexdigest(), len(expected))
        assert path.read_bytes() == expected


def test_the_end_of_a_tar_fills_a_record():
    for length in range(0, 30720, 512):
        end = tar_end(length)
        assert not any(end)
        assert len(end) >= 1024
        assert (length + len(end)) % 10240 == 0


def test_a_shard_that_became_shorter_is_not_taken_up(tmp_path):
    (tmp_path / "x").write_bytes(bytes(1000))
    with pytest.raises(ShardError, match="shorter than 1024 bytes"):
        OpenShard(tmp_path / "x", length=1024)
    with pytest.raises(ShardError, match="cannot write it"):
        OpenShard(tmp_path / "missing" / "x")
