"""A headless Chromium, driven through chromedriver's own HTTP protocol (W3C WebDriver): no package is needed."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def find_browser():
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return (browser, shutil.which("chromedriver")) if browser and shutil.which("chromedriver") else None


class Browser:
    def __init__(self, port, session):
        self._base = f"http://127.0.0.1:{port}/session/{session}"

    def open(self, place):
        url = place if isinstance(place, str) else place.resolve().as_uri()
        call(f"{self._base}/url", {"url": url})

    def resize(self, width, height):
        call(f"{self._base}/window/rect", {"width": width, "height": height})

    def emulate(self, width, height, *, phone=False):
        """A screen of this size, narrower than a window may be; a phone's has touch and no mouse."""
        self._devtools("Emulation.setTouchEmulationEnabled", enabled=phone)
        self._devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )

    def _devtools(self, command, **params):
        return call(f"{self._base}/goog/cdp/execute", {"cmd": command, "params": params})

    def press(self, *keys):
        for key in keys:
            down_up = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
            call(f"{self._base}/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": down_up}]})

    def click(self, css, x_share=0.5, y_share=0.5, to=None, *, kind="mouse"):
        """Click inside an element; with `to` press there and let go at that other share of it. Or `touch` it."""
        box = self.run(
            f"const e = document.querySelector({css!r}); e.scrollIntoView({{block: 'center'}});"
            "const r = e.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]"
        )
        moves = [
            {"type": "pointerMove", "duration": 0, "x": round(box[0] + x * box[2]), "y": round(box[1] + y * box[3])}
            for x, y in [(x_share, y_share), *([to] if to else [])]
        ]
        down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        parts = [moves[0], down, *moves[1:], up]
        pointer = {"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": parts}
        call(f"{self._base}/actions", {"actions": [pointer]})

    def put_file(self, css, path):
        found = call(f"{self._base}/element", {"using": "css selector", "value": css})[_ELEMENT]
        call(f"{self._base}/element/{found}/value", {"text": str(path.resolve())})

    def run(self, script):
        return call(f"{self._base}/execute/sync", {"script": script, "args": []})

    def alert_is_open(self):
        try:
            call(f"{self._base}/alert/text")
        except urllib.error.HTTPError as error:
            if json.load(error)["value"]["error"] != "no such alert":
                raise
            return False
        return True

    def wait_for(self, script, seconds=20.0):
        until = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < until, script
            time.sleep(0.05)
        return value


@contextmanager
def open_browser(found, folder):
    binary, driver = found
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        base = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 20
        while True:
            try:
                call(f"{base}/status")
                break
            except OSError:
                assert time.monotonic() < until, "chromedriver does not answer"
                time.sleep(0.1)
        options = {
            "binary": binary,
            "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}"],
            "prefs": {"download.default_directory": str(folder / "downloads")},
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "unhandledPromptBehavior": "ignore"}
        session = call(f"{base}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        try:
            yield Browser(port, session)
        finally:
            call(f"{base}/session/{session}", method="DELETE")
    finally:
        process.terminate()
        process.wait(timeout=20)


def call(url, body=None, method=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return json.load(answer)["value"]
