"""Compare two runs of the benchmarks: which ratio got worse by more than a tenth?

    make bench-compare OLD=main NEW=HEAD NAMES="loader loss"
    python -m tests.bench.compare runs/bench/1a2b3c4-all.json runs/bench/5d6e7f8-all.json

OLD and NEW are records or commits. Of a commit the stored record is taken, else its benchmarks are run in a worktree of
their own. Ratios are compared and not the figures, so that a slow hour of the machine does not count. Exit code 1: one
is worse; 2: there is nothing to compare.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from .rows import Row

ALLOWED = 0.1
"""Share by which a ratio may get worse."""


class Change(NamedTuple):
    """One row in both runs."""

    name: str
    old: float
    new: float
    gain: float
    """New beside old, above 1 where it is better, whichever way is better."""

    @property
    def is_worse(self) -> bool:
        """Whether more than the allowed share is lost."""
        return self.gain < 1 - ALLOWED


class Comparison(NamedTuple):
    """Rows of both runs, and the names of those that only one has."""

    changes: list[Change]
    gone: list[str]
    added: list[str]


def compare(old: list[Row], new: list[Row]) -> Comparison:
    """Match rows by name.

    Raises:
        ValueError: A name occurs twice, or a row changed its meaning: other unit, reference or direction.
    """
    before, after = _by_name(old), _by_name(new)
    changes = []
    for name in (name for name in before if name in after):
        was, now = before[name], after[name]
        if (was.unit, was.reference, was.better) != (now.unit, now.reference, now.better):
            raise ValueError(f"{name}: another unit, reference or direction than before; it needs another name")
        changes.append(Change(name, was.ratio, now.ratio, _gain(was.ratio, now.ratio, now.better)))
    return Comparison(
        changes, [name for name in before if name not in after], [name for name in after if name not in before]
    )


def report(comparison: Comparison) -> str:
    """The table, the worst first, and what could not be compared."""
    lines = ["| ratio | old | new | new / old, better above 1 | |", "|---|---|---|---|---|"]
    for change in sorted(comparison.changes, key=lambda change: change.gain):
        verdict = "WORSE" if change.is_worse else ""
        lines.append(f"| {change.name} | {change.old:.3g} | {change.new:.3g} | {change.gain:.2f} | {verdict} |")
    lines += [f"only in the old record: {name}" for name in comparison.gone]
    lines += [f"only in the new record: {name}" for name in comparison.added]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", help="record, or commit")
    parser.add_argument("new", help="record, or commit")
    parser.add_argument("names", nargs="*", help="what to run where a commit has no record; default: all of speed")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of the records")
    args = parser.parse_args(argv)
    try:
        old, new = (read(find(what, args.names, args.out)) for what in (args.old, args.new))
        comparison = compare(rows_of(old), rows_of(new))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not comparison.changes:
        print("error: the two have no row in common", file=sys.stderr)
        return 2
    for word in ("machine", "versions"):
        if old.get(word) != new.get(word):
            print(f"note: {word}: {old.get(word)} before, {new.get(word)} now")
    print(report(comparison))
    return int(any(change.is_worse for change in comparison.changes))


def find(what: str, names: list[str], out: Path) -> Path:
    """The record that a word means: a file, a stored one of that commit, or one that is made now.

    Raises:
        ValueError: It is neither a file nor a commit, or its benchmarks failed.
    """
    if Path(what).is_file():
        return Path(what)
    command = ["git", "rev-parse", "--verify", "--short", f"{what}^{{commit}}"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise ValueError(f"{what} is neither a file nor a commit")
    commit = asked.stdout.strip()
    stored = out / f"{commit}-{'-'.join(names) or 'all'}.json"
    if not stored.exists():
        print(f"no {stored}: running the benchmarks of {commit}", flush=True)
        make_record(commit, names, stored)
    return stored


def read(path: Path) -> dict[str, Any]:
    """A stored record."""
    record: dict[str, Any] = json.loads(path.read_text())
    if "rows" not in record:
        raise ValueError(f"{path}: a record without rows, of an older version")
    missing = [*record.get("failed", []), *record.get("left", [])]
    if missing:
        raise ValueError(f"{path}: not measured: {', '.join(missing)}; delete it to measure that commit again")
    return record


def rows_of(record: dict[str, Any]) -> list[Row]:
    """Its rows."""
    return [Row.from_json(block) for block in record["rows"]]


def make_record(commit: str, names: list[str], stored: Path) -> None:
    """Run the benchmarks of a commit in a worktree of its own.

    Raises:
        ValueError: It cannot be checked out, or a benchmark failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        command = ["git", "worktree", "add", "--quiet", "--detach", str(tree), commit]
        if subprocess.run(command, check=False).returncode:
            raise ValueError(f"git made no worktree of {commit}")
        try:
            command = [sys.executable, "-m", "tests.bench", *names, "--out", str(Path(folder, "records"))]
            # The commit's own packages must win over those that are installed.
            done = subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=False)
            if done.returncode:
                raise ValueError(f"the benchmarks of {commit} ended with exit code {done.returncode}")
            (made,) = Path(folder, "records").iterdir()
            stored.parent.mkdir(parents=True, exist_ok=True)
            stored.write_text(made.read_text())
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], check=False)


def _gain(old: float, new: float, better: str) -> float:
    if old == new:
        return 1.0
    good, bad = (new, old) if better == "higher" else (old, new)
    return good / bad if bad else float("inf")


def _by_name(rows: list[Row]) -> dict[str, Row]:
    found = {row.name: row for row in rows}
    if len(found) < len(rows):
        names = [row.name for row in rows]
        raise ValueError(f"two rows of one name: {next(name for name in names if names.count(name) > 1)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
