"""Packs in a process of its own that kills itself after so many operations, then starts again; run as a script.

    python killed_pack.py CONFIG_JSON LOG [SHARE ...]

An operation is: opening a file below the destination for writing, renaming or removing one, an item prepared, an item
done. The first start is never killed and goes to the destination with `-whole` at the end of its name; each further one
is killed after a share of the first one's operations, until one finishes. Names of prepared items are appended to LOG
before each is begun, but for the first start. Prints a JSON list, one entry a start.
"""

import json
import os
import signal
import sys
import zlib
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path

import numpy as np

from shards.config import PackConfig
from shards.images import encode_jpeg
from shards.pack import pack
from shards.prepare import prepare

_FILE_EVENTS = {"open", "os.rename", "os.remove", "os.truncate"}


def with_preview(prepared):
    """The same with a preview, whether packing already makes one or not."""
    if not prepared.figures:
        return replace(prepared, preview=None)
    noise = zlib.adler32(prepared.item.name.encode()).to_bytes(4, "big") * (3 * 48 * 16 // 4)
    return replace(prepared, preview=encode_jpeg(np.frombuffer(noise, np.uint8).reshape(16, 48, 3), 90))


class Operations:
    def __init__(self, folder, limit):
        self.folder = folder
        self.limit = limit
        self.count = 0

    def audit(self, event, arguments):
        if event in _FILE_EVENTS and isinstance(arguments[0], str) and arguments[0].startswith(self.folder):
            is_reading = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if not is_reading:
                self.step()

    def step(self, *_):
        self.count += 1
        if self.count == self.limit:
            os.kill(os.getpid(), signal.SIGKILL)


class Logging(Executor):
    """Does the work at once and writes down what it prepares."""

    def __init__(self, log, operations):
        self.log = log
        self.operations = operations

    def submit(self, function, /, item, config):
        class Later(Future):
            def result(later, timeout=None):
                if function is not prepare:
                    return function(item, config)
                with self.log.open("a") as file:
                    file.write(f"{item.name}\n")
                self.operations.step()
                return with_preview(prepare(item, config))

        return Later()


def one_start(config, log, limit, answer):
    operations = Operations(config.out, limit)
    sys.addaudithook(operations.audit)
    pack(config, executor=Logging(log, operations), progress=operations.step)
    os.write(answer, json.dumps({"operations": operations.count}).encode())


def main():
    config, log = PackConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2])
    starts = []
    for share in (None, *map(float, sys.argv[3:]), None):
        limit = -1 if share is None else int(share * starts[0]["operations"])
        target = config if starts else config.model_copy(update={"out": f"{config.out}-whole"})
        target_log = log if starts else Path(os.devnull)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                one_start(target, target_log, limit, writer)
            finally:
                sys.stderr.flush()
                os._exit(0 if sys.exc_info()[0] is None else 1)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as pipe:
            answer = json.loads(pipe.read() or b"{}")
        starts.append(answer | {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0})
        if starts[-1]["signal"] == 0 and not answer:
            raise SystemExit("a start failed")
        if len(starts) > 1 and answer:  # finished before its kill
            break
    sys.stdout.write(json.dumps(starts))


if __name__ == "__main__":
    main()
