"""The server of the demo over real HTTP on loopback."""

import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from launch.cli import run_command
from launch.demo import main as demo
from model import DepthNet, ModelConfig
from pipeline.eval.demo.guard import served_names
from pipeline.eval.demo.upload import Bounds
from pipeline.eval.network import load_network
from pipeline.eval.predict import Predictor
from pipeline.eval.stills import reads_heic

from .demo_server import BYTES, RedIsNear, ask, parsed, post, serving

ROOT = Path(__file__).parents[2]
BYTES_LINE = "Content-Type: application/octet-stream"
FILES = ("/", "/style.css", "/app.js", "/answer.js", "/compare.js", "/view.js", "/icon.svg", "/about", "/example.png")


def picture(size=(90, 50), seed=0, kind="PNG", **options):
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return encoded(pixels, kind, **options)


def encoded(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png():
    """A header that promises 3.6 billion pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"x" * 100


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    torch.manual_seed(0)
    DepthNet.from_config(ModelConfig(encoder="resnet18", decoder_channels=8)).save_pretrained(folder, size_hw=(64, 96))
    return folder


@pytest.fixture(scope="module")
def port():
    with serving(RedIsNear()) as port:
        yield port


@pytest.fixture
def command(run, tmp_path):
    """The real command: its port, its process, and the folder that is its temporary and its current one."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *sys.path]))}
    line = [sys.executable, "-m", "launch.demo", "--checkpoint", str(run), "--port", "0", "--flip", "--device", "cpu"]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            said = process.stdout.readline()
            yield int(re.fullmatch(r"open http://127\.0\.0\.1:(\d+)/ in a browser; Ctrl-C ends it\n", said)[1]), process
        finally:
            process.kill()


@pytest.mark.slow
def test_the_command_predicts_leaves_no_file_and_ends_at_ctrl_c(command, run, tmp_path):
    port, process = command
    data = picture((70, 100), kind="JPEG", quality=95, exif=turned())
    status, answer = post(port, data + b"\0" * 4_000_000)  # what a parser of forms would put into a file
    assert status == 200
    head, jpeg, inverse_depth = parsed(answer)
    assert (head["height"], head["width"]) == (head["picture_height"], head["picture_width"]) == (70, 100)
    with Image.open(io.BytesIO(data)) as image:
        upright = np.ascontiguousarray(np.rot90(np.asarray(image), -1))
    net = load_network(run, "cpu").net
    plain, mirrored = Predictor(net, "cpu")(upright), Predictor(net, "cpu")(np.ascontiguousarray(upright[:, ::-1]))
    expected = (plain + mirrored[:, ::-1]) / 2
    np.testing.assert_allclose(inverse_depth, expected, atol=2e-4 * float(np.ptp(expected)))
    np.testing.assert_allclose([head["p2"], head["p98"]], np.percentile(expected, [2, 98]), rtol=1e-3, atol=1e-4)
    with Image.open(io.BytesIO(jpeg)) as image:
        assert np.abs(np.asarray(image).astype(int) - upright).mean() < 12
        assert not image.getexif()
    assert post(port, b"no picture" * 1000)[0] == 422
    assert list(tmp_path.iterdir()) == []
    opened = [link.readlink() for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert not [path for path in opened if str(path).startswith(str(tmp_path))]
    process.send_signal(signal.SIGINT)
    said, told = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert told.splitlines()[0].startswith(f"weights: {run}; on ")
    assert told.splitlines()[0].endswith("training area · flip")
    assert told.splitlines()[1:] == ["ended"]


def turned():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "home address"
    return exif


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_every_usual_format_is_read_without_a_temporary_file(port, kind, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "which is not there"))
    status, answer = post(port, picture((80, 60), kind=kind) + b"\0" * 2_000_000)
    assert status == 200
    head, _, inverse_depth = parsed(answer)
    assert (head["height"], head["width"]) == inverse_depth.shape == (60, 80)


def test_a_turned_picture_is_answered_upright(port):
    pixels = np.zeros((60, 90, 3), dtype=np.uint8)
    pixels[:, :45] = (200, 0, 0)
    head, jpeg, inverse_depth = parsed(post(port, encoded(pixels, exif=turned()))[1])
    assert (head["picture_height"], head["picture_width"]) == inverse_depth.shape == (90, 60)
    np.testing.assert_allclose(inverse_depth[:40], 200 / 255, atol=0.01)
    np.testing.assert_allclose(inverse_depth[50:], 0, atol=0.01)
    assert b"home address" not in jpeg


def test_a_large_picture_is_shown_smaller_and_a_flat_one_has_no_range(port):
    status, answer = post(port, encoded(np.zeros((1280, 2560, 3))))
    head, jpeg, inverse_depth = parsed(answer)
    assert status == 200
    assert inverse_depth.shape == (640, 1280)
    assert (head["picture_height"], head["picture_width"]) == (1280, 2560)
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.size == (1280, 640)
    head, _, inverse_depth = parsed(post(port, encoded(np.full((40, 50, 3), 100)))[1])
    assert head["p2"] == head["p98"]
    np.testing.assert_allclose(inverse_depth, 100 / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 422, "no picture of a known format"),
        (b"<svg onload=alert(1)></svg>", 422, "no picture of a known format"),
        (b"%PDF-1.7 ...", 422, "no picture of a known format"),
        (picture((300, 200), kind="JPEG")[:900], 422, "truncated"),
        (picture((300, 200))[:900], 422, "this file: "),
        (huge_png(), 422, "this file: "),
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(port, body, status, sentence):
    found, answer = post(port, body)
    assert found == status
    assert sentence in json.loads(answer)["error"]


def test_more_pixels_than_are_taken_are_refused(port):
    buffer = io.BytesIO()
    Image.new("1", (8000, 6400)).save(buffer, "PNG")
    status, answer = post(port, buffer.getvalue())
    assert (status, json.loads(answer)["error"]) == (422, "this file: 8000 x 6400 pixels, more than 51000000")


@pytest.mark.skipif(reads_heic(), reason="the extra heif is installed")
def test_a_heic_is_explained(port):
    status, answer = post(port, b"\0\0\0\x18ftypheic" + b"\0" * 100)
    assert status == 422
    assert 'pip install "depthrank[heif]"' in json.loads(answer)["error"]


def test_forms_and_other_methods_are_refused(port):
    for kind in ("multipart/form-data; boundary=x", "image/png", "text/plain"):
        assert post(port, picture(), {"Content-Type": kind})[0] == 415
    assert ask(port, "GET", "/predict")[0] == 405
    assert ask(port, "PUT", "/")[0] == 405
    for path in ("/index.html.bak", "/../app.py", "/%2e%2e/app.py", "/page/app.js", "//style.css"):
        assert ask(port, "GET", path)[0] == 404


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_file_is_told_even_while_it_is_sent(chunked):
    bounds = Bounds(upload_bytes=2_000_000)
    with serving(RedIsNear(), bounds) as port:
        for size, status in ((2_000_000, 422), (2_000_001, 413), (3_900_000, 413)):
            body = bytes(size)
            parts = (body[start : start + 100_000] for start in range(0, size, 100_000))
            found, answer = post(port, parts if chunked else body)
            assert found == status
        assert json.loads(answer) == {"error": "the file has more than 1.90735 MiB"}


def test_a_picture_that_does_not_arrive_in_time_frees_its_place():
    with serving(RedIsNear(), Bounds(upload_seconds=0.5, places=1)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1000\r\n"
            slow.sendall(f"{head}{BYTES_LINE}\r\n\r\nabc".encode())
            assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert post(port, picture())[0] == 200


class Gate(RedIsNear):
    """Waits inside until it is opened, and counts."""

    def __init__(self):
        super().__init__()
        self.open, self.entered = threading.Event(), threading.Semaphore(0)
        self.inside = self.most_inside = self.calls = 0

    def forward(self, image):
        self.inside += 1
        self.calls += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.entered.release()
        assert self.open.wait(30)
        self.inside -= 1
        return super().forward(image)


def test_of_many_at_once_some_wait_and_the_rest_are_told(tmp_path):
    gate = Gate()
    with serving(gate, Bounds(places=3)) as port:
        answers = []
        waiting = [threading.Thread(target=lambda: answers.append(post(port, picture())[0])) for _ in range(12)]
        for thread in waiting:
            thread.start()
        try:
            assert gate.entered.acquire(timeout=30)
            wait_until(lambda: len(answers) == 9)
            assert answers == [503] * 9
            status, headers, answer = ask(port, "POST", "/predict", picture((900, 800)), BYTES)
            assert (status, headers["Retry-After"]) == (503, "5")
            assert json.loads(answer) == {"error": "too many pictures are waiting; try again in a moment"}
            assert ask(port)[0] == 200, "the page is served while the network computes"
        finally:
            gate.open.set()
            for thread in waiting:
                thread.join(30)
        assert sorted(answers) == [200] * 3 + [503] * 9
        assert (gate.calls, gate.most_inside) == (3, 1)
        assert post(port, picture())[0] == 200


def test_who_leaves_while_waiting_is_not_computed():
    gate = Gate()
    with serving(gate, Bounds(places=2)) as port:
        first = threading.Thread(target=post, args=(port, picture()))
        first.start()
        try:
            assert gate.entered.acquire(timeout=30)
            body = picture()
            head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            with socket.create_connection(("127.0.0.1", port), timeout=20) as leaving:
                leaving.sendall(f"{head}{BYTES_LINE}\r\n\r\n".encode() + body)
                wait_until(lambda: is_full(port))
        finally:
            gate.open.set()
            first.join(30)
        wait_until(lambda: post(port, picture())[0] == 200)
        assert gate.calls == 2


def test_at_the_end_the_picture_at_work_is_finished_and_who_waits_is_told():
    gate = Gate()
    answers = []
    with serving(gate, Bounds(places=3)) as port:
        visitors = [threading.Thread(target=lambda: answers.append(post(port, picture()))) for _ in range(2)]
        visitors[0].start()
        assert gate.entered.acquire(timeout=30)
        visitors[1].start()
        slow = socket.create_connection(("127.0.0.1", port), timeout=20)
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n{BYTES_LINE}\r\n\r\nabc"
        slow.sendall(head.encode())
        wait_until(lambda: is_full(port))
        threading.Thread(target=lambda: (wait_until(lambda: answers), gate.open.set())).start()
    for visitor in visitors:
        visitor.join(20)
    assert answers[0] == (503, b'{"error":"the server is ending"}')
    assert answers[1][0] == 200
    with slow:
        assert slow.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_at_the_end_nobody_waits_for_who_does_not_read_their_answer(monkeypatch):
    monkeypatch.setattr("pipeline.eval.demo.server._PATIENCE_SECONDS", 0.2)
    body = picture((1200, 1200), kind="JPEG", quality=95)
    with socket.socket() as silent, serving(RedIsNear()) as port:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", port))
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{BYTES_LINE}\r\n\r\n"
        silent.sendall(head.encode() + body)
        assert silent.recv(12) == b"HTTP/1.1 200"


def is_full(port):
    """Whether all places are taken; a visitor who sends no picture leaves at once."""
    return post(port, b"", {"Content-Type": "text/plain"})[0] == 503


def wait_until(is_so, seconds=20.0):
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_network_that_diverged_is_told():
    class Diverged(RedIsNear):
        def forward(self, image):
            return super().forward(image) * float("nan")

    with serving(Diverged()) as port:
        status, answer = post(port, picture())
    assert status == 500
    assert "diverged" in json.loads(answer)["error"]


def test_too_little_memory_is_told_on_an_apple_gpu_too():
    class Large(RedIsNear):
        def forward(self, image):
            raise RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB, max allowed: 9.07 GB)")

    with serving(Large()) as port:
        status, answer = post(port, picture())
    assert status == 500
    assert "start with a smaller --long-side" in json.loads(answer)["error"]


def test_only_names_of_this_machine_are_served(port):
    for host in ("127.0.0.1", f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"[::1]:{port}"):
        assert ask(port, headers={"Host": host})[0] == 200
    hosts = ("evil.example", f"evil.example:{port}", "localhost.evil.example", "192.168.0.7", "", "127.0.0.1@evil", "[")
    for host in (*hosts, "localhost:x", "localhost evil.example", "127.0.0.1:1:2"):
        status, _, answer = ask(port, headers={"Host": host})
        assert status in (400, 421)
        assert b"<" not in answer


def test_an_open_server_is_reached_by_number_and_own_names_not_by_others():
    served = served_names("0.0.0.0", ["Demo.example.org"])
    own = socket.gethostname().lower()
    for host in ("192.168.0.7:7860", "[fe80::1]:7860", "demo.example.org", f"{own}:7860", "localhost"):
        assert served.serve(host)
    for host in ("evil.example", "demo.example.org.evil.example", "1.2.3.4.evil.example", "", None, "[evil]"):
        assert not served.serve(host)
    assert not served_names("::1").serve("192.168.0.7")
    assert not served_names("127.0.0.1").serve("10.0.0.1")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_may_not_post(port, headers):
    status, answered, _ = ask(port, "POST", "/predict", picture(), {**BYTES, **headers})
    assert status == 403
    assert not [name for name in answered if name.lower().startswith("access-control")]
    asked = {**headers, "Access-Control-Request-Method": "POST"}
    status, answered, _ = ask(port, "OPTIONS", "/predict", headers=asked)
    assert status == 403
    assert not [name for name in answered if name.lower().startswith("access-control")]


def test_the_page_itself_may_post(port):
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    assert post(port, picture(), {**BYTES, **own})[0] == 200


def test_behind_a_proxy_that_passes_the_host_on_the_page_may_be_https():
    with serving(RedIsNear(), names=["demo.example.org"]) as port:
        headers = {**BYTES, "Host": "demo.example.org", "Origin": "https://demo.example.org"}
        assert post(port, picture(), headers)[0] == 200
        assert post(port, picture(), {**headers, "Origin": "https://evil.example"})[0] == 403


def test_every_answer_forbids_what_the_page_does_not_need(port):
    answers = [ask(port, "GET", path) for path in FILES]
    answers += [ask(port, "GET", "/nothing"), ask(port, headers={"Host": "evil.example"})]
    answers += [ask(port, "POST", "/predict", b"x", BYTES)]
    for _, headers, _ in answers:
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers
    assert [status for status, _, _ in answers] == [200] * len(FILES) + [404, 421, 422]


def test_the_page_loads_nothing_from_elsewhere_and_has_no_script_or_style_inside(port):
    class Page(HTMLParser):
        addresses, open_tags = [], []

        def handle_starttag(self, tag, attrs):
            self.open_tags.append(tag)
            self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
            assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]

    page = Page()
    page.feed(ask(port)[2].decode())
    assert "style" not in page.open_tags
    assert sorted(page.addresses) == ["app.js", "icon.svg", "style.css"]
    for path in FILES[1:6]:
        text = ask(port, path=path)[2].decode()
        assert "//" not in text.replace("// ", "").replace("\n//", ""), path
        assert "innerHTML" not in text


def test_the_facts_say_what_is_taken_and_the_scene_is_a_picture(port):
    facts = json.loads(ask(port, path="/about")[2])
    assert facts["about"] == {"weights": "<b>test</b>"}
    assert (facts["upload_bytes"], facts["upload_pixels"], facts["equal_share"]) == (32 * 1024**2, 51_000_000, 0.02)
    assert np.shape(facts["palette"]) == (256, 3)
    assert post(port, ask(port, path="/example.png")[2])[0] == 200


def test_mistakes_are_one_message(run, tmp_path, capsys, monkeypatch):
    def told(*options):
        code = run_command(demo, ["--checkpoint", str(run), *options])
        said = capsys.readouterr()
        assert (code, said.out) == (2, "")
        return said.err.splitlines()[-1]

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert told("--port", str(port)).startswith(f"error: --host 127.0.0.1 --port {port}: cannot listen there (")
    for name in ("https://demo.example.org", "demo.example.org:443", "a b", ""):
        assert told("--port", "0", "--allow-host", name).startswith(f"error: --allow-host {name}: give a name alone")
    assert told("--port", "70000") == "error: --port must be 0 to 65535, not 70000"
    assert told("--host", "no such host").startswith("error: --host no such host: no such address (")
    assert told("--host", "a" * 70).startswith(f"error: --host {'a' * 70}: no such address (")
    assert "--long-side must be 32 to 4096" in told("--long-side", "7")
    assert "no such folder or file" in told("--port", "0", "--checkpoint", str(tmp_path / "missing"))
    assert "there is no folder owner/name" in told("--port", "0", "--checkpoint", "owner/name")
    monkeypatch.delitem(sys.modules, "pipeline.eval.demo.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert told("--port", "0") == 'error: the page needs uvicorn: pip install "depthrank[demo]"'
