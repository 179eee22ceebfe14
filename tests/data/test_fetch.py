import contextlib
import errno
import hashlib
import http.server
import itertools
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import fetch
from pipeline.data.fetch import FetchCounts, Pace, fetch_file
from shards.errors import ShardError
from shards.retry import ShortBodyError, is_transient, with_retries
from shards.storage import read_bytes

from .flaky_server import FAULTS, flaky_server

aiohttp = pytest.importorskip("aiohttp", reason='http needs: pip install "depthrank[http]"')
RANGE = 1000
CONTENT = np.random.default_rng(0).bytes(10 * RANGE + 77)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RANGE_BYTES", RANGE)
    monkeypatch.setattr(Pace, "_LEAST_SECONDS", 0.3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "x.tar").write_bytes(CONTENT)
    return tmp_path / "served"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def fetched(url: str, target: int, *, seconds: float = 20, sha256: str = SHA256, size: int = len(CONTENT)):
    counts = FetchCounts()
    fetch_file(url, size, sha256, target, until=time.monotonic() + seconds, pace=Pace(), counts=counts)
    assert os.pread(target, 1 << 20, 0) == CONTENT
    return counts


@pytest.mark.parametrize("fault", [*FAULTS, None])
def test_each_kind_of_fault_is_survived_and_counted(folder: Path, target: int, fault: str | None) -> None:
    with flaky_server(folder, faults=[None, None, fault, None, fault], bytes_per_s=1e6) as server:
        counts = fetched(f"{server.url}/x.tar", target)
        told = server.told()
    assert counts.bytes == len(CONTENT) and counts.files == 1
    faults = 0 if fault in (None, "slow") else 2  # 400 kB/s is slow, but no fault
    assert counts.faults >= faults  # on a busy machine an answer may also be given up as too slow
    assert told["whole_bytes"] >= len(CONTENT)


def test_a_hanging_answer_is_asked_for_again_elsewhere(folder: Path, target: int) -> None:
    with flaky_server(folder, faults=[None] * 9 + ["slow"], slow_bytes_per_s=10) as server:
        began = time.monotonic()
        counts = fetched(f"{server.url}/x.tar", target)
        assert time.monotonic() - began < 30  # of 100 s
        server.quit.set()
    assert counts.faults >= 1


def test_a_missing_file_is_not_asked_for_again(folder: Path, target: int) -> None:
    with flaky_server(folder) as server, pytest.raises(ShardError, match="there is no such file"):
        fetched(f"{server.url}/y.tar", target)
    with flaky_server(folder, faults=["404"] * 100) as server:
        with pytest.raises(ShardError, match="there is no such file"):
            fetched(f"{server.url}/x.tar", target)
        assert server.told()["requests"] == 1  # the others wait for the first


def test_faults_that_stay_end_at_the_deadline_with_their_reason(folder: Path, target: int) -> None:
    with flaky_server(folder, faults=["500"] * 10**6) as server:
        began = time.monotonic()
        with pytest.raises(ShardError, match=r"x\.tar: cannot fetch it: .*(500|Internal)"):
            fetched(f"{server.url}/x.tar?token=secret", target, seconds=1)
        assert time.monotonic() - began < 10
        assert server.told()["requests"] > 2


def test_the_deadline_holds_for_a_server_that_fails_fast_and_then_hangs(folder: Path, target: int) -> None:
    with flaky_server(folder, faults=["500"] * 4 + ["slow"] * 100, slow_bytes_per_s=10) as server:
        began = time.monotonic()
        with pytest.raises(ShardError, match="cannot fetch it"):
            fetched(f"{server.url}/x.tar", target, seconds=4)
        assert time.monotonic() - began < 20  # after four faults the patience was 320 s
        server.quit.set()


def test_when_one_range_has_failed_the_others_are_not_tried_again(folder: Path, target: int) -> None:
    with flaky_server(folder, faults=itertools.chain([None], itertools.cycle(["404", "500"]))) as server:
        with pytest.raises(ShardError, match="there is no such file"):
            fetched(f"{server.url}/x.tar", target, seconds=600)
        end = time.monotonic() + 10
        while any(thread.name == "fetch-range" for thread in threading.enumerate()):
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_stop_ends_the_waiting_between_attempts(folder: Path, target: int) -> None:
    stop = threading.Event()
    counts = FetchCounts()
    with flaky_server(folder, faults=itertools.repeat("500")) as server:
        threading.Timer(1.0, stop.set).start()
        began = time.monotonic()
        url, until = f"{server.url}/x.tar", began + 600
        with pytest.raises(ShardError, match="cannot fetch it"):
            fetch_file(url, len(CONTENT), SHA256, target, until=until, pace=Pace(), counts=counts, stop=stop)
        assert 0.9 < time.monotonic() - began < 20  # of 600


def test_a_server_without_ranges_is_refused_at_little_cost(target: int) -> None:
    sent = 0

    class Whole(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal sent
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 28))
            self.end_headers()
            with contextlib.suppress(OSError):
                while sent < 1 << 28:
                    sent += self.wfile.write(bytes(1 << 20))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Whole) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        with pytest.raises(ShardError, match="answers a request for a part with the whole"):
            fetched(f"http://127.0.0.1:{server.server_address[1]}/x.tar", target, size=20 * RANGE)
        server.shutdown()
    assert sent < 64 << 20  # what the sockets hold


def test_another_file_of_the_name_is_refused_by_size_and_by_digest(folder: Path, target: int) -> None:
    with flaky_server(folder) as server:
        url = f"{server.url}/x.tar"
        for size in (len(CONTENT) + 1, len(CONTENT) + RANGE):
            with pytest.raises(ShardError, match=r"x\.tar"):
                fetched(url, target, size=size)
        before = server.told()["whole_bytes"]
        with pytest.raises(ShardError, match=r"not the file that its manifest lists.*2 downloads"):
            fetched(url, target, sha256="0" * 64)
        assert server.told()["whole_bytes"] - before >= 2 * len(CONTENT)


def test_a_digest_that_was_wrong_once_is_fetched_again(folder: Path, target: int) -> None:
    wrong = CONTENT[:5000] + b"?" + CONTENT[5001:]
    (folder / "x.tar").write_bytes(wrong)

    def mended_later() -> Iterator[str | None]:
        yield from [None] * 11  # one download
        (folder / "new").write_bytes(CONTENT)
        (folder / "new").replace(folder / "x.tar")

    with flaky_server(folder, faults=mended_later()) as server:
        assert fetched(f"{server.url}/x.tar", target).faults == 1


def test_a_small_file_survives_faults_too(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"{}")
    with flaky_server(folder, faults=["500", "reset", "500"], only=".json") as server:
        assert read_bytes(f"{server.url}/manifest.json", 100) == b"{}"
        assert server.told()["requests"] == 4
        with pytest.raises(ShardError, match="no such file"):
            read_bytes(f"{server.url}/gone.json", 100)


class Status(Exception):
    def __init__(self, status: object) -> None:
        super().__init__("from a server")
        self.status = status


class BotoError(Exception):
    response = {"ResponseMetadata": {"HTTPStatusCode": 503}}


class DriverPayloadError(type("ClientPayloadError", (Exception,), {})):
    pass


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (Status(500), True),
        (Status(429), True),
        (Status(403), False),
        (Status(404), False),
        (Status(416), False),
        (BotoError(), True),
        (DriverPayloadError(), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (socket.gaierror(socket.EAI_AGAIN, "x"), True),
        (socket.gaierror(socket.EAI_NONAME, "x"), False),
        (OSError(errno.ECONNREFUSED, "x"), True),
        (OSError(errno.ENOSPC, "x"), False),
        (ShortBodyError(), True),
        (FileNotFoundError(), False),
        (caused(FileNotFoundError(), Status(500)), True),
        (caused(FileNotFoundError(), Status(404)), False),
        (PermissionError(), False),
        (ssl.SSLCertVerificationError(), False),
        (ValueError(), False),
        (KeyError(), False),
    ],
)
def test_which_faults_pass(error: Exception, passes: bool) -> None:
    assert is_transient(error) == passes


def test_retries_wait_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []

    def fail(attempt: int) -> None:
        attempts.append(attempt)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        with_retries(fail, until=0)  # long ago: one attempt all the same
    assert attempts == [0]
    began = time.monotonic()
    with pytest.raises(ConnectionResetError):
        with_retries(fail, until=began + 1.0)
    assert time.monotonic() - began < 1.2
    assert 2 <= len(attempts) < 200
    stop = threading.Event()
    stop.set()
    before = len(attempts)
    with pytest.raises(ConnectionResetError):
        with_retries(fail, until=time.monotonic() + 100, stop=stop)
    assert len(attempts) == before + 1


def test_patience_follows_the_rate_and_doubles_up_to_the_deadline() -> None:
    pace = Pace()
    assert pace.patience_seconds(1000, 0, 100) == 20
    assert pace.patience_seconds(1000, 5, 100) == 100
    assert pace.patience_seconds(1000, 5, -1) == Pace._LEAST_SECONDS
    pace.learn(1000, 1.0)
    assert pace.patience_seconds(2000, 0, 100) == pytest.approx(8)
    assert pace.patience_seconds(2000, 3, 100) == pytest.approx(64)
    assert pace.patience_seconds(2000, 3, 30) == pytest.approx(30)
    assert pace.patience_seconds(2000, 3, -1) == pytest.approx(8)  # a slow network is not a fault
    for _ in range(100):
        pace.learn(1000, 0.001)
    assert pace.patience_seconds(1000, 0, 100) == Pace._LEAST_SECONDS
