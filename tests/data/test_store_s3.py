"""Training shards in an object store: a local S3 server. Needs the extra `test-s3`."""

import itertools
from pathlib import Path

import pytest

from pipeline.data.store import ShardStore
from shards.errors import ShardError
from shards.manifest import read_manifest

from .small_dataset import make_sample, write_dataset

pytestmark = [
    pytest.mark.slow,
    # of botocore, aiobotocore and werkzeug, which are not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SAMPLES = 23


@pytest.fixture(scope="module")
def url(bucket: str) -> str:
    """A dataset in a bucket."""
    write_dataset(f"{bucket}/set", SAMPLES)
    return f"{bucket}/set"


def test_samples_in_a_bucket_are_read_as_written_and_each_shard_is_fetched_once(url: str, tmp_path: Path) -> None:
    split = read_manifest(url).splits["train"]
    store = ShardStore(url, "train", cache_dir=str(tmp_path))
    store.prefetch(itertools.cycle(range(len(split.shards))))
    for number in range(SAMPLES):
        sample, wanted = store.read(number), make_sample(number)
        assert (sample.key, sample.image) == (wanted.key, wanted.image)
        assert (sample.pairs == wanted.pairs).all()
    assert store.fetched.files == 1 + len(split.shards)
    assert store.fetched.bytes == split.index.bytes + sum(shard.bytes for shard in split.shards)
    store.close()


def test_a_shard_that_is_not_in_the_bucket_is_told_at_once(url: str, tmp_path: Path) -> None:
    import s3fs

    store = ShardStore(url, "train", cache_dir=str(tmp_path))
    s3 = s3fs.S3FileSystem()
    s3.mv(f"{url}/train-000001.tar", f"{url}/gone.tar")
    try:
        with pytest.raises(ShardError, match=rf"{url}/train-000001\.tar: there is no such file"):
            store.read(store.shard_sizes[0])
    finally:
        s3.mv(f"{url}/gone.tar", f"{url}/train-000001.tar")
    store.close()
