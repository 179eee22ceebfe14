"""Run benchmarks: `python -m tests.bench [NAME ...]`, all without a name.

Each figure is a ratio against a reference measured in the same run. The last line of the output is one line of JSON;
the same is stored in runs/bench/.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

NAMES = ("labels", "degraded", "web", "packing", "order", "loader", "store", "network", "loss", "checkpoint")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="which; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for the records")
    args = parser.parse_args()
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "machine": machine()}
    for name in args.names or NAMES:
        print(f"== {name}", flush=True)
        record[name] = importlib.import_module(f"tests.bench.{name}").run()
    args.out.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record)
    (args.out / f"{'-'.join(args.names) or 'all'}.json").write_text(line + "\n")
    print(line)
    return 0


def commit() -> str:
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} cores"


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
