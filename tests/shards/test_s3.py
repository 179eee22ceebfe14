"""Packing to an object store: a local S3 server. Needs the extra `test-s3`."""

import hashlib

import pytest

from shards.errors import ShardError
from shards.manifest import read_manifest
from shards.pack import pack

from .test_carry_on import start
from .wild_pictures import Remembering, contents, make_pictures, pack_config

pytestmark = [
    pytest.mark.slow,
    # of botocore, aiobotocore and werkzeug, which are not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"), num=6)


@pytest.fixture(scope="module")
def once():
    return Remembering()


@pytest.fixture(scope="module")
def whole(pictures, once, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    pack(pack_config(pictures, out), executor=once)
    return contents(out)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def stored(url):
    import s3fs

    s3 = s3fs.S3FileSystem()
    s3.invalidate_cache()
    return {path.rpartition("/")[2]: hashlib.sha256(s3.cat_file(path)).hexdigest() for path in s3.ls(url)}


def test_a_bucket_holds_the_same_files(bucket, pictures, once, whole, state):
    config = pack_config(pictures, f"{bucket}/plain")
    report = pack(config, executor=once)
    assert stored(config.out) == whole
    assert read_manifest(config.out) == report.manifest
    assert pack(config, executor=once).manifest == report.manifest
    with pytest.raises(ShardError, match="other settings"):
        pack(pack_config(pictures, config.out, jpeg_quality=70), executor=once)
    assert stored(config.out) == whole
    assert not [path for path in state.rglob("*") if path.is_file()]


@pytest.mark.parametrize("until", [2, 5, 8])
def test_an_interrupted_job_continues_in_a_bucket(bucket, pictures, once, whole, until):
    config = pack_config(pictures, f"{bucket}/until-{until}")
    start(config, once, until=until)
    said, after = start(config, once)
    assert f"carried on: {until} of 8 items were done" in said
    assert len(after) == 8 - until
    assert stored(config.out) == whole
