"""A network's folder as a repository of the Hugging Face Hub: made if need be, filled in one commit.

    repository = HubRepository("owner/name")
    repository.prepare(private=True)
    url = repository.upload(folder, "DepthRank, step 1200")

As for a folder of an export, nothing is replaced but an earlier network of ours. Only the files of such a folder are
sent, by their names; the client reads its token where `hf auth login` left it, or from HF_TOKEN.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.eval.export_folder import EXPORT_NAMES, is_our_card
from shards.errors import ConfigError, RunError

__all__ = ["HubRepository", "require_repository_name"]

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_HIDDEN = (".gitattributes", ".gitignore")
"""What the Hub itself puts into a new repository."""
_CARD_LIMIT_BYTES = 1 << 20
_SAID_CHARACTERS = 300


def require_repository_name(name: str) -> str:
    """The name of a repository.

    Raises:
        ConfigError: It is not OWNER/NAME.
    """
    if not _NAME.fullmatch(name) or ".." in name or "--" in name or name.endswith((".", "-", ".git")):
        raise ConfigError(
            f"--repo {name}: not the name of a repository; give OWNER/NAME of letters, digits, '-', '_' and '.', OWNER "
            "being your user name on the Hugging Face Hub or an organisation's"
        )
    return name


class HubRepository:
    """One repository of models, seen with the token that the client finds.

    Raises:
        ConfigError: `huggingface_hub` is not installed, or there is no token.
    """

    def __init__(self, name: str) -> None:
        try:
            import huggingface_hub
        except ImportError:
            raise ConfigError(
                'pushing needs the client of the Hugging Face Hub: pip install "depthrank[hub]"'
            ) from None
        self.name = require_repository_name(name)
        token = huggingface_hub.get_token()
        if token is None:
            raise ConfigError(
                "there is no token of the Hugging Face Hub: make one with the right to write on your settings page "
                "there, then `hf auth login`, or put it into the environment as HF_TOKEN"
            )
        self._hub = huggingface_hub
        self._api = huggingface_hub.HfApi(token=token, library_name="depthrank")
        self._stale: list[str] = []

    def prepare(self, *, private: bool) -> bool:
        """Make the repository unless there is one.

        Returns:
            Whether it holds an earlier network, which `upload` replaces.

        Raises:
            RunError: It holds something else, is public where a private one is asked for, or the Hub cannot be
                reached or says no.
        """
        with self._explained("cannot be looked at"):
            self._api.whoami()  # a bad token is told as such here; of a repository the Hub says "not found"
            try:
                found = self._api.model_info(self.name)
            except self._hub.errors.RepositoryNotFoundError:
                found = None
        if found is None:
            with self._explained("cannot be made"):
                self._api.create_repo(self.name, private=private, exist_ok=False)
            return False
        if private and found.private is False:
            raise RunError(
                f"{self.name}: the repository exists and everybody can read it; --private does not hide it. Make it "
                "private on its settings page, choose another --repo, or leave --private out"
            )
        names = sorted(sibling.rfilename for sibling in found.siblings or ())
        present = [name for name in names if name not in _HIDDEN]
        foreign = [name for name in present if name not in EXPORT_NAMES]
        if foreign or (present and not self._has_our_card(present)):
            what = foreign[0] if foreign else present[0]
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise RunError(
                f"{self.name}: the repository exists and holds other things than a network pushed earlier ({what}"
                f"{more}); choose another --repo"
            )
        self._stale = present
        return bool(present)

    def upload(self, folder: Path, message: str) -> str:
        """Send the network in a folder as one commit; what an earlier one has beyond it goes with the same commit.

        Returns:
            The commit's address.

        Raises:
            RunError: The Hub cannot be reached or says no; then the repository is as it was.
        """
        names = [name for name in EXPORT_NAMES if (folder / name).is_file()]
        additions: list[Any] = [self._hub.CommitOperationAdd(name, str(folder / name)) for name in names]
        removals = [self._hub.CommitOperationDelete(name) for name in self._stale if name not in names]
        with self._explained("cannot be written"):
            done = self._api.create_commit(self.name, [*additions, *removals], commit_message=message)
        return str(done.commit_url)

    def _has_our_card(self, names: list[str]) -> bool:
        if EXPORT_NAMES[0] not in names:
            return False
        with self._explained("cannot be looked at"):
            card = Path(self._api.hf_hub_download(self.name, EXPORT_NAMES[0]))
            return card.stat().st_size <= _CARD_LIMIT_BYTES and is_our_card(card)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Whatever the client or its HTTP library raises, as one sentence with what to do."""
        try:
            yield
        except RunError:
            raise
        except self._hub.errors.OfflineModeIsEnabled as error:
            raise RunError(f"{self.name} {what}: HF_HUB_OFFLINE is set; unset it to push") from error
        except self._hub.errors.HfHubHTTPError as error:
            raise RunError(f"{self.name} {what}: {_refusal(error)}") from error
        except ValueError as error:  # the card, which the Hub checks before anything is sent
            raise RunError(f"{self.name} {what}: the Hub refuses it: {_line(error)}") from error
        except Exception as error:  # its HTTP library differs from version to version
            raise RunError(
                f"{self.name} {what}: the Hugging Face Hub cannot be reached ({_line(error)}); with a network, give "
                "the same command again"
            ) from error


def _refusal(error: Any) -> str:
    status = getattr(error.response, "status_code", None)
    said = _line(getattr(error, "server_message", None) or error)
    if status == 401:
        return "the Hub does not know this token; log in again with `hf auth login`, or mend HF_TOKEN"
    if status == 403:
        return f"the token may not do so; use one that may write for this owner, and check the owner's name ({said})"
    return f"the Hub says {said}"


def _line(error: object) -> str:
    return " ".join(str(error).split())[:_SAID_CHARACTERS] or type(error).__name__
