"""Kaggle's service through its own command line, `kaggle` (pip install kaggle), as its documentation describes it.

    client = KaggleClient(); client.push(folder); client.state("me/run"); client.download("me/run", folder, "json$")

The command line says most things in words and ends with code 0 after some errors, so its words are read. They are those
of version 2.2.5 (November 2026) and its documentation; the service itself was not at hand when this was written.
"""

import csv
import io
import re
import shutil
import subprocess
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from shards.errors import ConfigError, RunError

__all__ = ["KaggleClient", "Kernel", "Quota", "Stage"]

MACHINE_SHAPE = "NvidiaTeslaT4"
"""GPU T4 x2 (Kaggle's staff, 2026-09-17)."""
CALL_SECONDS = 1800
STATUS_WORDS = re.compile(r'has status "(?:\w+\.)?(\w+)"')
FAILURE_WORDS = re.compile(r'Failure message: "(.*)"')
PUSHED_WORDS = re.compile(r"Kernel version (\d+) successfully pushed")
ABSENT_WORDS = re.compile(r"\b404\b|not found|cannot access kernel", re.IGNORECASE)


class Stage(Enum):
    """Where the latest version of a notebook is."""

    ABSENT = "there is no such notebook, or it has never run"
    ACTIVE = "queued or running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


STAGES = {
    "queued": Stage.ACTIVE,
    "running": Stage.ACTIVE,
    "cancelrequested": Stage.ACTIVE,
    "complete": Stage.COMPLETE,
    "error": Stage.FAILED,
    "cancelacknowledged": Stage.CANCELLED,
    "newscript": Stage.ABSENT,
}


class Kernel(NamedTuple):
    """The state of a notebook."""

    stage: Stage
    said: str
    """The service's own words, for the user."""


class Quota(NamedTuple):
    """Weekly hours of GPU."""

    hours_left: float
    renewed: str


class KaggleClient:
    """Calls the program `kaggle` on the path."""

    def push(self, folder: Path) -> str:
        """Save a new version of the notebook in `folder` and run it.

        Returns:
            What the service says: number and address of the version.

        Raises:
            RunError: It was refused, or an input was.
        """
        text = self._call("kernels", "push", "-p", str(folder))
        # Refusals, such as too many sessions, end with code 0 as well.
        # The line of success holds the notebook's address, which may say anything.
        lines = [line for line in text.splitlines() if PUSHED_WORDS.search(line) is None]
        refused = [line for line in lines if "error" in line.lower() or "not valid" in line]
        if refused or PUSHED_WORDS.search(text) is None:
            raise RunError(
                f"kaggle kernels push: {' '.join(refused) or text.strip()[:500] or 'said nothing'}. Nothing runs, or "
                "it runs without an input (stop it on the site then); mend that and start again"
            )
        return text.strip().splitlines()[-1]

    def state(self, kernel: str) -> Kernel:
        """How the latest version of a notebook stands.

        Raises:
            RunError: The service cannot be asked, or answers what nobody knows.
        """
        try:
            text = self._call("kernels", "status", kernel)
        except RunError as error:
            said = str(error).replace(kernel.partition("/")[2], "")  # in the command and in addresses
            if ABSENT_WORDS.search(said):
                return Kernel(Stage.ABSENT, str(error))
            raise
        found = STATUS_WORDS.search(text)
        word = "" if found is None else found[1].lower().replace("_", "")
        if word not in STAGES:
            raise RunError(f"kaggle kernels status {kernel}: says {text.strip()[:300]!r}, which is no state known here")
        failure = FAILURE_WORDS.search(text)
        return Kernel(STAGES[word], f"{word}: {failure[1]}" if failure and failure[1] else word)

    def download(self, kernel: str, folder: Path, pattern: str) -> None:
        """Fetch the files of the latest output whose name matches the regular expression `pattern`.

        Raises:
            RunError: The service cannot be asked.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._call("kernels", "output", kernel, "-p", str(folder), "-o", "-q", "--file-pattern", pattern)

    def quota(self) -> Quota | None:
        """What is left of the week; None where this version of the program cannot tell."""
        try:
            text = self._call("quota", "-v")
            for row in csv.DictReader(io.StringIO(text)):
                if row.get("resource") == "GPU":
                    return Quota(float(row["remaining"].rstrip("h")), row.get("refreshAt") or "")
        except (RunError, KeyError, ValueError):
            return None
        return None

    def _call(self, *arguments: str) -> str:
        program = shutil.which("kaggle")
        if program is None:
            raise ConfigError(
                "the program `kaggle` is not installed: pip install kaggle, then put your API token (kaggle.com > "
                "Settings > API) where it looks for it"
            )
        command = f"kaggle {' '.join(arguments)}"
        try:
            done = subprocess.run(
                [program, *arguments], capture_output=True, text=True, timeout=CALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise RunError(f"{command}: no answer after {CALL_SECONDS} s") from error
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip())[:1000]
            raise RunError(f"{command}: {said or f'ended with exit code {done.returncode}'}")
        return done.stdout
