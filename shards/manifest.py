"""The manifest of a dataset: what its files are, how they were made, what was left out.

It is written last, so a folder with a manifest is complete. Its `fingerprint` names the content: two datasets with the
same fingerprint have the same samples in the same order, wherever they lie.

    manifest = read_manifest("s3://bucket/web-shards"); manifest.splits["train"].samples
"""

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shards.errors import ShardError, first_line
from shards.similar import similar_path
from shards.storage import exists, join, publish_bytes, read_bytes, shown

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "PLAIN_NAME",
    "IndexEntry",
    "Manifest",
    "ShardEntry",
    "SplitEntry",
    "SplitName",
    "publish_manifest",
    "read_manifest",
]

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
_MAX_MANIFEST_BYTES = 1 << 26
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""What a file of a dataset may be called."""

SplitName = Literal["train", "val"]
Count = Annotated[int, Field(ge=0, lt=1 << 48)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class IndexEntry(_Entry):
    """The index file of a split."""

    name: str
    bytes: Count
    sha256: Sha256


class ShardEntry(_Entry):
    """One tar."""

    name: str
    bytes: Count
    samples: Annotated[int, Field(ge=1, lt=1 << 48)]
    sha256: Sha256


class SplitEntry(_Entry):
    """The shards of a split, in order, and their index."""

    samples: Count
    shards: list[ShardEntry]
    index: IndexEntry

    @model_validator(mode="after")
    def _adds_up(self) -> "SplitEntry":
        if self.samples != sum(shard.samples for shard in self.shards):
            raise ValueError(f"samples: {self.samples}, but its shards have {sum(s.samples for s in self.shards)}")
        return self


class Manifest(_Entry):
    """Everything about a dataset but its samples."""

    format_version: Literal[1] = 1
    splits: dict[SplitName, SplitEntry]
    config: dict[str, Any]
    """Settings that made the dataset."""
    rejects: dict[str, Count]
    """Pictures that were left out: reason to number."""

    @model_validator(mode="after")
    def _plain_unique_names(self) -> "Manifest":
        splits = self.splits.values()
        names = [shard.name for split in splits for shard in split.shards] + [split.index.name for split in splits]
        for name in names:
            if not PLAIN_NAME.fullmatch(name) or name == MANIFEST_NAME:
                raise ValueError(f"{name[:200]!r} is not a plain file name")
        if len(set(names)) != len(names):
            raise ValueError("two of its files have the same name")
        return self

    @property
    def fingerprint(self) -> str:
        """Sha256 over what defines the samples and their order: the shards of each split and their contents."""
        content = {
            "format_version": self.format_version,
            "splits": {
                name: [[shard.sha256, shard.samples] for shard in split.shards] for name, split in self.splits.items()
            },
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def publish_manifest(url: str, manifest: Manifest) -> None:
    """Write the manifest of the dataset at `url`; do it last, it declares the dataset complete."""
    content = {"fingerprint": manifest.fingerprint, **manifest.model_dump(mode="json")}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False)
    publish_bytes(join(url, MANIFEST_NAME), text.encode("ascii") + b"\n")


def read_manifest(url: str) -> Manifest:
    """Read the manifest of the dataset at `url`.

    Raises:
        ShardError: There is none, so the dataset is missing or incomplete; or it is damaged, of another version, or
            names files that are not plain names.
    """
    where = join(url, MANIFEST_NAME)
    try:
        data = read_bytes(where, _MAX_MANIFEST_BYTES)
    except ShardError as error:
        if not isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
            raise
        if not exists(url):
            raise ShardError(
                f"{shown(url)}: there is no such dataset of shards{similar_path(url)}; make one with "
                "`python -m launch.shards`"
            ) from None
        raise ShardError(
            f"{shown(where)} is missing: this is no dataset of shards, or packing or copying it did not finish; "
            "pack it again, or copy it again with its manifest"
        ) from None
    try:
        content = json.loads(data)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(f"format_version {version!r}; this program reads version {FORMAT_VERSION}")
        fingerprint = content.pop("fingerprint", None)
        manifest = Manifest.model_validate(content)
    except (ValidationError, ValueError, RecursionError) as error:
        raise ShardError(f"{shown(where)} is damaged: {_reason(error)}; copy or pack the dataset again") from error
    if fingerprint != manifest.fingerprint:
        raise ShardError(
            f"{shown(where)} was edited: its fingerprint is not that of the shards it lists; "
            "copy or pack the dataset again"
        )
    return manifest


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".lstrip(": ")
    return first_line(error)
