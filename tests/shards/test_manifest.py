import json
from pathlib import Path
from typing import Any

import pytest

from shards.errors import ShardError
from shards.manifest import IndexEntry, Manifest, ShardEntry, SplitEntry, publish_manifest, read_manifest


def manifest(**changes: Any) -> Manifest:
    shards = [
        ShardEntry(name="train-000000.tar", bytes=1000, samples=3, sha256="a" * 64),
        ShardEntry(name="train-000001.tar", bytes=500, samples=2, sha256="b" * 64),
    ]
    split = SplitEntry(samples=5, shards=shards, index=IndexEntry(name="train.index", bytes=152, sha256="c" * 64))
    fields: dict[str, Any] = {"splits": {"train": split}, "config": {"a": [1]}, "rejects": {"flat": 2}}
    return Manifest(**fields | changes)


def edit(folder: Path, change: Any) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_manifest_is_read_as_written(tmp_path: Path) -> None:
    publish_manifest(str(tmp_path), manifest())
    assert read_manifest(str(tmp_path)) == manifest()
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_the_fingerprint_is_that_of_the_content() -> None:
    assert manifest().fingerprint == manifest(config={}, rejects={}).fingerprint
    split = manifest().splits["train"]
    swapped = split.model_copy(update={"shards": split.shards[::-1]})
    assert manifest(splits={"train": swapped}).fingerprint != manifest().fingerprint
    assert manifest(splits={"val": split}).fingerprint != manifest().fingerprint


def test_without_a_manifest_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"no such dataset.*launch\.shards"):
        read_manifest(str(tmp_path / "nowhere"))
    with pytest.raises(ShardError, match="did not finish"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize("name", ["../x.tar", "/x.tar", "a/b.tar", "s3://x.tar", ".x.tar", "..", "", "manifest.json"])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    publish_manifest(str(tmp_path), manifest())
    edit(tmp_path, lambda content: content["splits"]["train"]["shards"][0].update(name=name))
    with pytest.raises(ShardError, match="not a plain file name"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format_version=2), "format_version 2; this program reads version 1"),
        (lambda c: c.pop("format_version"), "format_version None"),
        (lambda c: c.update(extra=1), "extra"),
        (lambda c: c["splits"].update(test=c["splits"]["train"]), "splits"),
        (lambda c: c["splits"]["train"].update(samples=6), "its shards have 5"),
        (lambda c: c["splits"]["train"]["shards"][1].update(bytes=-1), "bytes"),
        (lambda c: c["splits"]["train"]["shards"][1].update(bytes=1e300), "bytes"),
        (lambda c: c["splits"]["train"]["shards"][1].update(samples="2"), "samples"),
        (lambda c: c["splits"]["train"]["shards"][1].update(sha256="xyz"), "sha256"),
        (lambda c: c["splits"]["train"]["shards"][1].update(name="train-000000.tar"), "same name"),
        (lambda c: c["splits"]["train"]["shards"][1].update(sha256="d" * 64), "was edited"),
        (lambda c: c.update(fingerprint="0"), "was edited"),
        (lambda c: c.pop("splits"), "splits"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    publish_manifest(str(tmp_path), manifest())
    edit(tmp_path, change)
    with pytest.raises(ShardError, match=message) as caught:
        read_manifest(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\x00", '"x"'])
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ShardError, match="is damaged"):
        read_manifest(str(tmp_path))
