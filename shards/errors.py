"""The exceptions of the project.

    DepthRankError            a person can act on it: the message says what, where and what to do (exit code 2)
    ├── ConfigError           settings: every mistake at once
    ├── DataError
    │   ├── SourceError       a raw collection is missing, empty or not what it was declared to be
    │   ├── DecodeError       one picture cannot be read; the caller counts it and goes on
    │   └── ShardError        a dataset of shards is missing, damaged or hostile
    ├── CheckpointError       a checkpoint is missing, damaged or contradicts the config
    ├── RunError              the run folder is held by another trainer, full or not writable
    └── DivergedError         the loss or the gradients are not finite (the run is `failed`, exit code 1)

`model/` stands below this tree and raises ValueError.
"""

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DecodeError",
    "DepthRankError",
    "DivergedError",
    "RunError",
    "ShardError",
    "SourceError",
    "first_line",
]


class DepthRankError(Exception):
    """Root: a mistake or a fault that the message explains to the user; no traceback is shown."""


class ConfigError(DepthRankError):
    """One or more settings are wrong; the message lists all of them, a line each."""


class DataError(DepthRankError):
    """Something is wrong with the data."""


class SourceError(DataError):
    """A raw collection is missing, empty or not what the config says."""


class DecodeError(DataError):
    """One picture cannot be decoded, breaks a bound, or is not what the source holds.

    Args:
        message: What is wrong with which picture.
        reason: One word under which it is counted among the rejects.
    """

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class ShardError(DataError):
    """A dataset of shards is missing, incomplete, damaged or hostile."""


class CheckpointError(DepthRankError):
    """No usable checkpoint, or one that contradicts the config."""


class RunError(DepthRankError):
    """The run folder cannot be used."""


class DivergedError(DepthRankError):
    """Loss or gradients are not finite."""


def first_line(error: BaseException) -> str:
    """What a library said, short enough to be part of a message."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]
