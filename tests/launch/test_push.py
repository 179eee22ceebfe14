"""`launch.push` against a Hub on this machine, in a process whose client was imported with its address."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch import export, push, shards, train
from launch.cli import run_command

from .fake_hub import FakeHub, Repository, fake_hub
from .test_export import RECIPE, assert_nothing_private

ROOT = Path(__file__).parents[2]
NAMES = ["README.md", "config.json", "model.safetensors"]
DRIVER = """
import contextlib, io, json, os, sys
from launch import push
from launch.cli import run_command
from model import DepthNet
for line in sys.stdin:
    asked = json.loads(line)
    os.environ.update(asked["environment"])
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if asked["load"]:
            print(DepthNet.from_pretrained(asked["load"]).size_hw)
            code = 0
        else:
            code = run_command(push.main, asked["arguments"])
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class Client:
    """A process that pushes, again and again."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {"HF_HOME": str(folder), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __call__(self, *arguments: object, load: str = "", token: str = "hf_writes") -> tuple[int, str, str]:
        assert self.process.stdin and self.process.stdout
        asked: dict[str, Any] = {"arguments": list(map(str, arguments)), "environment": {"HF_TOKEN": token}}
        self.process.stdin.write(json.dumps(asked | {"load": load}) + "\n")
        self.process.stdin.flush()
        code, out, err = json.loads(self.process.stdout.readline())
        return code, out, err


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with the finished run of a few steps."""
    root = tmp_path_factory.mktemp("private-place")
    (root / "recipe.yaml").write_text(RECIPE.format(root=root))
    for command in (shards, train):
        assert run_command(command.main, ["--config", f"{root}/recipe.yaml"]) == 0
    return root


@pytest.fixture(scope="module")
def hub():
    with fake_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    client = Client(tmp_path_factory.mktemp("hf-home"), hub.url)
    yield client
    client.process.stdin.close()
    client.process.stdout.close()
    client.process.wait(30)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def published(hub: FakeHub, name: str) -> dict[str, bytes]:
    return {file: data for file, data in hub.repositories[name].files.items() if not file.startswith(".")}


def test_a_run_is_published_whole_and_read_back(root, hub, client, tmp_path):
    code, out, err = client("--checkpoint", root / "run", "--repo", "owner/web", "--license", "mit", "--private")
    assert code == 0, err
    assert "sending to owner/web, under the licence mit" in out
    assert f"{hub.url}/owner/web/commit/{hub.repositories['owner/web'].commit}" in out
    assert hub.repositories["owner/web"].private
    # The same as an export, which tests of its own look at.
    assert (
        run_command(export.main, ["--checkpoint", f"{root}/run", "--out", f"{tmp_path}/out", "--license", "mit"]) == 0
    )
    assert published(hub, "owner/web") == files_in(tmp_path / "out")
    assert client(load="owner/web") == (0, "(32, 32)\n", "")
    assert hub.repositories["owner/web"].messages == ["DepthRank: redweb, resnet18"]

    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "requests").write_bytes(b"\n".join(hub.received))
    assert_nothing_private(tmp_path / "sent", root, tmp_path, ROOT, "hf_writes")

    # Again, with other weights and without ONNX that an earlier push has left.
    hub.repositories["owner/web"].files["model.onnx"] = b"of the earlier weights"
    earlier = root / "run" / "checkpoints" / "step_00000002"
    code, out, err = client("--checkpoint", earlier, "--repo", "owner/web", "--license", "mit", "--private")
    assert code == 0, err
    assert "replaces the network pushed earlier" in err
    assert sorted(published(hub, "owner/web")) == NAMES
    assert b"The weights are those of step 2." in published(hub, "owner/web")["README.md"]


def test_an_export_is_sent_as_it_is_with_what_a_person_wrote(root, hub, client, tmp_path):
    out = tmp_path / "out"
    assert run_command(export.main, ["--checkpoint", f"{root}/run", "--out", str(out), "--license", "cc-by-4.0"]) == 0
    (out / "README.md").write_text((out / "README.md").read_text() + "\nTrained on my own pictures.\n")
    (out / ".notes").write_text("mine")
    (out / "notes.txt").write_text("mine")
    code, _, err = client("--checkpoint", out, "--repo", "owner/export")
    assert code == 0, err
    assert sorted(published(hub, "owner/export")) == NAMES
    assert published(hub, "owner/export") == {name: (out / name).read_bytes() for name in NAMES}
    assert not hub.repositories["owner/export"].private


@pytest.mark.parametrize(
    ("repository", "arguments", "token", "message"),
    [
        (None, ["--repo", "owner/new"], "", "no token of the Hugging Face Hub"),
        (None, ["--repo", "owner/new"], "hf_wrong", "the Hub does not know this token"),
        (None, ["--repo", "owner/new"], "hf_reads", "cannot be made: the token may not do so"),
        (None, ["--repo", "somebody/new"], "hf_writes", "cannot be made: the token may not do so"),
        (Repository(files={"pytorch_model.bin": b""}), [], "hf_writes", "other things than a network pushed earlier"),
        (Repository(files={"README.md": b"# Mine"}), [], "hf_writes", "other things than a network pushed earlier"),
        (Repository(private=True), ["--license", "made-up-1.0"], "hf_writes", "the Hub refuses it: Invalid metadata"),
        (Repository(), ["--private"], "hf_writes", "everybody can read it; --private does not hide it"),
    ],
)
def test_what_cannot_be_pushed_is_one_line_and_changes_nothing(
    root, hub, client, repository, arguments, token, message
):
    if repository is not None:
        hub.repositories["owner/there"] = repository
        arguments = ["--repo", "owner/there", *arguments]
    before = {name: dict(found.files) for name, found in hub.repositories.items()}
    code, _, err = client("--checkpoint", root / "run", "--license", "mit", *arguments, token=token)
    assert code == 2
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert {name: found.files for name, found in hub.repositories.items()} == before


@pytest.mark.slow
def test_no_network_is_told(root, tmp_path):
    client = Client(tmp_path, "http://127.0.0.1:9")
    code, _, err = client("--checkpoint", root / "run", "--repo", "owner/web", "--license", "mit")
    client.process.communicate()
    assert code == 2
    assert "owner/web cannot be looked at: the Hugging Face Hub cannot be reached" in err


def push_here(*arguments: object) -> int:
    return run_command(push.main, list(map(str, arguments)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repo", "web"], "--repo web: not the name of a repository; give OWNER/NAME"),
        (["--repo", "owner/../x"], "not the name of a repository"),
        (["--repo", "owner/web"], "give --license ID"),
        (["--repo", "owner/web", "--license", "unknown"], "give --license ID"),
        (["--repo", "owner/web", "--license", "My own!", "--dry-run"], "'My own!' is no identifier of a licence"),
        (["--repo", "owner/web", "--license", "mit", "--dry-run", "--checkpoint", "/nowhere"], "no such folder"),
    ],
)
def test_mistakes_need_no_hub(root, capsys, arguments, message):
    assert push_here("--checkpoint", root / "run", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and message in printed.err


def test_the_licence_of_an_export_is_that_of_its_card(root, tmp_path, capsys):
    for license_id in ("unknown", "mit"):
        out = str(tmp_path / license_id)
        assert run_command(export.main, ["--checkpoint", f"{root}/run", "--out", out, "--license", license_id]) == 0
    capsys.readouterr()
    assert push_here("--checkpoint", tmp_path / "unknown", "--repo", "a/b", "--license", "mit", "--dry-run") == 2
    assert "states none: export again with --license ID" in capsys.readouterr().err
    assert push_here("--checkpoint", tmp_path / "mit", "--repo", "a/b", "--license", "cc0-1.0", "--dry-run") == 2
    assert "says mit" in capsys.readouterr().err
    assert push_here("--checkpoint", tmp_path / "mit", "--repo", "a/b", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "a/b would get, under the licence mit" in printed
    assert (tmp_path / "mit" / "README.md").read_text() in printed


def test_without_the_client_it_is_named(root, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert push_here("--checkpoint", root / "run", "--repo", "a/b", "--license", "mit") == 2
    assert 'pip install "depthrank[hub]"' in capsys.readouterr().err
