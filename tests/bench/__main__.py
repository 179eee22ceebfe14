"""Run benchmarks: `python -m tests.bench [NAME ...]`, those of speed without a name.

Each figure is a ratio against a reference measured in the same run. The last line of the output is one line of JSON
with machine, commit, versions and all rows; the same is stored in runs/bench/COMMIT-NAMES.json, for
`python -m tests.bench.compare OLD NEW`. It is written after each benchmark, and one that fails is named and left out:
the others go on, and the exit code is 1.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import traceback
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .rows import Row, table

SPEED = (
    "start",
    "order",
    "loader",
    "store",
    "loss",
    "network",
    "cpu",
    "fed",
    "floors",
    "checkpoint",
    "packing",
    "scale",
)
OTHERS = ("gpu", "labels", "degraded", "web", "match_size", "maps")
PACKAGES = ("torch", "torchvision", "accelerate", "numpy", "opencv-python-headless", "pillow", "webdataset")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which; default: {', '.join(SPEED)}; also {', '.join(OTHERS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for the records")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in SPEED + OTHERS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(SPEED + OTHERS)}")
    record: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions(),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    stored = args.out / f"{record['commit']}-{'-'.join(args.names) or 'all'}.json"
    rows: list[Row] = []
    failed: list[str] = []
    names = args.names or list(SPEED)
    for number, name in enumerate(names, start=1):
        print(f"== {name}", flush=True)
        try:
            module = importlib.import_module(f"tests.bench.{name}")
            record[name] = module.run()
            rows += module.rows(record[name])
        except Exception:
            failed.append(name)
            traceback.print_exc()
            print(f"{name} failed", file=sys.stderr, flush=True)
        record |= {"rows": [row.as_json() for row in rows], "failed": failed, "left": names[number:]}
        stored.write_text(json.dumps(record) + "\n")
    print(f"\n{table(rows)}\n")
    print(json.dumps(record))
    return int(bool(failed))


def commit() -> str:
    """As `compare` looks for it: without the name of a tag."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # there is no git
        return "unknown"
    return asked.stdout.strip() or "unknown"


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def machine() -> str:
    """Processor, cores and GPU; neither its name nor any path."""
    model = next(
        (line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} cores, {_gpu()}"


def _version(package: str) -> str:
    """Of a package that is installed under its usual name; images bring some, such as OpenCV, under another."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
