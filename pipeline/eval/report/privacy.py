"""Text of a run as it may stand on a page that is passed on: no credentials, no place on anybody's disk.

public("run=/home/jane/runs/web s3://key:secret@host/web?token=1")    # "run=…/web s3://host/web"
"""

import re

from shards.names import printable

__all__ = ["public"]

_LIMIT = 2000
_FILE_URL = re.compile(r"\b(?:file|local)://")
_USER = re.compile(r"://[^/@\s'\"]*@")
_QUERY = re.compile(r"(://[^\s'\"?]*)\?[^\s'\"]*")
_QUOTED_PATH = re.compile(r"(['\"])((?:[^\s'\"=]*=)?)(?:~[^'\"/\\]*|[A-Za-z]:)?[/\\]([^'\"]*)\1")
_PATH = re.compile(r"(?<![\w.:/\\…~-])(?:~[\w.-]*|[A-Za-z]:)?[/\\](?=[^\s/\\])([^\s'\",:;=()\[\]{}]*)")


def public(value: object) -> str:
    """A value as text that can be shown: URLs without user, password and query, absolute paths by their last part.

    Control characters are escaped, and text beyond 2000 characters is cut. A value that is an absolute path as a whole
    may hold blanks; inside other text a path with blanks is known only where it is quoted.
    """
    text = str(value)
    text = _QUERY.sub(r"\1", _USER.sub("://", _FILE_URL.sub("", text[: 4 * _LIMIT])))
    if re.match(r"(?:~[\w.-]*|[A-Za-z]:)?[/\\][^/\\]", text) and not re.search(r"\s[/\\]|[:;,]\s", text):
        text = _last_part(text)
    else:
        text = _QUOTED_PATH.sub(lambda found: f"{found[1]}{found[2]}{_last_part(found[3])}{found[1]}", text)
        text = _PATH.sub(lambda found: _last_part(found[1]), text)
    text = "\n".join(map(printable, text.split("\n")))
    return text if len(text) <= _LIMIT else f"{text[:_LIMIT]} …"


def _last_part(path: str) -> str:
    return "…/" + re.split(r"[/\\]", path.rstrip("/\\"))[-1]
