"""The page of the demo, served for tests by a thread of this process."""

import http.client
import json
import socket
import struct
import threading
from contextlib import contextmanager

import numpy as np
from torch import nn

from pipeline.eval.demo.app import demo_app
from pipeline.eval.demo.guard import served_names
from pipeline.eval.demo.server import DemoServer
from pipeline.eval.demo.upload import Bounds
from pipeline.eval.predict import Predictor

BYTES = {"Content-Type": "application/octet-stream"}


class RedIsNear(nn.Module):
    """Inverse depth is the red of a pixel: what the page must say is plain."""

    size_hw = (64, 96)

    def forward(self, image):
        return image[:, 0].float() / 255


@contextmanager
def serving(net, bounds=Bounds(), names=()):  # noqa: B008 - frozen
    demo = demo_app(Predictor(net, "cpu"), {"weights": "<b>test</b>"}, served_names("127.0.0.1", names), bounds)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = DemoServer(demo)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def ask(port, method="GET", path="/", body=None, headers=None):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def post(port, body, headers=BYTES):
    status, _, answer = ask(port, "POST", "/predict", body, headers)
    return status, answer


def parsed(answer):
    """Head, JPEG and inverse depth of an answer."""
    (length,) = struct.unpack_from("<I", answer)
    head = json.loads(answer[4 : 4 + length])
    end = 4 + length + head["picture_bytes"]
    coded = np.frombuffer(answer[end:], dtype="<u2").reshape(head["height"], head["width"])
    return head, answer[4 + length : end], head["least"] + coded / 65535 * (head["greatest"] - head["least"])
