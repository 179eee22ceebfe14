import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from model import DepthNet, ModelConfig
from model.hub import network_folder

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROBE = """
import json, sys
from model.hub import network_folder
said = []
for origin in sys.argv[1:]:
    try:
        said.append(str(network_folder(origin)))
    except ValueError as error:
        said.append(f"error: {error}")
print(json.dumps(said))
"""


def ask(*origins: str, code: str = PROBE, **environment: str) -> list[str]:
    """What `network_folder` says in a process of its own, as the Hub's client reads its settings when imported."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", code, *origins],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[str] = json.loads(done.stdout)
    return said


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache as the Hub's client leaves it, with the repository `someone/depth`; and the network in it."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    net = DepthNet.from_config(ModelConfig(encoder="resnet18", encoder_width=8, decoder_channels=8)).eval()
    repository = root / "models--someone--depth"
    net.save_pretrained(repository / "blobs", size_hw=(64, 96))
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    for reference in ("main", "v1"):
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / reference).write_text(COMMIT)
    return root, net


@pytest.mark.parametrize("name", ["redweb", "sgr", "midas"])
def test_a_saved_network_of_every_kind_comes_back(name, tmp_path):
    net = DepthNet.from_config(ModelConfig(name=name, encoder="resnet18", encoder_width=8, decoder_channels=8)).eval()
    net.save_pretrained(tmp_path, size_hw=(32, 64))
    again = DepthNet.from_pretrained(str(tmp_path))
    image = torch.rand(1, 3, 33, 40)
    assert torch.equal(again(image), net(image))
    assert (again.size_hw, again.config) == ((32, 64), net.config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_repository_in_the_cache_is_read_without_a_network(cache):
    root, net = cache
    code = (
        "import json, sys, torch; from model import DepthNet\n"
        "net = DepthNet.from_pretrained('someone/depth@v1')\n"
        "total = net(torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)).sum().item()\n"
        "print(json.dumps([net.size_hw, total]))"
    )
    size_hw, total = ask(code=code, HF_HUB_CACHE=str(root), HF_HUB_OFFLINE="1")
    expected = net(torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)).sum().item()
    assert (tuple(size_hw), total) == (net.size_hw, pytest.approx(expected, rel=1e-4))


def test_what_is_not_in_the_cache_is_named_with_the_reason(cache):
    root, _ = cache
    names = ["someone/depth", f"someone/depth@{COMMIT}", "someone/depth@v2", "someone/else"]
    found, pinned, revision, missing = ask(*names, HF_HUB_CACHE=str(root), HF_HUB_OFFLINE="1")
    assert Path(found).name == Path(pinned).name == COMMIT
    for said, shown in ((revision, "someone/depth@v2"), (missing, "someone/else")):
        assert said.startswith("error: there is no folder someone/")
        assert f"{shown} cannot be had" in said
        assert "HF_HUB_OFFLINE" in said


class _Refusal(BaseHTTPRequestHandler):
    """Answers as the Hub does where a repository or a revision does not exist."""

    def do_GET(self) -> None:
        code, kind = (404, "RevisionNotFound") if "someone%2F" in self.path or "someone/" in self.path else (401, "")
        self.send_response(code)
        self.send_header("X-Error-Code", kind or "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_what_the_hub_refuses_is_told_in_one_line(tmp_path):
    with HTTPServer(("127.0.0.1", 0), _Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        said = ask("someone/depth@v9", "nobody/depth", HF_HUB_CACHE=str(tmp_path), HF_ENDPOINT=endpoint)
        server.shutdown()
    assert "it has no such revision" in said[0]
    assert "no such repository; if it is private, log in" in said[1]
    assert not any("\n" in line for line in said)


def test_without_the_client_the_extra_is_named():
    code = "import sys; sys.modules['huggingface_hub'] = None\n" + PROBE
    (said,) = ask("someone/depth", code=code)
    assert 'pip install "depthrank[hub]"' in said


@pytest.mark.parametrize("origin", ["./a/b", "../a/b", "/a/b", "a", "a/b/c", "a/b ", Path("a/b"), "~/b"])
def test_what_can_only_be_a_path_never_asks_the_hub(origin):
    assert network_folder(origin) == Path(origin)


def test_a_folder_goes_before_a_repository_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "runs" / "web").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert network_folder("runs/web") == Path("runs/web")
