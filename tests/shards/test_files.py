import io
import uuid
import zipfile

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from shards.config import PackConfig
from shards.errors import DecodeError, SourceError
from shards.prepare import prepare
from shards.sources import open_source
from shards.sources.config import FolderSourceConfig
from shards.sources.files import collection_name, open_files


@pytest.fixture
def memory_url():
    url = f"memory://{uuid.uuid4().hex}/pictures"
    yield url
    fs = fsspec.filesystem("memory")
    fs.rm(url.removeprefix("memory://").partition("/")[0], recursive=True)


def put(url, files):
    fs = fsspec.filesystem("memory")
    for name, data in files.items():
        fs.pipe_file(f"{url}/{name}", data)


def test_a_folder_at_a_url_is_read_like_one_here(memory_url):
    put(memory_url, {"a.jpg": b"one", "deep/er/b c.jpg": b"two", ".hidden/x": b"x", "empty.jpg": b""})
    for url in (memory_url, memory_url + "/"):
        files = open_files(url)
        assert files.listing().names == ("a.jpg", "deep/er/b c.jpg", "empty.jpg")
        assert files.listing().passed_over == {"hidden": [".hidden"]}
        assert files.read("deep/er/b c.jpg") == b"two"
        with pytest.raises(DecodeError, match=r"^a\.jpg: more than 2 bytes"):
            files.read("a.jpg", max_bytes=2)
        with pytest.raises(DecodeError, match=r"^empty\.jpg: empty file"):
            files.read("empty.jpg")
        with pytest.raises(DecodeError, match=r"^gone\.jpg: no such file"):
            files.read("gone.jpg")


def test_a_url_without_files_is_a_mistake_told_without_its_secrets():
    with pytest.raises(SourceError, match=r"memory://nowhere/pictures: .*no such folder") as caught:
        open_files("memory://user:secret@nowhere/pictures?token=secret").listing()
    assert "secret" not in str(caught.value)
    with pytest.raises(SourceError, match="nosuchprotocol"):
        open_files("nosuchprotocol://x/y").listing()


def test_an_archive_at_a_url_is_read_in_place(memory_url):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", b"one")
    put(memory_url, {"x.zip": buffer.getvalue()})
    files = open_files(f"{memory_url}/x.zip")
    assert files.listing().names == ("a.jpg",)
    assert files.read("a.jpg") == b"one"


def test_a_file_url_is_a_folder_here(tmp_path):
    (tmp_path / "a b.jpg").write_bytes(b"x")
    assert open_files(f"file://{tmp_path}").read("a b.jpg") == b"x"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/pictures", "pictures"),
        ("/data/pictures/", "pictures"),
        ("s3://bucket/pictures.zip", "pictures.zip"),
        ("s3://key:secret@bucket", "bucket"),
        ("https://user:secret@host/a/pictures.zip?token=secret", "pictures.zip"),
        ("simplecache::s3://bucket/pictures", "pictures"),
    ],
)
def test_the_name_of_a_collection_holds_no_secret(path, name):
    assert collection_name(path) == name


def test_a_folder_source_takes_pairs_from_any_container(tmp_path, memory_url):
    rng = np.random.default_rng(0)
    pictures = {}
    for side in "LR":
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)).save(buffer, "PNG")
        pictures[f"deep/a_{side}.png"] = buffer.getvalue()
    put(memory_url, pictures)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in pictures.items():
            archive.writestr(name, data)
    pairs = []
    for path in (memory_url, str(tmp_path / "x.zip")):
        source = open_source(FolderSourceConfig(kind="folder", path=path))
        (item,) = source.items()
        assert (item.name, item.partner) == ("deep/a_L.png", "deep/a_R.png")
        pairs.append(source.load(item))
    np.testing.assert_array_equal(pairs[0].left, pairs[1].left)
    np.testing.assert_array_equal(pairs[0].right, pairs[1].right)


def test_rejects_do_not_tell_where_the_collection_lies(tmp_path):
    for side in "LR":
        (tmp_path / f"a_{side}.png").write_bytes(b"no picture")
    (tmp_path / "b_L.png").write_bytes(b"")
    (tmp_path / "b_R.png").write_bytes(b"")
    config = PackConfig.model_validate({"out": "x", "source": {"kind": "folder", "path": str(tmp_path)}})
    for item in open_source(config.source).items():
        prepared = prepare(item, config)
        assert prepared.reason == "unreadable"
        assert prepared.figures["error"].startswith(item.name)
        assert str(tmp_path) not in prepared.figures["error"]


class Flaky(MemoryFileSystem):
    """A server that fails some times before it answers."""

    protocol = "flaky"
    store: dict = {}
    pseudo_dirs = [""]
    failures = 0

    def _open(self, path, *args, **kwargs):
        if Flaky.failures > 0:
            Flaky.failures -= 1
            raise ConnectionResetError("connection reset, see http://user:secret@host/?token=secret")
        return super()._open(path, *args, **kwargs)


def test_a_server_that_fails_is_asked_again_and_never_makes_a_picture_bad(monkeypatch):
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    fsspec.filesystem("flaky").pipe_file("flaky://pictures/a.jpg", b"one")
    files = open_files("flaky://pictures")
    Flaky.failures = 2
    assert files.read("a.jpg") == b"one"
    Flaky.failures = 10**6
    monkeypatch.setattr("shards.storage._RETRY_SECONDS", 0.5)
    with pytest.raises(SourceError, match=r"a\.jpg: cannot read it: connection reset") as caught:
        files.read("a.jpg")
    assert "secret" not in str(caught.value)
