"""A file server with latency, a limit to each connection's rate and faults, for tests and measurements.

with flaky_server(folder, faults=["500", None, "reset"]) as server: server.url; server.told()
python -m tests.data.flaky_server FOLDER LATENCY_S BYTES_PER_S FAULT_SHARE      # prints its port
"""

import contextlib
import json
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULTS = ("500", "reset", "truncated", "short", "slow")
_CHUNK = 1 << 18


class FlakyServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        folder: Path,
        *,
        latency_s: float = 0.0,
        bytes_per_s: float = 0.0,
        faults: Iterable[str | None] = (),
        only: str = ".tar",
        slow_bytes_per_s: float = 400_000,
    ) -> None:
        """`faults` strike the requests for names that end with `only`, one after the other."""
        self.folder, self.latency_s, self.bytes_per_s, self.only = folder, latency_s, bytes_per_s, only
        self.slow_bytes_per_s = slow_bytes_per_s
        self.quit = threading.Event()
        self._faults = iter(faults)
        self._lock = threading.Lock()
        self._open = 0
        self.log: list[tuple[str, str | None, int, bool]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_fault(self, name: str) -> str | None:
        with self._lock:
            return next(self._faults, None) if name.endswith(self.only) else None

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        with self._lock:
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1

    def note(self, name: str, fault: str | None, sent: int, whole: bool) -> None:
        with self._lock:
            self.log.append((name, fault, sent, whole))

    def told(self) -> dict[str, Any]:
        until = time.monotonic() + 5
        while self._open and time.monotonic() < until:
            time.sleep(0.01)
        with self._lock:
            shards = [entry for entry in self.log if entry[0].endswith(self.only)]
        return {
            "requests": len(shards),
            "faults": sum(fault is not None for _, fault, _, _ in shards),
            "whole_bytes": sum(sent for _, _, sent, whole in shards if whole),
            "partial_bytes": sum(sent for _, _, sent, whole in shards if not whole),
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are part of the game


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        if self.path == "/told":
            data = json.dumps(self.server.told()).encode()
            self._head(200, len(data))
            self.wfile.write(data)
            return
        with self.server.asked():
            self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        name = self.path.partition("?")[0].lstrip("/")
        time.sleep(self.server.latency_s)
        path = self.server.folder / name
        if not path.is_file():
            self._head(200 if path.is_dir() else 404, 0)
            return
        size = path.stat().st_size
        if not body:
            self._head(200, size)
            return
        start, end, status = 0, size, 200
        if (wanted := self.headers.get("Range")) is not None:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end, status = int(first), min(size, int(last) + 1 if last else size), 206
        if start >= end > 0:
            self._head(416, 0)
            return
        fault = self.server.next_fault(name)
        sent, length = 0, end - start
        try:
            if fault == "500":
                self._head(500, 0)
                return
            if fault == "404":
                self._head(404, 0)
                return
            told = length // 2 if fault == "short" else length
            stop = length // 2 if fault in ("short", "reset", "truncated") else length
            self._head(status, told)
            slow = fault == "slow"
            rate = self.server.slow_bytes_per_s if slow else self.server.bytes_per_s
            chunk = max(1, min(_CHUNK, int(rate // 20) if rate else _CHUNK))
            began = time.monotonic()
            with path.open("rb") as file:
                file.seek(start)
                while sent < stop and not self.server.quit.is_set():
                    data = file.read(min(chunk, stop - sent))
                    self.wfile.write(data)
                    sent += len(data)
                    if rate:
                        self.server.quit.wait(max(0.0, began + sent / rate - time.monotonic()))
            if fault in ("reset", "truncated"):
                self.close_connection = True
                if fault == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
        finally:
            self.server.note(name, fault, sent, sent == length)

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def flaky_server(folder: Path, **options: Any) -> Iterator[FlakyServer]:
    server = FlakyServer(folder, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.quit.set()
        server.shutdown()
        server.server_close()
        thread.join()


def random_faults(share: float, seed: int = 0) -> Iterator[str | None]:
    rng = random.Random(seed)
    while True:
        yield rng.choice(FAULTS) if rng.random() < share else None


if __name__ == "__main__":
    served = FlakyServer(
        Path(sys.argv[1]),
        latency_s=float(sys.argv[2]),
        bytes_per_s=float(sys.argv[3]),
        faults=random_faults(float(sys.argv[4])),
    )
    sys.stdout.write(f"{served.server_address[1]}\n")
    sys.stdout.flush()
    served.serve_forever()
