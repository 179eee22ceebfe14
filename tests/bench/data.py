"""The training stream beside webdataset, mosaicml-streaming, litdata, loose files and the decoder alone.

Each loader runs in a fresh process on the same pictures and pairs; rounds are interleaved and begin with another loader
each, and a ratio is the median of the ratios within a round, so that other work on the machine falls on all of them.
The peers live in an environment of their own.

    make bench-data ARGS="--samples 640 --rounds 2"
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.__main__ import commit, machine
from tests.bench.peers.pictures import make_loose
from tests.bench.peers.repeated import repeat_shards

DECODER = "opencv"  # that of shards.format.decode_jpeg, for those who are to decode as we do
TIMEOUT_S = 600
INDEXED = (1_000, 1_000_000)


class Loader(NamedTuple):
    """One row of the table: a module of `peers`, its arguments, and by how much ours should be faster."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    target: float | None = None


def loaders(decoder: str) -> list[Loader]:
    same = ("--decode", decoder)
    return [
        Loader("ours", "ours"),
        Loader("ours, with crops and flips", "ours", ("--augment",)),
        Loader("ceiling", "ceiling", same, 0.9),
        Loader("ceiling, our shared memory", "ceiling_slots"),
        Loader("webdataset, its decoder", "webdataset_tars", (), 1.4),
        Loader("webdataset, same decoder", "webdataset_tars", same, 1.0),
        Loader("mosaicml-streaming, its decoder", "mosaic", (), 1.4),
        Loader("mosaicml-streaming, same decoder", "mosaic", same, 1.0),
        Loader("litdata, its decoder", "litdata_chunks", (), 1.3),
        Loader("litdata, same decoder", "litdata_chunks", same, 1.0),
        Loader("loose files, Pillow", "loose"),
        Loader("loose files, same decoder", "loose", same, 1.0),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.data", description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--decoder", default=DECODER, help="for `same decoder` and the ceiling")
    parser.add_argument("--only", nargs="*", default=["rate", "resume", "memory"], help="rate, resume, memory")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-data"), help="where the data is made and kept")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for the record")
    parser.add_argument("--peers-python", default=".venv-peers/bin/python")
    args = parser.parse_args()
    if args.samples < 12 * args.batch_size:
        parser.error("--samples: at least 12 batches, as the first and the last ones are not timed")
    args.work = args.work / f"{args.samples}-{args.seed}"
    make_data(args)
    record: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "settings": {name: getattr(args, name) for name in ("samples", "rounds", "workers", "batch_size", "decoder")},
    }
    for name, measure in (("rate", rates), ("resume", resumes), ("memory", memories)):
        if name in args.only:
            record[name] = measure(args)
    args.out.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record)
    (args.out / "data.json").write_text(line + "\n")
    print(line)
    return 0


def make_data(args: argparse.Namespace) -> None:
    """Make the pictures and each loader's own format of them, once; what an interrupted call left is made again."""
    done = args.work / "complete"
    if done.exists():
        return
    print(f"making {args.samples} samples in {args.work}", flush=True)
    shutil.rmtree(args.work, ignore_errors=True)
    make_loose(args.work, args.samples, args.seed)
    for module in dict.fromkeys(loader.module for loader in loaders(args.decoder)):
        call(args, module, "--build")
    for samples in INDEXED:
        repeat_shards(args.work / "shards", args.work / f"shards-{samples}", samples)
    done.touch()


def rates(args: argparse.Namespace) -> dict[str, Any]:
    """Samples a second of each loader, the processor time that one takes, and how much better ours is."""
    table = loaders(args.decoder)
    found: dict[str, list[dict[str, float]]] = {loader.name: [] for loader in table}
    batches = args.samples // args.batch_size
    for number in range(args.rounds):
        first = number * 3 % len(table)
        for loader in table[first:] + table[:first]:
            found[loader.name].append(call(args, loader.module, *loader.arguments, "--batches", str(batches)))
        print(f"round {number + 1} of {args.rounds}", flush=True)
    rows = {}
    print(f"{'':34}{'samples/s':>10}{'range':>12}{'ours is':>9}{'target':>8}{'CPU ms':>8}{'ours is':>9}")
    for loader in table:
        got = {kind: [run[kind] for run in found[loader.name]] for kind in ("samples_per_s", "cpu_ms_per_sample")}
        faster, leaner = (
            statistics.median(
                ours[kind] / other[kind] for ours, other in zip(found["ours"], found[loader.name], strict=True)
            )
            for kind in got
        )
        rate, cpu_ms = got["samples_per_s"], got["cpu_ms_per_sample"]
        print(
            f"{loader.name:34}{statistics.median(rate):10.0f}{f'{min(rate):.0f}-{max(rate):.0f}':>12}{faster:9.2f}"
            f"{loader.target or '':>8}{statistics.median(cpu_ms):8.2f}{1 / leaner:9.2f}"
        )
        rows[loader.name] = {
            "samples_per_s": [round(value, 1) for value in rate],
            "ours_over_it": round(faster, 3),
            "target": loader.target,
            "cpu_ms_per_sample": [round(value, 3) for value in cpu_ms],
            "its_cpu_over_ours": round(1 / leaner, 3),
        }
    return rows


def resumes(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds to the first batch of a run that is new, and of one that stopped after 90 % of an epoch."""
    skip = str(int(0.9 * args.samples / args.batch_size))
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "webdataset_tars": []}
    for _ in range(args.rounds):
        for module, seconds in found.items():
            fresh, resumed = (call(args, module, "--batches", "1", "--skip", n)["first_s"] for n in ("0", skip))
            seconds.append((fresh, resumed))
    rows = {}
    for module, seconds in found.items():
        fresh_s, resumed_s = (statistics.median(column) for column in zip(*seconds, strict=True))
        ratio = statistics.median(resumed / fresh for fresh, resumed in seconds)
        print(f"first batch, {module:18} new {fresh_s:.2f} s  after 90 % {resumed_s:.2f} s  ratio {ratio:.2f}")
        rows[module] = {"new_s": round(fresh_s, 3), "resumed_s": round(resumed_s, 3), "ratio": round(ratio, 3)}
    return rows


def memories(args: argparse.Namespace) -> dict[str, Any]:
    """Megabytes of a worker of ours by the number of indexed samples, and of the peers' workers."""
    wanted = ("--memory", "--batches", str(args.samples // args.batch_size))
    cases = {
        f"ours, {samples:,} indexed": call(args, "ours", *wanted, "--dataset", f"shards-{samples}")
        for samples in INDEXED
    }
    for module in ("webdataset_tars", "mosaic", "litdata_chunks", "loose"):
        cases[module] = call(args, module, *wanted)
    rows = {}
    for name, got in cases.items():
        rows[name] = {kind: max(worker[kind] for worker in got["workers"]) for kind in ("rss", "uss", "dirty")}
        print(f"worker, {name:24} " + "  ".join(f"{kind} {value:.0f} MB" for kind, value in rows[name].items()))
    return rows


def call(args: argparse.Namespace, module: str, *arguments: str) -> dict[str, Any]:
    """Run one loader in a process of its own, and read the line it prints last."""
    python = sys.executable if module in ("ours", "ceiling", "ceiling_slots") else args.peers_python
    common = (f"--work={args.work}", f"--workers={args.workers}", f"--batch-size={args.batch_size}")
    command = [python, "-m", f"tests.bench.peers.{module}", *common, f"--seed={args.seed}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.exit(main())
