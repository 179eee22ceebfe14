"""The review page: a folder that a browser opens from the disk, for a person's eye on every pair.

It needs no network and no server: `index.html`, its style and scripts, `data.js` (the verdicts and figures) and a strip
for each pair under `images/`. Names and figures reach the page as text only. What a person decides there is downloaded
as a decisions file (`shards.decisions`), an input of the next packing.

Usage:

    summary = write_review(Path("review-web"), "web", fingerprint, read_previews(url), QualityConfig().model_dump())
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from shards.doubt import doubt_of
from shards.errors import RunError
from shards.names import printable
from shards.review_entries import Entry, flat_figures

__all__ = ["ReviewSummary", "write_review"]

_SCRIPTS_AND_STYLE = ("style.css", "decisions.js", "selection.js", "tile.js", "app.js")
_PAGE = "index.html"
_DATA = "data.js"
_MARK = b"/* DepthRank review page */"
_IMAGE = re.compile(r"\d{6,}\.jpg")


@dataclass
class ReviewSummary:
    """What a page shows.

    Args:
        page: The file to open.
        accepted: Pairs that are in the dataset.
        rejected: Pairs that are not, by reason.
        without_picture: Pairs that have no strip.
    """

    page: Path
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    without_picture: int = 0


def write_review(
    out: Path, title: str, fingerprint: str, entries: Iterable[Entry], thresholds: Mapping[str, Any]
) -> ReviewSummary:
    """Write the page of a dataset.

    Args:
        out: Folder; made where it is missing. A review page in it is replaced, anything else is refused.
        title: What the page calls the dataset.
        fingerprint: Of the dataset; the browser keeps undelivered decisions under it.
        entries: Pairs in their order.
        thresholds: `QualityConfig` as a mapping, for the doubt (`shards.doubt`).

    Raises:
        RunError: The folder holds something else or cannot be written.
        ShardError: From the entries, where the dataset is damaged.
    """
    summary = ReviewSummary(out / _PAGE)
    images = out / "images"
    try:
        _refuse_other_content(out)
        out.mkdir(parents=True, exist_ok=True)
        summary.page.unlink(missing_ok=True)  # it comes last: what is half written shall not look finished
        source = files("shards") / "review_page"
        for name in _SCRIPTS_AND_STYLE:
            (out / name).write_bytes((source / name).read_bytes())
        images.mkdir(exist_ok=True)
        records = []
        for number, entry in enumerate(entries):
            records.append(_record(entry, number, thresholds))
            if entry.reason is None:
                summary.accepted += 1
            else:
                summary.rejected[entry.reason] += 1
            if entry.strip is None:
                summary.without_picture += 1
            else:
                (images / _image_name(number)).write_bytes(entry.strip)
        for image in images.iterdir():  # those of a former page that had more
            if _IMAGE.fullmatch(image.name) and int(image.stem) >= len(records):
                image.unlink()
        (out / _DATA).write_text(_data_script(title, fingerprint, records), encoding="ascii")
        summary.page.write_bytes((source / _PAGE).read_bytes())
    except OSError as error:
        raise RunError(f"{error.filename or out}: cannot write the review page: {error.strerror or error}") from error
    return summary


def _refuse_other_content(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: a file is in the way; name another folder with --out")
    style = out / _SCRIPTS_AND_STYLE[0]  # the first that is written
    if out.is_dir() and any(out.iterdir()) and not (style.is_file() and style.read_bytes().startswith(_MARK)):
        raise RunError(f"{out}: holds something that is no review page; name another folder with --out")


def _image_name(number: int) -> str:
    return f"{number:06d}.jpg"


def _record(entry: Entry, number: int, thresholds: Mapping[str, Any]) -> dict[str, Any]:
    doubt = doubt_of(entry.reason, entry.figures, thresholds)
    record: dict[str, Any] = {
        "name": entry.name,
        "split": entry.split,
        "reason": entry.reason,
        "eyes": entry.eyes,
        "doubt": round(doubt.score, 4),
        "why": doubt.why,
        "figures": flat_figures(entry.figures),
    }
    if entry.strip is not None:
        record |= {"image": f"images/{_image_name(number)}", "strip_hw": list(entry.strip_hw)}
    return record


def _data_script(title: str, fingerprint: str, records: list[dict[str, Any]]) -> str:
    """The records as a script, because a page on the disk may not fetch; `<` is escaped, non-ASCII too."""
    head = {"title": printable(title), "dataset": fingerprint}
    lines = ",\n".join(json.dumps(record, ensure_ascii=True, allow_nan=False) for record in records)
    text = f'{json.dumps(head, ensure_ascii=True)[:-1]}, "pairs": [\n{lines}\n]}}'
    return f"globalThis.depthrankReview = {text.replace('<', chr(92) + 'u003c')};\n"
