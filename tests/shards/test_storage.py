from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.errors import ShardError
from shards.storage import (
    exists,
    join,
    list_names,
    local_path,
    make_folder,
    publish_bytes,
    publish_file,
    read_bytes,
    remove,
    shown,
)


@pytest.fixture(params=["path", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "a b" / "data"
    yield {"path": str(folder), "file": folder.as_uri(), "memory": f"memory://{tmp_path.name}/data"}[request.param]
    if request.param == "memory":
        import fsspec

        fsspec.filesystem("memory").store.clear()


def test_files_are_written_listed_read_and_removed(url: str, tmp_path: Path) -> None:
    make_folder(url)
    publish_bytes(join(url, "b.json"), b"old")
    publish_bytes(join(url, "b.json"), b"new")
    (tmp_path / "local").write_bytes(b"tar")
    publish_file(tmp_path / "local", join(url, "a.tar"))
    assert not (tmp_path / "local").exists()
    assert list_names(url) == ["a.tar", "b.json"]
    assert read_bytes(join(url, "b.json"), 3) == b"new"
    assert read_bytes(join(url, "a.tar"), 100) == b"tar"
    assert exists(join(url, "a.tar"))
    remove(join(url, "a.tar"))
    assert not exists(join(url, "a.tar"))
    assert list_names(url) == ["b.json"]


def test_reading_is_bounded_and_a_missing_file_is_one_line(url: str) -> None:
    make_folder(url)
    publish_bytes(join(url, "x"), b"12345")
    with pytest.raises(ShardError, match="larger than 4 bytes"):
        read_bytes(join(url, "x"), 4)
    with pytest.raises(ShardError, match="there is no such file"):
        read_bytes(join(url, "y"), 4)
    assert list_names(join(url, "no_such_folder")) == []


def test_publishing_beside_is_a_rename(tmp_path: Path) -> None:
    (tmp_path / ".x.part").write_bytes(b"1")
    inode = (tmp_path / ".x.part").stat().st_ino
    publish_file(tmp_path / ".x.part", str(tmp_path / "x"))
    assert (tmp_path / "x").stat().st_ino == inode


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ShardError, match=r"cannot (create|write)"):
        make_folder(str(tmp_path / "file" / "below"))
    with pytest.raises(ShardError, match="cannot write"):
        publish_bytes(str(tmp_path / "file" / "x"), b"1")


def test_which_urls_are_local() -> None:
    assert local_path("runs/x") == Path("runs/x")
    assert local_path("file:///a/b%20c") == Path("/a/b c")
    for url in ("s3://b/x", "memory://x", "https://h/x", "hf://datasets/x", "simplecache::s3://b/x"):
        assert local_path(url) is None


def test_credentials_are_never_shown_and_a_query_stays_behind_the_name() -> None:
    url = "https://me:secret@host/data?token=secret"
    assert shown(url) == "https://host/data"
    assert shown("simplecache::s3://me:secret@b/x?y") == "simplecache::s3://b/x"
    assert join(url, "x.tar") == "https://me:secret@host/data/x.tar?token=secret"
    with pytest.raises(ShardError) as caught:
        read_bytes("nosuchscheme://me:secret@host/data?token=secret", 1)
    assert "secret" not in str(caught.value)
