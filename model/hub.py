"""Where a saved network lies: a folder, or a repository of the Hugging Face Hub, fetched once into its cache.

    folder = network_folder("runs/web")              # as it is
    folder = network_folder("owner/name@v1")         # downloaded, or taken from the cache without a network

Only the two files that make a network are fetched, neither of which can run code.
"""

import re
from pathlib import Path

__all__ = ["CONFIG_NAME", "WEIGHTS_NAME", "network_folder"]

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"

_REPOSITORY = re.compile(r"(?P<name>[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


def network_folder(origin: str | Path) -> Path:
    """The folder of a network.

    Args:
        origin: A folder; or, as text of which there is no folder, `owner/name` or `owner/name@revision` on the Hub.
            A revision is a branch, a tag or a commit.

    Raises:
        ValueError: A repository is meant, and it or `huggingface_hub` cannot be had.
    """
    match = _REPOSITORY.fullmatch(origin) if isinstance(origin, str) else None
    if match is None or Path(origin).exists():
        return Path(origin)
    return _fetch(match["name"], match["revision"])


def _fetch(name: str, revision: str | None) -> Path:
    """The snapshot of a repository in the Hub's cache; without a network, the one that is there."""
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise ValueError(
            f"there is no folder {name}; if a repository of the Hugging Face Hub is meant, "
            'install its client first: pip install "depthrank[hub]"'
        ) from error
    shown = name if revision is None else f"{name}@{revision}"
    where = f"there is no folder {name}, and from the Hugging Face Hub {shown} cannot be had"
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME]))
    except errors.GatedRepoError as error:
        raise ValueError(f"{where}: accept its terms on its page first, then log in with `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(f"{where}: no such repository; if it is private, log in with `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{where}: it has no such revision") from error
    except errors.LocalEntryNotFoundError as error:
        raise ValueError(
            f"{where}: the Hub cannot be reached (no network, or HF_HUB_OFFLINE is set) and the cache does not hold it"
        ) from error
    except Exception as error:  # the client lets through whatever its HTTP library raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{where}: {reason}") from error
