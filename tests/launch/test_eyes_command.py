import json

import numpy as np
import pytest
import torch
from PIL import Image

from launch.cli import main
from model import DepthNet, ModelConfig
from shards.decisions import read_decisions
from shards.format import Sample
from shards.images import encode_jpeg
from shards.sources.config import SyntheticSourceConfig
from shards.sources.synthetic import test_scene as rendered_scene
from shards.writer import DatasetWriter


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A finished run that knows nothing, two pairs, and a dataset that left both out and one more besides."""
    folder = tmp_path_factory.mktemp("eyes")
    torch.manual_seed(0)
    net = DepthNet.from_config(ModelConfig(encoder="resnet18", decoder_channels=8))
    net.save_pretrained(folder / "run", size_hw=(64, 96))
    (folder / "pictures").mkdir()
    for index, name in enumerate(("a", "b", "c")):
        scene = rendered_scene(SyntheticSourceConfig(kind="synthetic", height_px=96, width_px=128), index)
        for side, picture in (("L", scene.left), ("R", scene.right)):
            Image.fromarray(picture).save(folder / "pictures" / f"{name}_{side}.png")
    (folder / "pictures" / "b_R.png").write_bytes(b"not a picture")
    with DatasetWriter(str(folder / "set"), shard_bytes=1 << 20, config={}) as writer:
        writer.add("train", Sample("k", encode_jpeg(np.zeros((8, 8, 3), dtype=np.uint8), 90), {}))
        writer.finish({"eyes_undecided": 2, "flat": 1})
    rejects = [("a_L.png", "eyes_undecided"), ("b_L.png", "eyes_undecided"), ("c_L.png", "flat")]
    (folder / "set" / "rejects.jsonl").write_text(
        "".join(json.dumps({"name": name, "reason": reason, "figures": {}}) + "\n" for name, reason in rejects)
    )
    return folder


def run(world, *more, source="source.kind=folder"):
    settings = [source, f"source.path={world / 'pictures'}", f"out={world / 'set'}"]
    return main(["eyes", "--device", "cpu", *more, *settings])


def test_the_undecided_pairs_alone_are_voted_on(world, tmp_path, capsys):
    out = tmp_path / "eyes.json"
    assert run(world, "--checkpoint", str(world / "run"), "--decisions", str(out)) == 0
    said = capsys.readouterr()
    assert "2 undecided pairs" in said.err and "no vote: b_R.png" in said.err
    assert " of 2 pairs decided (" in said.out and "1 unreadable" in said.out
    decisions = read_decisions(str(out))
    assert {entry.name for entry in decisions.decisions} <= {"a_L.png"}
    assert all((entry.by, entry.keep) == ("checkpoint", None) and entry.eyes for entry in decisions.decisions)
    assert decisions.dataset == json.loads((world / "set" / "manifest.json").read_text())["fingerprint"]


def test_an_existing_file_is_not_overwritten(world, tmp_path, capsys):
    out = tmp_path / "eyes.json"
    out.write_text("a person's work")
    assert run(world, "--checkpoint", str(world / "run"), "--decisions", str(out)) == 2
    assert capsys.readouterr().err == f"error: --decisions {out}: there is such a file; name another or remove it\n"
    assert out.read_text() == "a person's work"


def test_mistakes_are_explained(world, tmp_path, capsys):
    out = str(tmp_path / "eyes.json")
    assert run(world) == 2
    assert "--checkpoint PATH and --decisions FILE are needed" in capsys.readouterr().err
    assert run(world, "--checkpoint", str(tmp_path), "--decisions", out) == 2
    assert "holds neither a network" in capsys.readouterr().err
    other = tmp_path / "pictures"
    other.mkdir()
    for side in "LR":
        (other / f"z_{side}.png").write_bytes(b"")
    settings = ["source.kind=folder", f"source.path={other}", f"out={world / 'set'}"]
    assert main(["eyes", "--checkpoint", str(world / "run"), "--decisions", out, *settings]) == 2
    assert "lists 2 undecided pairs, of which the source has 0 (not a_L.png)" in capsys.readouterr().err
