"""A folder at an fsspec URL (s3, gs, hf, http, memory ...) as a collection.

Usage:

    files = RemoteFolder("s3://bucket/pictures"); data = files.read(files.listing().names[0])
"""

from functools import cached_property

from shards.errors import DecodeError, ShardError, SourceError
from shards.images import MAX_FILE_BYTES
from shards.names import printable
from shards.sources.census import Census
from shards.sources.files import Listing
from shards.storage import find_files, join, read_bytes, shown

__all__ = ["RemoteFolder"]


class RemoteFolder:
    """All files below a URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    def listing(self) -> Listing:
        """All files; see `Files.listing`."""
        return self._listing

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The content of one file; see `Files.read`. A server that fails is asked again for a while."""
        try:
            data = read_bytes(join(self._url, name), max_bytes)
        except ShardError as error:
            if error.__cause__ is None:  # it answered, and the file is too large
                raise DecodeError(f"{printable(name)}: more than {max_bytes} bytes") from None
            if isinstance(error.__cause__, FileNotFoundError):
                raise DecodeError(f"{printable(name)}: no such file") from None
            raise SourceError(str(error)) from error
        if not data:
            raise DecodeError(f"{printable(name)}: empty file")
        return data

    @cached_property
    def _listing(self) -> Listing:
        census: Census[None] = Census()
        try:
            for name in find_files(self._url):
                census.add(name, None)
        except ShardError as error:  # names the URL
            raise SourceError(f"source.path: {error}") from error
        except SourceError as error:
            raise SourceError(f"source.path: {printable(shown(self._url))}: {error}") from error
        if not census.places:
            raise SourceError(f"source.path: {printable(shown(self._url))}: there is no such folder, or it is empty")
        return census.listing()
