"""The shards of a split in 64 bytes each: every loader process has them all, and a large dataset has 100,000 of them.

shards = ShardTable(manifest.splits["train"].shards); shards[17].name
"""

from collections.abc import Sequence
from typing import overload

import numpy as np

from shards.manifest import ShardEntry

__all__ = ["ShardTable"]

_DIGEST_BYTES = 32


class ShardTable(Sequence[ShardEntry]):
    """A list of `ShardEntry`, each of which is made when it is asked for; picklable."""

    def __init__(self, shards: Sequence[ShardEntry]) -> None:
        self._names = np.array([shard.name.encode("ascii") for shard in shards], dtype=np.bytes_)
        self._numbers = np.array([(shard.bytes, shard.samples) for shard in shards], dtype=np.int64)
        digests = bytes.fromhex("".join(shard.sha256 for shard in shards))
        self._digests = np.frombuffer(digests, dtype=np.uint8).reshape(-1, _DIGEST_BYTES)

    def __len__(self) -> int:
        return len(self._names)

    def size_bytes(self, number: int) -> int:
        """Bytes of a shard: what each reading of a sample asks for."""
        return int(self._numbers[number, 0])

    @overload
    def __getitem__(self, number: int) -> ShardEntry: ...

    @overload
    def __getitem__(self, number: slice) -> list[ShardEntry]: ...

    def __getitem__(self, number: int | slice) -> ShardEntry | list[ShardEntry]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        size, samples = self._numbers[number].tolist()
        # What was checked when the manifest was read is not checked again with each sample.
        return ShardEntry.model_construct(
            name=self._names[number].decode("ascii"),
            bytes=size,
            samples=samples,
            sha256=self._digests[number].tobytes().hex(),
        )
